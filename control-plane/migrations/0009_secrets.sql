-- Secrets that were replaced and still sign, as many as were promised; where counting goes on; and
-- what a search may be narrowed by, beside its words.

create table previous_secret (
    listing_id uuid not null references endpoint (listing_id) on delete cascade,
    rotated_at timestamptz not null,
    secret_sealed bytea not null,
    expires_at timestamptz not null,
    primary key (listing_id, rotated_at)
);
comment on table previous_secret is 'Signing secrets that were replaced, each until the hour it was promised to sign to.';
comment on column previous_secret.secret_sealed is 'Sealed under the master key, bound to `endpoint`, its row and `previous_secret_sealed`: where the one of them was kept before.';
insert into previous_secret (listing_id, rotated_at, secret_sealed, expires_at)
select listing_id, secret_rotated_at, previous_secret_sealed, previous_secret_expires_at
from endpoint where previous_secret_sealed is not null and previous_secret_expires_at > now();
alter table endpoint drop column previous_secret_sealed, drop column previous_secret_expires_at;

alter table call_fold rename column folded_at to since;
alter table call_fold
    add column mark xid8 not null default '0',
    add column mark_at timestamptz not null default '-infinity';
comment on column call_fold.since is 'No transaction from the horizon on was given its number before this time.';
comment on column call_fold.mark is 'The number that the next transaction had at `mark_at`: once the horizon is there, `since` is `mark_at`.';

-- A search that is narrowed by what stands in the same index reads nothing else to be counted.
drop index listing_by_word;
alter table listing drop column words;
drop function listing_words;
create function listing_words(
    name text, tags text[], description text, category_id uuid, delivery_type text, pricing_model text
) returns tsvector language sql immutable parallel safe as $$
    select strip(
        to_tsvector('pg_catalog.simple', plain_words(name || ' ' || array_to_string(tags, ' ')))
        || to_tsvector('pg_catalog.english', plain_words(name || ' ' || array_to_string(tags, ' ') || ' ' || description))
        || array_to_tsvector(array_remove(
            array['/c/' || category_id, '/d/' || delivery_type, '/p/' || pricing_model], null
        ))
    )
$$;
comment on function listing_words is 'What a listing is found by: stems of all its text, the words of name and tags as they stand, and its category, delivery type and pricing model. The last three begin with a slash, as no word does.';
alter table listing add column words tsvector not null
    generated always as (listing_words(name, tags, description, category_id, delivery_type, pricing_model)) stored;
create index listing_by_word on listing using gin (words) with (fastupdate = off) where status = 'active';

create function only_words(words tsvector) returns setof text language sql immutable parallel safe as $$
    select word from unnest(tsvector_to_array(words)) as word where word !~ '^/'
$$;
comment on function only_words is 'The words of what a listing is found by, without the rest.';

create or replace function listing_is_new() returns trigger language plpgsql as $$
begin
    insert into listing_stats (listing_id, active, seller_id, category_id, delivery_type, price_micros)
    select id, status = 'active', seller_id, category_id, delivery_type, price_micros from becomes;

    update category c set listing_count = c.listing_count + more.listings
    from (
        select category_id, count(*) as listings from becomes
        where status = 'active' and category_id is not null group by 1
    ) more where c.id = more.category_id;

    insert into search_word (word, listings)
    select word, count(*) from becomes, only_words(words) as word
    where status = 'active' group by 1 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;
    return null;
end
$$;

create or replace function listing_is_other() returns trigger language plpgsql as $$
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
        select only_words(b.words) as word, 1 as listings
        from becomes b join was w using (id)
        where b.status = 'active' and (w.status <> 'active' or w.words <> b.words)
        union all
        select only_words(w.words), -1
        from becomes b join was w using (id)
        where w.status = 'active' and (b.status <> 'active' or w.words <> b.words)
    ) counted group by 1 having sum(listings) <> 0 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;
    return null;
end
$$;

create or replace function listing_is_gone() returns trigger language plpgsql as $$
begin
    update category c set listing_count = c.listing_count - less.listings
    from (
        select category_id, count(*) as listings from was
        where status = 'active' and category_id is not null group by 1
    ) less where c.id = less.category_id;

    insert into search_word (word, listings)
    select word, -count(*) from was, only_words(words) as word
    where status = 'active' group by 1 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;
    return null;
end
$$;
