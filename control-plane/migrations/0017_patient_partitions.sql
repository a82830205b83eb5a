-- A day's partition is made beside settlements, and needs the table for itself for a moment. Where it has to
-- wait for somebody (a dump, say), every settlement waits behind it: it gives up soon and tries again later.
-- There is time, because it is made a day ahead.
alter function ensure_answer_partition(date) set lock_timeout = '2s';
