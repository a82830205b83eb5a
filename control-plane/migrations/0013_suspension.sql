-- What an operator withdraws, so that she can give back exactly what she took: a listing returns to what
-- its owner had it at, and a seller's listings return with her, but for those withdrawn by themselves.

alter table profile add column selling_suspended_at timestamptz;
comment on column profile.selling_suspended_at is 'Since when an operator lets this profile sell nothing. Its listings are suspended, and it makes no new one.';

alter table listing
    add column owner_status text
        constraint listing_owner_status check (owner_status in ('active', 'suspended')),
    add column suspended_with_seller boolean not null default false;
comment on column listing.suspended_by_operator is 'Whether an operator withdrew it: then its owner cannot make it active.';
comment on column listing.owner_status is 'While an operator withdraws it: what its owner had it at, or has asked for since. Null for a draft.';
comment on column listing.suspended_with_seller is 'Whether it was withdrawn because its seller was, and so returns with her.';
