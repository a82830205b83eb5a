-- Payments: one row a purchase, from its quote to its settlement.
--
-- The columns that change on the hot path carry no index, so claims and settlements are heap-only
-- updates. What is open has one row in `deadline`, and sweeps read nothing else.

create type request_state as enum (
    'quoted', 'paid', 'claimed', 'delivered', 'refund_due', 'refunded', 'expired', 'failed'
);

create table gateway_request (
    id uuid primary key,
    relay_request_id text not null constraint relay_request_once unique,
    buyer_id uuid not null references profile (id),
    seller_id uuid not null references profile (id),
    listing_id uuid not null references listing (id),
    body_sha256 bytea not null constraint gateway_request_body_sha256 check (octet_length(body_sha256) = 32),
    origin_currency text not null,
    idempotency_key text,
    request_bytes integer not null,
    price_micros bigint not null constraint gateway_request_price check (price_micros between 1 and 10000000000),
    fee_rate_ppm integer not null constraint gateway_request_fee_rate check (fee_rate_ppm between 0 and 1000000),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,

    state request_state not null default 'quoted',
    provider_status text,
    checked_at timestamptz,
    deposit_seen_at timestamptz,
    paid_at timestamptz,
    redeem_until timestamptz,
    attempts integer not null default 0 constraint gateway_request_attempts check (attempts >= 0),
    epoch integer not null default 0,
    owner bytea,
    lease_until timestamptz,
    timeout_ms integer,
    redeliver boolean not null default true,
    seller_status integer,
    seller_latency_ms integer,
    latency_ms integer,
    response_bytes integer,
    response_sha256 bytea,
    answer_day date,
    delivered_at timestamptz,
    closed_reason text,
    closed_at timestamptz,

    constraint gateway_request_claim_is_owned
        check (state <> 'claimed' or (owner is not null and lease_until is not null and timeout_ms is not null)),
    constraint gateway_request_paid_is_dated
        check (state not in ('paid', 'claimed', 'delivered') or (paid_at is not null and redeem_until is not null)),
    constraint gateway_request_delivered_is_whole
        check (state <> 'delivered' or (delivered_at is not null and response_sha256 is not null))
) with (fillfactor = 75);
create index gateway_request_of_buyer on gateway_request (buyer_id, id desc);
create index gateway_request_of_seller on gateway_request (seller_id, id desc);
create index gateway_request_idempotency on gateway_request (buyer_id, idempotency_key, id desc)
    where idempotency_key is not null;
comment on table gateway_request is 'One purchase: quoted, paid, claimed, delivered. Bound to buyer, listing, price, fee and the exact body.';
comment on column gateway_request.fee_rate_ppm is 'The fee rule of the quote, in millionths.';
comment on column gateway_request.expires_at is 'Until when the deposit may be made: the provider''s time less a margin.';
comment on column gateway_request.provider_status is 'The provider''s last word, as it spelled it. Never evidence by itself.';
comment on column gateway_request.deposit_seen_at is 'When the provider first told of a deposit: from then on no second 402 is given.';
comment on column gateway_request.redeem_until is 'Until when a paid call may be claimed; then a refund is due.';
comment on column gateway_request.attempts is 'Attempts used: counted at the claim, given back when nothing was sent.';
comment on column gateway_request.epoch is 'Which claim of this request is the newest. A settlement names it.';
comment on column gateway_request.owner is 'The HTTP call that holds, or last held, the claim: 16 random bytes.';
comment on column gateway_request.lease_until is 'Database time until which the owner may forward.';
comment on column gateway_request.timeout_ms is 'The endpoint''s timeout when last claimed: the same owner asking again is granted the same.';
comment on column gateway_request.redeliver is 'The endpoint''s rule when last claimed: false is redelivery:never.';
comment on column gateway_request.answer_day is 'The partition of stored_answer, and so the data key, of the answer.';
comment on column gateway_request.response_sha256 is 'Of the stored envelope. Kept for good.';
comment on column gateway_request.closed_reason is 'Why a refund is due, or why the quote failed or expired.';

create table quote (
    request_id uuid primary key references gateway_request (id),
    identity bytea not null constraint quote_identity_length check (octet_length(identity) = 32),
    requirements text not null,
    recipient text not null,
    destination_chain_id bigint not null,
    destination_token text not null,
    destination_amount bigint not null,
    deposit_address text,
    refund_to text not null
);
create index quote_by_identity on quote (identity, request_id desc);
comment on table quote is 'What was asked of the provider and shown to the buyer. Written once.';
comment on column quote.identity is 'SHA-256 over buyer, listing, currency, body and idempotency key.';
comment on column quote.requirements is 'The `requirements` object of the 402, as JSON text.';
comment on column quote.destination_amount is 'Atomic units of the settlement token: micro-dollars of USDC.';

create table payment_evidence (
    request_id uuid primary key references gateway_request (id),
    recipient text,
    chain_id bigint,
    token text,
    amount numeric(78, 0),
    matches boolean not null,
    in_tx_hashes text[] not null default '{}',
    out_tx_hashes text[] not null default '{}',
    provider_updated_at timestamptz,
    recorded_at timestamptz not null default now()
);
comment on table payment_evidence is 'The provider''s record of a success, as it was when recorded. Written before any claim.';
comment on column payment_evidence.matches is 'Whether recipient, chain, token and amount are as quoted. If not, a refund is due.';

create table provider_success (
    relay_request_id text primary key,
    provider_updated_at timestamptz not null,
    seen_at timestamptz not null default now()
);
comment on table provider_success is 'Every success the provider told of, asked for or not, so that the audit can find one without evidence.';

create table provider_cursor (
    name text primary key,
    position timestamptz not null,
    next_at timestamptz not null
);
comment on column provider_cursor.next_at is 'Until then no replica sweeps: one sweep at a time, however many replicas run.';
comment on table provider_cursor is 'How far the sweep of the provider''s records has read.';

create table deadline (
    request_id uuid primary key references gateway_request (id),
    due_at timestamptz not null,
    unpaid_by uuid
);
create index deadline_due on deadline (due_at);
create index deadline_unpaid on deadline (unpaid_by, due_at) where unpaid_by is not null;
comment on column deadline.unpaid_by is 'The buyer while no deposit is known: how many quotes she holds open is counted here.';
comment on table deadline is 'When an open request must be looked at again: quote expiry, end of redeeming, end of a lease. Closed requests have no row.';

create table attempt (
    request_id uuid not null references gateway_request (id),
    epoch integer not null,
    owner bytea not null,
    attempts integer not null,
    refund_due boolean not null,
    outcome text not null,
    seller_status integer,
    seller_latency_ms integer,
    ended_at timestamptz not null default now(),
    primary key (request_id, epoch)
);
comment on table attempt is 'Claims that did not deliver, and why. A delivered one stands in gateway_request.';
comment on column attempt.owner is 'Who held the claim, so that the same settlement asked again gets the same answer.';
comment on column attempt.attempts is 'Attempts used after it.';
comment on column attempt.refund_due is 'Whether it was the last: used up, out of time, or never to be redelivered.';

create table answer_key (
    day date primary key,
    key_sealed bytea not null
);
comment on table answer_key is 'The data key of a day''s stored answers, sealed under the master key.';

create table stored_answer (
    day date not null,
    request_id uuid not null,
    chunk smallint not null,
    sealed bytea not null,
    primary key (day, request_id, chunk)
) partition by range (day);
alter table stored_answer alter column sealed set storage external;
comment on table stored_answer is 'Delivered envelopes for 24 hours, sealed, in chunks of at most 256 KiB. A day''s partition is dropped whole.';

create function ensure_answer_partition(wanted date) returns void language plpgsql as $$
begin
    execute format(
        'create table if not exists %I partition of stored_answer for values from (%L) to (%L)',
        'stored_answer_' || to_char(wanted, 'YYYYMMDD'), wanted, wanted + 1
    );
exception when duplicate_table then
    -- Another replica made it at this moment.
    null;
end
$$;
comment on function ensure_answer_partition is 'Makes the partition of a day if it is not there.';

create function drop_answer_partitions(oldest date) returns integer language plpgsql set lock_timeout = '2s' as $$
declare
    partition text;
    dropped integer := 0;
begin
    for partition in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'stored_answer'::regclass
            and c.relname < 'stored_answer_' || to_char(oldest, 'YYYYMMDD')
    loop
        execute format('drop table if exists %I', partition);
        dropped := dropped + 1;
    end loop;
    delete from answer_key where day < oldest;
    return dropped;
end
$$;
comment on function drop_answer_partitions is 'Drops the partitions and data keys of the days before. Waits for locks at most 2 s, so that settlements are never held up for long.';
