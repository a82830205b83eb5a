-- no-transaction
-- What the provider told and is not in evidence yet. By itself and concurrently, so that no payment waits for it.
create index concurrently if not exists provider_success_open on provider_success (seen_at) where not evidenced;
