-- How long the journal of claims that did not deliver is kept.
--
-- What the contract shows of a call it shows for good, and of its attempts that is their number, which stands
-- in gateway_request. Scores and stats have counted a row within seconds of it. What is left is the operator who
-- looks into a complaint: half a year is longer than one waits, and as long as a refund is owed its reasons stay.
--
-- Rows are deleted and not partitions dropped: a claim ends once, and the key that says so, (request_id, epoch),
-- cannot stand on a table that is divided by time. Only failures are written here, so that few go at a time.

create function delete_old_attempts(most integer) returns integer language sql as $$
    with old as (
        select a.request_id, a.epoch
        from attempt a join gateway_request r on r.id = a.request_id
        where a.ended_at < now() - interval '180 days'
            and a.ended_at < (select position from fold_cursor where name = 'calls')
            and a.ended_at < (select since from call_fold)
            and r.state <> 'refund_due'
        limit most
        for update of a skip locked
    ), gone as (
        delete from attempt a using old
        where a.request_id = old.request_id and a.epoch = old.epoch
        returning a.epoch
    )
    select count(*)::integer from gone
$$;
comment on function delete_old_attempts is 'Deletes so many attempts that ended more than 180 days ago, are counted in scores and stats, and are of no request whose refund is still owed.';
comment on table attempt is 'Claims that did not deliver, and why. A delivered one stands in gateway_request. Kept for 180 days, and until a refund that is owed is paid.';
