-- Identity: who there is, which wallets and keys prove it, and the challenges that are signed.

create table profile (
    id uuid primary key,
    account_type text not null
        constraint profile_account_type check (account_type in ('agent', 'human', 'human_claimed_agent')),
    display_name text not null,
    description text,
    avatar_url text,
    score integer not null default 500 constraint profile_score check (score between 0 and 1000),
    claimed_by uuid references profile (id),
    created_at timestamptz not null default now()
);
comment on table profile is 'An agent or a human. Buyers and sellers are profiles.';
comment on column profile.score is 'Crochet Score, 0 to 1000; 500 until there is evidence.';
comment on column profile.claimed_by is 'The human who proved control of this agent''s wallet.';

create table wallet (
    id uuid primary key,
    profile_id uuid not null references profile (id),
    chain text not null constraint wallet_chain check (chain in ('evm', 'solana')),
    address text not null,
    label text,
    status text not null default 'active' constraint wallet_status check (status in ('active', 'disabled')),
    can_authenticate boolean not null default true,
    can_recover boolean not null default true,
    is_default_payment boolean not null default false,
    is_default_payout boolean not null default false,
    created_at timestamptz not null default now(),
    constraint wallet_address_once unique (chain, address)
);
create index wallet_of_profile on wallet (profile_id, id);
create unique index wallet_one_default_payment on wallet (profile_id) where is_default_payment;
create unique index wallet_one_default_payout on wallet (profile_id) where is_default_payout;
comment on table wallet is 'A wallet that belongs to one profile for good.';
comment on column wallet.address is 'EVM in EIP-55 form, Solana in base58: one spelling, so that unique means unique.';

create table api_key (
    id uuid primary key,
    profile_id uuid not null references profile (id),
    name text not null,
    prefix text not null,
    digest bytea not null constraint api_key_digest_length check (octet_length(digest) = 32),
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz,
    constraint api_key_digest_once unique (digest)
);
create index api_key_of_profile on api_key (profile_id, id);
comment on column api_key.prefix is 'The first 12 characters, shown so that keys can be told apart.';
comment on column api_key.digest is 'SHA-256 of the whole text. The text itself is stored nowhere.';

create table challenge (
    nonce text primary key,
    purpose text not null,
    chain text,
    wallet_address text,
    profile_id uuid,
    binding jsonb not null default '{}',
    message text,
    pow_challenge text,
    pow_difficulty integer,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
create index challenge_expiry on challenge (expires_at);
create index challenge_of_profile on challenge (profile_id, purpose, created_at desc) where profile_id is not null;
comment on table challenge is 'What a client signs or solves, once. Rows are deleted a while after they expire.';
comment on column challenge.purpose is 'register, recover, link_wallet, manage_wallet, claim_agent, create_listing.';
comment on column challenge.binding is 'Other wallet, wallet or changes the challenge is bound to.';
comment on column challenge.used_at is 'Set by the one success; a challenge with it serves no more.';
