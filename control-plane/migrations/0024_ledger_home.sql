-- A dump that is restored over the database it is of brings sums that were counted by other numbers of
-- transactions, too: the server and the database are the same then, and only the table of transfers is another.

create or replace function ledger_home() returns text language sql stable as $$
    select (select system_identifier from pg_control_system()) || '/'
        || (select oid from pg_database where datname = current_database()) || '/'
        || to_regclass('transfer')::oid
$$;
comment on function ledger_home is 'This table of transfers, among all: where its transactions have their numbers from. A restore makes the table anew, whatever it restores into; nothing else does.';

-- What is counted stays counted, unless a dump was restored over it before it could be told by its home: then
-- transfers from long before the horizon bear numbers from after it, and the count is left to find another home.
update ledger_fold f set home = ledger_home()
where f.home = (select system_identifier from pg_control_system()) || '/'
        || (select oid from pg_database where datname = current_database())
    and not exists (
        select from (select xmin, created_at from transfer limit 1000) t
        where t.created_at <= f.since - interval '120 seconds'
            and ((f.horizon::text::int8 - t.xmin::text::int8) & 4294967295) not between 1 and 2147483647
    );
