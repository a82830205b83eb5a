-- Catalog: categories, listings, and each per_call listing's private endpoint.

create table category (
    id uuid primary key,
    name text not null,
    slug text not null constraint category_slug_once unique,
    description text not null
);
insert into category (id, name, slug, description) values
    ('0190a000-0000-7000-8000-000000000001', 'Data', 'data', 'Datasets, feeds, look-ups and enrichment.'),
    ('0190a000-0000-7000-8000-000000000002', 'Search', 'search', 'Web, document and vector search.'),
    ('0190a000-0000-7000-8000-000000000003', 'Language', 'language', 'Writing, translation, summaries and extraction.'),
    ('0190a000-0000-7000-8000-000000000004', 'Vision', 'vision', 'Reading and making images and video.'),
    ('0190a000-0000-7000-8000-000000000005', 'Audio', 'audio', 'Speech, music and sound.'),
    ('0190a000-0000-7000-8000-000000000006', 'Code', 'code', 'Writing, reviewing and running code.'),
    ('0190a000-0000-7000-8000-000000000007', 'Finance', 'finance', 'Markets, accounting and on-chain data.'),
    ('0190a000-0000-7000-8000-000000000008', 'Automation', 'automation', 'Browsers, workflows and devices.'),
    ('0190a000-0000-7000-8000-000000000009', 'Security', 'security', 'Scanning, verification and risk.'),
    ('0190a000-0000-7000-8000-00000000000a', 'Other', 'other', 'Everything else.');

create table listing (
    id uuid primary key,
    slug text not null constraint listing_slug_once unique,
    seller_id uuid not null references profile (id),
    name text not null,
    description text not null,
    category_id uuid references category (id),
    tags text[] not null default '{}',
    pricing_model text not null constraint listing_pricing_model check (pricing_model in ('free', 'per_call')),
    price_micros bigint not null,
    preferred_currency text,
    delivery_type text not null
        constraint listing_delivery_type check (delivery_type in ('api', 'webhook', 'streaming', 'batch', 'file')),
    auth_method text,
    formats text[] not null default '{}',
    connection_instructions text,
    input_schema json,
    output_schema json,
    example_request json,
    example_response json,
    status text not null constraint listing_status check (status in ('draft', 'active', 'suspended')),
    was_active boolean not null default false,
    suspended_by_operator boolean not null default false,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint listing_price check (
        (pricing_model = 'free' and price_micros = 0)
        or (pricing_model = 'per_call' and price_micros between 1 and 10000000000)
    )
);
create index listing_newest on listing (id desc) where status = 'active';
create index listing_of_seller on listing (seller_id, id desc);
comment on column listing.example_request is 'As the seller wrote it, as are the other three documents: json keeps order and numbers, jsonb would not.';
comment on column listing.price_micros is 'US dollars in millionths; 0 exactly when free.';
comment on column listing.was_active is 'Once active, a listing is suspended instead of deleted and never becomes a draft again.';
comment on column listing.version is 'Rises with every change of the listing or its endpoint.';

create table endpoint (
    listing_id uuid primary key references listing (id) on delete cascade,
    url_sealed bytea not null,
    url_hint text not null,
    auth_header_name text,
    auth_header_value_sealed bytea,
    timeout_ms integer not null default 30000
        constraint endpoint_timeout check (timeout_ms between 1000 and 120000),
    max_request_bytes integer not null default 1048576
        constraint endpoint_max_request check (max_request_bytes between 1 and 8388608),
    max_response_bytes integer not null default 4194304
        constraint endpoint_max_response check (max_response_bytes between 1 and 8388608),
    max_concurrency integer not null default 64
        constraint endpoint_max_concurrency check (max_concurrency between 1 and 1000),
    redelivery text not null default 'same_request_id'
        constraint endpoint_redelivery check (redelivery in ('same_request_id', 'never')),
    status text not null default 'active' constraint endpoint_status check (status in ('active', 'paused')),
    secret_sealed bytea not null,
    secret_prefix text not null,
    secret_rotated_at timestamptz not null default now(),
    previous_secret_sealed bytea,
    previous_secret_expires_at timestamptz,
    last_test jsonb
);
comment on table endpoint is 'Where a per_call listing is served. Never shown to anyone but its owner, and to her only as a hint.';
comment on column endpoint.url_sealed is 'Sealed under the master key, bound to table, row and column.';
comment on column endpoint.url_hint is 'Scheme and host of the URL, for its owner.';
comment on column endpoint.previous_secret_expires_at is 'Until then both secrets sign.';
