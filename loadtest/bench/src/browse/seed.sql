-- Listings $1 to $2, an id each in the order of time. Triggers do the rest, as for any listing.
insert into listing
    (id, slug, seller_id, name, description, category_id, tags, pricing_model, price_micros,
     delivery_type, status, was_active)
select
    ('0190a000-' || lpad(to_hex(n >> 16), 4, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
    'listing-' || n,
    ('0190b000-0000-7000-8000-' || lpad(to_hex(floor(power(1000, random()))::integer), 12, '0'))::uuid,
    initcap(bench_words(3)),
    bench_words(12),
    case when random() < 0.95 then
        ('0190a000-0000-7000-8000-' || lpad(to_hex(1 + floor(10 * random() * random())::integer), 12, '0'))::uuid
    end,
    array[bench_words(1), bench_words(1)],
    case when n % 10 = 0 then 'free' else 'per_call' end,
    case when n % 10 = 0 then 0 else floor(1000 * power(100000, random()))::bigint end,
    (array['api', 'api', 'api', 'api', 'webhook', 'webhook', 'streaming', 'batch', 'batch', 'file'])[1 + floor(10 * random())::integer],
    'active',
    true
from generate_series($1::integer, $2::integer) n
