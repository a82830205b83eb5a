-- Money that leaves: what sellers were paid, and by which transactions refunds were sent. Both are noted
-- by an operator after she has sent the money, and never changed.
--
-- A payout is no transfer: a transfer belongs to one request, a payout pays for many. Together they are
-- a seller's account: what transfers credit to `seller`, less what payouts took out.

create table payout (
    id uuid primary key,
    seller_id uuid not null references profile (id),
    amount_micros bigint not null constraint payout_amount_is_positive check (amount_micros > 0),
    chain text not null constraint payout_chain check (chain in ('evm', 'solana')),
    address text not null,
    tx_hash text not null constraint payout_transaction_once unique,
    created_at timestamptz not null default now()
);
create index payout_of_seller on payout (seller_id, id);
comment on table payout is 'Money sent to a seller: from her account to the provider''s side, where deposits settle. Append-only. Whoever writes one has locked the seller''s profile, so that no two are judged by the same balance.';
comment on column payout.address is 'The wallet that was paid, as it was then.';
comment on column payout.tx_hash is 'The transaction, in its one spelling: lowercase hex, or base58. One transaction is one payout.';

create trigger payout_no_change before update or delete on payout
    for each row execute function transfer_is_append_only();
create trigger payout_no_truncate before truncate on payout
    for each statement execute function transfer_is_append_only();
revoke update, delete, truncate on payout from public;

create table refund_transaction (
    request_id uuid primary key,
    buyer_id uuid not null,
    tx_hash text not null,
    created_at timestamptz not null default now()
);
create index refund_transaction_by_hash on refund_transaction (tx_hash);
comment on table refund_transaction is 'By which transaction an operator sent a refund that was due. Append-only. A refund without a row was sent by the provider itself.';
comment on column refund_transaction.tx_hash is 'As in `payout`. One transaction may pay several refunds of one buyer.';

create trigger refund_transaction_no_change before update or delete on refund_transaction
    for each row execute function transfer_is_append_only();
create trigger refund_transaction_no_truncate before truncate on refund_transaction
    for each statement execute function transfer_is_append_only();
revoke update, delete, truncate on refund_transaction from public;

-- When a claim that did not deliver began, by its lease: the next one overwrites it in `gateway_request`.
alter table attempt add column lease_until timestamptz, add column timeout_ms integer;
comment on column attempt.lease_until is 'Until when the claim was held; null where the program of that day did not write it.';
comment on column attempt.timeout_ms is 'The endpoint''s timeout at the claim: with the lease it tells when the claim was made.';
