-- Outbox: what gateways must hear of, written in the transaction of the change itself.

create sequence cache_version;
comment on sequence cache_version is 'Versions of records in Redis, drawn before a record is read, so that a later version never shows an older state.';

create table outbox (
    id bigint generated always as identity primary key,
    key_digest bytea,
    listing_id uuid,
    quote_identity bytea,
    created_at timestamptz not null default now(),
    constraint outbox_names_one check (num_nonnulls(key_digest, listing_id, quote_identity) = 1)
);
comment on table outbox is 'Names of changed records. The publisher reads the record itself when it publishes, so the newest state is told.';
create index outbox_order on outbox ((quote_identity is not null), id);
