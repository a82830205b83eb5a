-- The sweep of the provider's records reads what is new, and once more what may have appeared late: with one
-- cursor it read the last minute again at every turn, and could not move on when that was more than a turn reads.
alter table provider_cursor add column settled timestamptz;
comment on column provider_cursor.position is 'What changed at the provider before was read.';
comment on column provider_cursor.settled is 'What changed before was read a minute or more afterwards, when all of it was there. Null until the first turn has noted it.';
