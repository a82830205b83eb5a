-- Searches read little: what they find lies beside what a page is sorted by, and a walk of a sort's
-- order passes by listings that cannot be meant without a look at them.

-- --- what a search reads ----------------------------------------------------------------------

-- `listing.words`, its index and `listing_words` stay for the version before, which searches them; what nobody
-- reads any more is dropped once that version is gone (deploy/UPGRADE.md).
create function search_words(
    name text, tags text[], description text, seller_id uuid, category_id uuid, delivery_type text, pricing_model text
) returns tsvector language sql immutable parallel safe as $$
    select strip(
        to_tsvector('pg_catalog.simple', plain_words(name || ' ' || array_to_string(tags, ' ')))
        || to_tsvector('pg_catalog.english', plain_words(name || ' ' || array_to_string(tags, ' ') || ' ' || description))
        || array_to_tsvector(array_remove(
            array['/s/' || seller_id, '/c/' || category_id, '/d/' || delivery_type, '/p/' || pricing_model], null
        ))
    )
$$;
comment on function search_words is 'What a listing is found by: stems of all its text, the words of name and tags as they stand, and its seller, category, delivery type and pricing model. The last four begin with a slash, as no word does.';

create function word_marks(words text[]) returns bit(256) language sql immutable parallel safe as $$
    select coalesce(bit_or(set_bit(0::bit(256), get_byte(sha256(convert_to(word, 'UTF8')), 0), 1)), 0::bit(256))
    from unnest(words) as word
$$;
comment on function word_marks is 'A bit for each word. A listing without a word''s bit does not have the word; one with it may.';

create table listing_search (
    listing_id uuid primary key references listing (id) on delete cascade,
    price_micros bigint not null,
    calls_30d bigint not null,
    rating_order bigint not null,
    marks bit(256) not null generated always as (word_marks(tsvector_to_array(words))) stored,
    words tsvector not null
) with (fillfactor = 90);
comment on table listing_search is 'A row an active listing: its words, and copies of what a page is sorted by. No index has what changes with calls and reviews, so that a change of it does not write the words anew.';
comment on column listing_search.marks is 'The words as bits (`word_marks`).';

insert into listing_search (listing_id, price_micros, calls_30d, rating_order, words)
select l.id, l.price_micros, s.calls_30d, s.rating_order,
    search_words(l.name, l.tags, l.description, l.seller_id, l.category_id, l.delivery_type, l.pricing_model)
from listing l join listing_stats s on s.listing_id = l.id
where l.status = 'active' order by l.id;
create index listing_search_by_word on listing_search using gin (words) with (fastupdate = off);

-- --- what is read of an index alone ------------------------------------------------------------

-- A row of `listing_stats` that changes has a new entry in every index anyway: what they hold besides
-- their keys costs room alone, and saves the visit of a page for each entry that is looked at.
alter table listing_stats add column marks bit(256) not null default 0::bit(256);
comment on column listing_stats.marks is 'A copy of the marks of an active listing''s words.';
drop index listing_stats_newest, listing_stats_popular, listing_stats_price, listing_stats_rating,
    listing_stats_both_price, listing_stats_of_seller;
update listing_stats s set marks = l.marks from listing_search l where l.listing_id = s.listing_id;
create index listing_stats_newest on listing_stats (listing_id) include (marks, price_micros) where active;
create index listing_stats_popular on listing_stats (calls_30d, listing_id) include (marks, price_micros) where active;
create index listing_stats_price on listing_stats (price_micros, listing_id) include (marks, calls_30d, rating_order) where active;
create index listing_stats_rating on listing_stats (rating_order, listing_id) include (marks, price_micros) where active;
create index listing_stats_both_price on listing_stats (category_id, delivery_type, price_micros, listing_id)
    include (calls_30d, rating_order) where active;
create index listing_stats_of_seller on listing_stats (seller_id, listing_id)
    include (price_micros, calls_30d, rating_order) where active;

-- --- following listing ------------------------------------------------------------------------

create or replace function listing_is_new() returns trigger language plpgsql as $$
begin
    insert into listing_search (listing_id, price_micros, calls_30d, rating_order, words)
    select id, price_micros, 0, 0,
        search_words(name, tags, description, seller_id, category_id, delivery_type, pricing_model)
    from becomes where status = 'active';

    insert into listing_stats (listing_id, active, seller_id, category_id, delivery_type, price_micros, marks)
    select b.id, b.status = 'active', b.seller_id, b.category_id, b.delivery_type, b.price_micros,
        coalesce(s.marks, 0::bit(256))
    from becomes b left join listing_search s on s.listing_id = b.id;

    update category c set listing_count = c.listing_count + more.listings
    from (
        select category_id, count(*) as listings from becomes
        where status = 'active' and category_id is not null group by 1
    ) more where c.id = more.category_id;

    insert into search_word (word, listings)
    select word, count(*) from becomes b join listing_search s on s.listing_id = b.id, only_words(s.words) as word
    group by 1 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;
    return null;
end
$$;

-- Rows of `listing_stats` are locked before those of `listing_search`, as by `listing_stats_are_other`:
-- no copy is made of figures that change meanwhile, and neither waits for the other in a ring.
create or replace function listing_is_other() returns trigger language plpgsql as $$
begin
    perform from listing_stats s join becomes b on b.id = s.listing_id
    order by s.listing_id for no key update of s;

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

    with changed as materialized (
        select b.id, b.price_micros, had.words as had,
            case when b.status = 'active' then search_words(
                b.name, b.tags, b.description, b.seller_id, b.category_id, b.delivery_type, b.pricing_model
            ) end as has
        from becomes b join was w using (id) left join listing_search had on had.listing_id = b.id
        where (b.status, b.name, b.tags, b.description, b.seller_id, b.category_id, b.delivery_type, b.price_micros)
            is distinct from
            (w.status, w.name, w.tags, w.description, w.seller_id, w.category_id, w.delivery_type, w.price_micros)
    ), gone as (
        delete from listing_search s using changed c where s.listing_id = c.id and c.has is null
    ), here as (
        insert into listing_search (listing_id, price_micros, calls_30d, rating_order, words)
        select c.id, c.price_micros, s.calls_30d, s.rating_order, c.has
        from changed c join listing_stats s on s.listing_id = c.id where c.has is not null
        on conflict (listing_id) do update set price_micros = excluded.price_micros, words = excluded.words
    )
    insert into search_word (word, listings)
    select word, sum(listings) from (
        select only_words(has) as word, 1 as listings from changed
        union all select only_words(had), -1 from changed
    ) counted group by 1 having sum(listings) <> 0 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;

    update listing_stats s set marks = l.marks
    from becomes b join listing_search l on l.listing_id = b.id
    where s.listing_id = b.id and s.marks <> l.marks;
    return null;
end
$$;

-- Its row of words went with it already, but what it said has not been forgotten.
create or replace function listing_is_gone() returns trigger language plpgsql as $$
begin
    update category c set listing_count = c.listing_count - less.listings
    from (
        select category_id, count(*) as listings from was
        where status = 'active' and category_id is not null group by 1
    ) less where c.id = less.category_id;

    insert into search_word (word, listings)
    select word, -count(*) from was, only_words(
        search_words(name, tags, description, seller_id, category_id, delivery_type, pricing_model)
    ) as word
    where status = 'active' group by 1 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;
    return null;
end
$$;

-- --- following calls and reviews --------------------------------------------------------------

create function listing_stats_are_other() returns trigger language plpgsql as $$
begin
    update listing_search l set calls_30d = b.calls_30d, rating_order = b.rating_order
    from becomes b join was w using (listing_id)
    where l.listing_id = b.listing_id
        and (b.calls_30d, b.rating_order) is distinct from (w.calls_30d, w.rating_order);
    return null;
end
$$;
create trigger listing_stats_are_other after update on listing_stats
    referencing old table as was new table as becomes
    for each statement execute function listing_stats_are_other();
