-- Ledger: transfers between accounts. Balanced by construction, written once, never changed.

create type ledger_account as enum ('provider', 'clearing', 'seller', 'fees', 'refunds_payable');
create type transfer_kind as enum (
    'gateway_payment', 'seller_credit', 'marketplace_fee', 'refund_due', 'refund_paid', 'surplus', 'correction'
);

create table transfer (
    party_id uuid not null,
    id uuid not null,
    request_id uuid not null references gateway_request (id),
    kind transfer_kind not null,
    debit_account ledger_account not null,
    credit_account ledger_account not null,
    amount_micros bigint not null constraint transfer_amount_is_positive check (amount_micros > 0),
    counterparty_id uuid not null,
    listing_id uuid not null,
    corrects uuid,
    created_at timestamptz not null default now(),
    primary key (party_id, id),
    constraint transfer_has_two_accounts check (debit_account <> credit_account or kind = 'correction'),
    constraint transfer_accounts_of_kind check (
        case kind
            when 'gateway_payment' then debit_account = 'provider' and credit_account = 'clearing'
            when 'seller_credit' then debit_account = 'clearing' and credit_account = 'seller'
            when 'marketplace_fee' then debit_account = 'clearing' and credit_account = 'fees'
            when 'refund_due' then debit_account = 'clearing' and credit_account = 'refunds_payable'
            when 'refund_paid' then debit_account = 'refunds_payable' and credit_account = 'provider'
            when 'surplus' then debit_account = 'provider' and credit_account = 'refunds_payable'
            else corrects is not null
        end
    )
);
-- Of each kind but corrections one for a request. One index for this rule and for looking a request's
-- transfers up: a partial index would serve the rule alone.
create unique index transfer_once on transfer (request_id, kind, (case when kind = 'correction' then id end))
    nulls not distinct;
comment on table transfer is 'Money moves from the debited to the credited account. Append-only; a correction is a new row.';
comment on column transfer.party_id is 'Whose ledger shows the row: the buyer for payments and refunds, the seller for credits and fees.';
comment on column transfer.counterparty_id is 'The other side: the seller for a buyer''s row, the buyer for a seller''s.';
comment on column transfer.corrects is 'The transfer that a correction corrects.';

create function transfer_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only: % on % refused', tg_op, tg_table_name
        using errcode = 'restrict_violation';
end
$$;
create trigger transfer_no_change before update or delete on transfer
    for each row execute function transfer_is_append_only();
create trigger transfer_no_truncate before truncate on transfer
    for each statement execute function transfer_is_append_only();
revoke update, delete, truncate on transfer from public;
