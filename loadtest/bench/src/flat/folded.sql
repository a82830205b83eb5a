-- What the control plane has counted of the ledger, so that it does not begin with years of it: sums by hour in full,
-- of tallies and scores that nothing is left to count.
select count_ledger_anew();
update call_fold set horizon = pg_snapshot_xmin(pg_current_snapshot()), since = now(),
    mark = pg_snapshot_xmax(pg_current_snapshot()), mark_at = now();
update fold_cursor set position = now() - interval '1 hour' where name = 'calls';
