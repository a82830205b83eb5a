-- What was noted wrongly is taken back by a new row, what was paid beyond a price is found, and what the
-- provider told is looked for until it is in evidence.

-- --- payouts that are taken back ----------------------------------------------------------------

create table payout_reversal (
    payout_id uuid primary key references payout (id),
    reason text not null,
    created_at timestamptz not null default now()
);
comment on table payout_reversal is 'Takes a payout back, whole: its amount is owed to the seller again. Append-only, like the payout, which stays as it was noted. Whoever writes one has locked the seller''s profile.';
comment on column payout_reversal.reason is 'Why, in the operator''s words.';

create trigger payout_reversal_no_change before update or delete on payout_reversal
    for each row execute function transfer_is_append_only();
create trigger payout_reversal_no_truncate before truncate on payout_reversal
    for each statement execute function transfer_is_append_only();
revoke update, delete, truncate on payout_reversal from public;

-- A transaction whose payout was taken back may have paid something else: then that payout names the one
-- that it stands in for. Of a transaction there is still one payout that was not taken back.
alter table payout add column instead_of uuid;
comment on column payout.instead_of is 'The payout noted for this transaction before, which was taken back; null for the first.';
create unique index payout_of_transaction_once on payout (tx_hash, instead_of) nulls not distinct;
alter table payout drop constraint payout_transaction_once;

-- --- what the provider told ---------------------------------------------------------------------

-- Those of before were looked at every day already; only the newest are looked at again.
alter table provider_success add column evidenced boolean not null default true;
alter table provider_success alter column evidenced set default false;
update provider_success set evidenced = false where seen_at > now() - interval '2 days';
comment on column provider_success.evidenced is 'Whether its evidence was found, so that the audit has only the others to look at. Set in the background, never taken back.';
