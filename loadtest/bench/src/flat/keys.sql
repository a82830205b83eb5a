-- Agents $1 to $2, each with a key whose text nobody has: digests are spread over the whole index, as real ones are.
with agent as materialized (
    select n, ('0190c000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid as id
    from generate_series($1::integer, $2::integer) n
), profiles as (
    insert into profile (id, account_type, display_name)
    select id, 'agent', 'Buyer ' || n from agent
)
insert into api_key (id, profile_id, name, prefix, digest)
select ('0190d000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, id, 'default',
    'am_k_' || left(md5(n::text), 7), sha256(n::text::bytea)
from agent
