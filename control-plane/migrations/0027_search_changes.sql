-- How many listings match a search is remembered until one of its words is in other listings: until its row of `search_word`
-- is another (its `xmin`). So that row is written also when as many gain the word as lose it in one statement.
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
        select word, sum(listings) as listings from (
            select id, only_words(has) as word, 1 as listings from changed
            union all select id, only_words(had), -1 from changed
        ) one group by id, word having sum(listings) <> 0
    ) counted group by 1 order by 1
    on conflict (word) do update set listings = search_word.listings + excluded.listings;

    update listing_stats s set marks = l.marks
    from becomes b join listing_search l on l.listing_id = b.id
    where s.listing_id = b.id and s.marks <> l.marks;
    return null;
end
$$;
