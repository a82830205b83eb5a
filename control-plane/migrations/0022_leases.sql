-- Which claims to look at when their leases are over: a row for a batch of claims, where each claim moved its
-- own row of `deadline`, with two entries in indexes, to move it back at its settlement. Nearly all claims
-- are settled long before their row is read.

create table lease (
    id bigint generated always as identity primary key,
    due_at timestamptz not null,
    request_ids uuid[] not null
);
create index lease_due on lease (due_at);
comment on table lease is 'Claims made together, to be looked at once their leases are over. Written in the transaction of the claims; deleted when none of them is open any more.';
comment on column lease.due_at is 'When lease and grace of all of them are over.';
comment on table deadline is 'When an open request must be looked at again: quote expiry, end of redeeming. The end of a claim''s lease stands in `lease`. Closed requests have no row.';

-- A request's row is written thrice after its quote, by requests that stand on one page often in one
-- transaction: paid, claimed, delivered. With half of each page left free they find room beside their
-- former selves, and touch no index.
alter table gateway_request set (fillfactor = 50);
