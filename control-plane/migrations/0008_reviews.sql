-- Reviews: what buyers say of what they bought, and the Crochet Score.
--
-- The score stands on evidence that is folded here from what payments write anyway: `transfer` tells of
-- deliveries, `attempt` of failures. Payments write nothing for it, and nothing here is read on a call's way.

create table review (
    id uuid primary key,
    listing_id uuid not null references listing (id),
    reviewer_id uuid not null references profile (id),
    seller_id uuid not null references profile (id),
    accuracy smallint not null constraint review_accuracy check (accuracy between 1 and 5),
    reliability smallint not null constraint review_reliability check (reliability between 1 and 5),
    value smallint not null constraint review_value check (value between 1 and 5),
    total smallint not null generated always as (accuracy + reliability + value) stored,
    title text,
    comment text,
    created_at timestamptz not null,
    constraint review_once unique (listing_id, reviewer_id),
    constraint review_not_of_own_listing check (reviewer_id <> seller_id)
);
create index review_newest on review (listing_id, id desc);
create index review_highest on review (listing_id, total desc, id desc);
create index review_lowest on review (listing_id, total, id desc);
create index review_of_seller on review (seller_id, id desc);
comment on table review is 'One a buyer and listing, after a delivered call. Written once.';
comment on column review.total is 'Sum of the three ratings: three times the rating, exact.';

create table review_summary (
    listing_id uuid primary key references listing (id),
    accuracy_sum bigint not null,
    reliability_sum bigint not null,
    value_sum bigint not null,
    ones bigint not null,
    twos bigint not null,
    threes bigint not null,
    fours bigint not null,
    fives bigint not null
);
comment on table review_summary is 'Sums and counts over a listing''s reviews, kept in the transaction of each review.';
comment on column review_summary.ones is 'Reviews whose rating, to the nearest whole, is 1; and so on. Together they are all reviews.';

create table purchase (
    listing_id uuid not null,
    buyer_id uuid not null,
    last_delivered_at timestamptz not null,
    primary key (listing_id, buyer_id)
);
comment on table purchase is 'When a buyer was last delivered a call of a listing, as far as the fold has read.';

create table score_calls (
    seller_id uuid not null,
    buyer_id uuid not null,
    period integer not null,
    delivered integer not null,
    failed integer not null,
    primary key (seller_id, buyer_id, period)
);
create index score_calls_newest on score_calls (seller_id, period desc, buyer_id);
comment on table score_calls is 'How a seller''s calls ended, counted by buyer and period of 30 days, as far as the fold has read.';
comment on column score_calls.period is 'Whole periods of 30 days since 1970.';
comment on column score_calls.failed is 'Calls that the seller failed at least once, whatever became of them after.';

create table reputation (
    profile_id uuid primary key references profile (id),
    calls_delivered bigint not null default 0,
    calls_failed bigint not null default 0,
    distinct_buyers bigint not null default 0,
    first_call_at timestamptz,
    last_call_at timestamptz,
    first_delivered_at timestamptz,
    last_delivered_at timestamptz,
    reviews bigint not null default 0,
    rating_total bigint not null default 0,
    computed_at timestamptz,
    is_behind boolean not null default true,
    due_at timestamptz not null default now()
);
create index reputation_due on reputation (due_at);
comment on table reputation is 'What is known of an agent as a seller, in sums. An agent without a row is without evidence.';
comment on column reputation.distinct_buyers is 'Buyers with at least one delivered call.';
comment on column reputation.rating_total is 'Sum of review.total over the reviews.';
comment on column reputation.is_behind is 'Whether evidence came in after the newest snapshot was taken.';
comment on column reputation.due_at is 'When the score is to be computed again: soon after evidence, else a day after the last time.';

create table score_snapshot (
    profile_id uuid not null references profile (id),
    day date not null,
    computed_at timestamptz not null,
    score integer not null constraint score_snapshot_score check (score between 0 and 1000),
    reliability integer not null,
    accuracy integer not null,
    volume integer not null,
    longevity integer not null,
    reputation integer not null,
    calls_delivered bigint not null,
    calls_failed bigint not null,
    distinct_buyers bigint not null,
    reviews bigint not null,
    rating_total bigint not null,
    first_call_at timestamptz,
    last_call_at timestamptz,
    primary key (profile_id, day)
);
comment on table score_snapshot is 'The score at the end of each day, and the newest of today, with the evidence it was computed from. Old days are deleted.';

create table fold_cursor (
    name text primary key,
    position timestamptz not null
);
comment on table fold_cursor is 'How far finished calls are folded into purchase, score_calls and reputation. Moved in the transaction of the fold, so each call counts once.';
insert into fold_cursor (name, position)
    select 'calls', least(now(), (select min(created_at) from transfer), (select min(ended_at) from attempt));

-- Both tables grow at their end only, so a block range index finds the newest rows; unlike a B-tree it adds no
-- write to a settlement: a range is summarised once, by autovacuum, when it is full.
create index transfer_by_time on transfer using brin (created_at) with (autosummarize = on);
create index attempt_by_time on attempt using brin (ended_at) with (autosummarize = on);

create function least_id_at(moment timestamptz) returns uuid language sql immutable strict parallel safe as $$
    select (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
$$;
comment on function least_id_at is 'The least UUIDv7 of a millisecond: ids made since then are not below it.';
