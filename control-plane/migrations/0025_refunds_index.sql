-- no-transaction
-- Refunds due are few among all requests. By the reason, which claims and deliveries leave alone, and not by the state:
-- a column that an index looks at would end the heap-only updates of every call. By itself and concurrently,
-- so that no call waits for it.
create index concurrently if not exists gateway_request_refund on gateway_request (id)
    where closed_reason in ('paid_otherwise_than_quoted', 'never_redelivered', 'attempts_used', 'time_over');
