-- Delivered calls $1 to $2 of `:calls`, evenly over ninety days, the last of them three days ago: their answers are no longer
-- stored, and what looks at the last two days finds none of them. Each is a request, its evidence and three transfers;
-- rows of the ledger are what there is most of. A hundred agents buy of ninety listings that have a price.
with call as materialized (
    select n, (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid as id,
        at, ('0190c000-0000-7000-8000-' || lpad(to_hex(1 + n % 100), 12, '0'))::uuid as buyer_id,
        listing.id as listing_id, listing.seller_id, sha256(n::text::bytea) as digest,
        1000 * (1 + n % 5000)::bigint as price, 49 * (1 + n % 5000)::bigint as fee
    from generate_series($1::integer, $2::integer) n
    cross join lateral (
        select date_trunc('day', now()) - interval '3 days' - (:calls - n) * (interval '90 days' / :calls) as at
    ) moment
    join listing on listing.id
        = ('0190a000-0000-7000-8000-' || lpad(to_hex(10 * (n % 10) + 1 + n / 10 % 9), 12, '0'))::uuid
), requests as (
    insert into gateway_request
        (id, relay_request_id, buyer_id, seller_id, listing_id, body_sha256, origin_currency, request_bytes, price_micros,
         fee_rate_ppm, created_at, expires_at, state, provider_status, checked_at, deposit_seen_at, paid_at, redeem_until,
         attempts, epoch, owner, lease_until, timeout_ms, seller_status, seller_latency_ms, latency_ms, response_bytes,
         response_sha256, answer_day, delivered_at)
    select id, '0x' || encode(digest, 'hex'), buyer_id, seller_id, listing_id, digest, 'SOL', 200, price,
        49000, at, at + interval '15 minutes', 'delivered', 'success', at, at, at, at + interval '1 day',
        1, 1, substr(digest, 1, 16), at + interval '1 minute', 30000, 200, 20, 25, 1200,
        digest, (at at time zone 'utc')::date, at
    from call
), evidence as (
    insert into payment_evidence
        (request_id, recipient, chain_id, token, amount, matches, provider_updated_at, recorded_at)
    select id, '0x0000000000000000000000000000000000000001', 8453, '0x0000000000000000000000000000000000000002', price, true,
        at, at
    from call
)
insert into transfer
    (party_id, id, request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id, created_at)
select moves.party_id,
    (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7000' || moves.digit || lpad(to_hex(n), 15, '0'))::uuid,
    call.id, moves.kind::transfer_kind, moves.debit::ledger_account, moves.credit::ledger_account, moves.amount,
    moves.counterparty_id, listing_id, at
from call cross join lateral (values
    ('8', 'gateway_payment', 'provider', 'clearing', price, buyer_id, seller_id),
    ('9', 'seller_credit', 'clearing', 'seller', price - fee, seller_id, buyer_id),
    ('a', 'marketplace_fee', 'clearing', 'fees', fee, seller_id, buyer_id)
) as moves (digit, kind, debit, credit, amount, party_id, counterparty_id)
