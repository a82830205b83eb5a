-- Search: what browsing reads. A narrow row a listing to filter and sort by, the words of its text,
-- and how its calls and reviews went.
--
-- All of it follows `listing` by triggers, so that an operator's own statement is followed as well.

create extension if not exists pg_trgm;

-- --- how calls went ---------------------------------------------------------------------------

create table call_tally (
    listing_id uuid not null,
    day date not null,
    bucket smallint not null,
    calls bigint not null,
    primary key (listing_id, day, bucket)
);
create index call_tally_day on call_tally (day, listing_id);
comment on table call_tally is 'Ended calls of a listing and day: failed ones, and delivered ones by how long they took.';
comment on column call_tally.bucket is '-1 for a failure of the seller; else the latency: bucket n holds up to 1.05^n ms.';

create table call_fold (
    one boolean primary key default true constraint call_fold_is_one check (one),
    horizon xid8 not null,
    folded_at timestamptz not null
);
insert into call_fold (horizon, folded_at) values ('0', '-infinity');
comment on table call_fold is 'How far ended calls are counted.';
comment on column call_fold.horizon is 'Every transaction before this one is counted. A row belongs to the one that wrote it, so a late commit is not missed and none is counted twice.';

-- Rows of both come in the order of time and stay, so the smallest index there is finds the newest.
create index transfer_lately on transfer using brin (created_at)
    with (pages_per_range = 16, autosummarize = on);
create index attempt_lately on attempt using brin (ended_at)
    with (pages_per_range = 16, autosummarize = on);

-- --- what browsing sorts and filters by -------------------------------------------------------

create table listing_stats (
    listing_id uuid primary key references listing (id) on delete cascade,
    active boolean not null,
    seller_id uuid not null,
    category_id uuid,
    delivery_type text not null,
    price_micros bigint not null,
    calls_30d bigint not null default 0,
    failures_30d bigint not null default 0,
    p95_latency_ms_30d integer,
    rating_sum bigint not null default 0,
    review_count integer not null default 0,
    rating_order bigint not null generated always as (
        case when review_count > 0 then
            (2 * rating_sum + review_count) / (2 * review_count) * 4294967296 + review_count
        else 0 end
    ) stored
) with (fillfactor = 80);
comment on table listing_stats is 'A narrow row a listing: copies of what browsing filters by, and how calls and reviews went.';
comment on column listing_stats.calls_30d is 'Calls delivered in the last 30 days.';
comment on column listing_stats.failures_30d is 'Attempts in the last 30 days that failed at the seller.';
comment on column listing_stats.rating_sum is 'Sum of the reviews'' ratings, in hundredths.';
comment on column listing_stats.rating_order is 'What `sort=rating` sorts by: the average in hundredths, then how many reviews it is of.';

-- For each sort: all, a category, a delivery type. A pricing model is a range of prices.
create index listing_stats_newest on listing_stats (listing_id) where active;
create index listing_stats_popular on listing_stats (calls_30d, listing_id) where active;
create index listing_stats_price on listing_stats (price_micros, listing_id) where active;
create index listing_stats_rating on listing_stats (rating_order, listing_id) where active;
create index listing_stats_category_newest on listing_stats (category_id, listing_id) where active;
create index listing_stats_category_popular on listing_stats (category_id, calls_30d, listing_id) where active;
create index listing_stats_category_price on listing_stats (category_id, price_micros, listing_id) where active;
create index listing_stats_category_rating on listing_stats (category_id, rating_order, listing_id) where active;
create index listing_stats_delivery_newest on listing_stats (delivery_type, listing_id) where active;
create index listing_stats_delivery_popular on listing_stats (delivery_type, calls_30d, listing_id) where active;
create index listing_stats_delivery_price on listing_stats (delivery_type, price_micros, listing_id) where active;
create index listing_stats_delivery_rating on listing_stats (delivery_type, rating_order, listing_id) where active;
create index listing_stats_both_price on listing_stats (category_id, delivery_type, price_micros, listing_id) where active;
create index listing_stats_of_seller on listing_stats (seller_id, listing_id) where active;
drop index listing_newest;
create index listing_of_seller_by_status on listing (seller_id, status, id desc);

alter table category add column listing_count bigint not null default 0;
comment on column category.listing_count is 'Active listings in it.';

-- --- words ------------------------------------------------------------------------------------

create function plain_words(written text) returns text
language sql immutable parallel safe as $$
    select regexp_replace(written, '[^[:alnum:]]+', ' ', 'g')
$$;
comment on function plain_words is 'Letters and digits alone: what is sought and what is found are taken apart alike, and no character is an operator.';

create function listing_words(name text, tags text[], description text) returns tsvector
language sql immutable parallel safe as $$
    select strip(
        to_tsvector('pg_catalog.simple', plain_words(name || ' ' || array_to_string(tags, ' ')))
        || to_tsvector('pg_catalog.english', plain_words(name || ' ' || array_to_string(tags, ' ') || ' ' || description))
    )
$$;
comment on function listing_words is 'The words a listing is found by: stems of all its text, and those of name and tags as they stand.';

alter table listing add column words tsvector not null
    generated always as (listing_words(name, tags, description)) stored;
create index listing_by_word on listing using gin (words) with (fastupdate = off) where status = 'active';

create table search_word (
    word text primary key,
    listings bigint not null
);
create index search_word_like on search_word using gin (word gin_trgm_ops) with (fastupdate = off);
comment on table search_word is 'Every word of active listings: what a typo is corrected to.';
comment on column search_word.listings is 'Active listings that hold it.';

create function similar_words(wanted text, most integer) returns table (word text, listings bigint)
language sql stable set pg_trgm.similarity_threshold = 0.2 as $$
    select w.word, w.listings from search_word w
    where w.word % wanted and w.listings > 0
    order by similarity(w.word, wanted) desc, w.listings desc, w.word
    limit most
$$;
comment on function similar_words is 'Words spelled like `wanted`, the likest first. Which of them may be meant is the caller''s to judge.';

-- --- following listing ------------------------------------------------------------------------

-- Three functions, since each event has its own pair of row sets. Counters are changed in the order of
-- their keys, so that two changes of listings never wait for each other in a ring.

create function listing_is_new() returns trigger language plpgsql as $$
begin
    insert into listing_stats (listing_id, active, seller_id, category_id, delivery_type, price_micros)
    select id, status = 'active', seller_id, category_id, delivery_type, price_micros from becomes;

    update category c set listing_count = c.listing_count + more.listings
    from (
        select category_id, count(*) as listings from becomes
        where status = 'active' and category_id is not null group by 1
    ) more where c.id = more.category_id;

    insert into search_word (word, listings)
    select word, count(*) from becomes, unnest(tsvector_to_array(words)) as word
    where status = 'active' group by 1 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;
    return null;
end
$$;
create trigger listing_is_new after insert on listing referencing new table as becomes
    for each statement execute function listing_is_new();

create function listing_is_other() returns trigger language plpgsql as $$
begin
    update listing_stats s set
        active = b.status = 'active', seller_id = b.seller_id, category_id = b.category_id,
        delivery_type = b.delivery_type, price_micros = b.price_micros
    from becomes b
    where s.listing_id = b.id
        and (s.active, s.seller_id, s.category_id, s.delivery_type, s.price_micros)
            is distinct from (b.status = 'active', b.seller_id, b.category_id, b.delivery_type, b.price_micros);

    update category c set listing_count = c.listing_count + net.listings
    from (
        select category_id, sum(listings) as listings from (
            select category_id, 1 as listings from becomes where status = 'active'
            union all select category_id, -1 from was where status = 'active'
        ) counted where category_id is not null group by 1 having sum(listings) <> 0
    ) net where c.id = net.category_id;

    insert into search_word (word, listings)
    select word, sum(listings) from (
        select unnest(tsvector_to_array(b.words)) as word, 1 as listings
        from becomes b join was w using (id)
        where b.status = 'active' and (w.status <> 'active' or w.words <> b.words)
        union all
        select unnest(tsvector_to_array(w.words)), -1
        from becomes b join was w using (id)
        where w.status = 'active' and (b.status <> 'active' or w.words <> b.words)
    ) counted group by 1 having sum(listings) <> 0 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;
    return null;
end
$$;
create trigger listing_is_other after update on listing referencing old table as was new table as becomes
    for each statement execute function listing_is_other();

create function listing_is_gone() returns trigger language plpgsql as $$
begin
    update category c set listing_count = c.listing_count - less.listings
    from (
        select category_id, count(*) as listings from was
        where status = 'active' and category_id is not null group by 1
    ) less where c.id = less.category_id;

    insert into search_word (word, listings)
    select word, -count(*) from was, unnest(tsvector_to_array(words)) as word
    where status = 'active' group by 1 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;
    return null;
end
$$;
create trigger listing_is_gone after delete on listing referencing old table as was
    for each statement execute function listing_is_gone();

-- --- what is there already --------------------------------------------------------------------

insert into listing_stats (listing_id, active, seller_id, category_id, delivery_type, price_micros)
select id, status = 'active', seller_id, category_id, delivery_type, price_micros from listing;

update category c set listing_count = (
    select count(*) from listing l where l.category_id = c.id and l.status = 'active'
);

insert into search_word (word, listings)
select word, count(*) from listing, unnest(tsvector_to_array(words)) as word
where status = 'active' group by 1;
