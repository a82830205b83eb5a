-- no-transaction
-- Payments beyond a price. By itself and concurrently, so that no settlement waits for it.
create index concurrently if not exists transfer_surplus on transfer (request_id) where kind = 'surplus';
