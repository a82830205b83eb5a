-- The foreign key of a transfer's request cost a look-up and a row lock for each of a settlement's two
-- transfers, a tenth of what Postgres spends on a paid call, and guards against nothing that can happen:
-- every transfer is made from the row of its request, in the statement that changes that row, and
-- requests are never deleted (quotes and attempts refer to them). The audit's `no_orphan_transfer`
-- finds what is put in by other hands.
alter table transfer drop constraint transfer_request_id_fkey;
