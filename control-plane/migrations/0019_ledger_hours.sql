-- Sums of the ledger by hour: a summary of a party's ledger reads its hours, and entries only of the last
-- moments and of the two hours that its time begins and ends in.

create table ledger_hour (
    party_id uuid not null,
    hour timestamptz not null,
    kind transfer_kind not null,
    debit_account ledger_account not null,
    credit_account ledger_account not null,
    entries bigint not null,
    amount_micros bigint not null,
    primary key (party_id, hour, kind, debit_account, credit_account)
) with (fillfactor = 80);
comment on table ledger_hour is 'Sums of `transfer` by party, hour (UTC) and kind, counted in the background. Entries of the last moments are not in it (`ledger_fold`).';

create index ledger_hour_by_time on ledger_hour using brin (hour) with (autosummarize = on);

create table ledger_fold (
    one boolean primary key default true constraint ledger_fold_is_one check (one),
    horizon xid8 not null,
    since timestamptz not null,
    mark xid8 not null,
    mark_at timestamptz not null,
    home text not null
);
comment on table ledger_fold is 'How far transfers are counted into `ledger_hour`; as `call_fold` counts calls.';
comment on column ledger_fold.horizon is 'Transfers of transactions before this one are counted, and no others.';
comment on column ledger_fold.since is 'No transaction from the horizon on was given its number before this time.';
comment on column ledger_fold.home is 'Where the numbers of transactions are from (`ledger_home`): in a database that was restored from a dump they say nothing, and all is counted anew.';
comment on column ledger_fold.mark is 'The number that the next transaction had at `mark_at`: once the horizon is there, `since` is `mark_at`.';

create function ledger_home() returns text language sql stable as $$
    select (select system_identifier from pg_control_system()) || '/'
        || (select oid from pg_database where datname = current_database())
$$;
comment on function ledger_home is 'This database, among all: where its transactions have their numbers from.';

-- Transactions that are open now are counted later; none of them is older than ten minutes.
create function count_ledger_anew() returns void language plpgsql as $$
begin
    lock table ledger_fold in exclusive mode;
    delete from ledger_hour;
    delete from ledger_fold;
    insert into ledger_fold (horizon, since, mark, mark_at, home)
    select pg_snapshot_xmin(pg_current_snapshot()), now() - interval '10 minutes',
        pg_snapshot_xmax(pg_current_snapshot()), now(), ledger_home();
    insert into ledger_hour (party_id, hour, kind, debit_account, credit_account, entries, amount_micros)
    select t.party_id, date_trunc('hour', t.created_at, 'UTC'), t.kind, t.debit_account, t.credit_account,
        count(*), sum(t.amount_micros)
    from transfer t cross join ledger_fold f
    where ((f.horizon::text::int8 - t.xmin::text::int8) & 4294967295) between 1 and 2147483647
        or t.created_at < now() - interval '1 hour'
    group by 1, 2, 3, 4, 5;
end
$$;
comment on function count_ledger_anew is 'Counts the whole ledger into `ledger_hour`, in place of what was counted before.';
select count_ledger_anew();
