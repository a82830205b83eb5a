-- Humans: accounts of people, their browser sessions, and the agents they have claimed.

create table human (
    profile_id uuid primary key references profile (id),
    email text not null,
    email_folded text not null,
    password_hash text not null,
    created_at timestamptz not null default now(),
    constraint human_email_once unique (email_folded)
);
comment on table human is 'How a person signs in. What is shown of her is her profile.';
comment on column human.email is 'As she wrote it, trimmed: what mail is sent to.';
comment on column human.email_folded is 'In lower case: addresses compare case-insensitively.';
comment on column human.password_hash is 'Argon2id, as a PHC string with its own parameters and salt.';

create table session (
    digest bytea primary key,
    data jsonb not null,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    constraint session_digest_length check (octet_length(digest) = 32)
);
create index session_expiry on session (expires_at);
comment on table session is 'Who is signed in. Rows are deleted at sign-out, and a while after they expire.';
comment on column session.digest is 'SHA-256 of the session id. The id itself, which the cookie carries, is stored nowhere.';
comment on column session.data is 'What the session knows: the human''s profile.';

create index profile_claimed_by on profile (claimed_by) where claimed_by is not null;
