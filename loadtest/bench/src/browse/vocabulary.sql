-- Words and choices from which listings are made up: a few common words, many rare ones (a word's
-- share falls with its rank, as in written language), and filters that are as uneven as real ones.

create function bench_word(rank integer) returns text language sql immutable as $$
    select case when rank < 40 then (array[
        'weather', 'translate', 'image', 'search', 'audio', 'summary', 'market', 'price', 'document', 'video',
        'speech', 'vector', 'language', 'code', 'review', 'invoice', 'address', 'contract', 'news', 'map',
        'route', 'chart', 'email', 'calendar', 'forecast', 'sentiment', 'entity', 'crawler', 'browser', 'ledger',
        'wallet', 'token', 'risk', 'fraud', 'identity', 'medical', 'legal', 'recipe', 'travel', 'sensor'
    ])[rank + 1]
    else (
        select string_agg(substr('babebibobudadedidodufafefifofugagegigogukakekikokulalelilolumamemimomunaneninonu'
            || 'paperiposuraretirotusasesiposutatevivowuvavezizozuwawexixoxuyayeyuyoyizazejijoju', 2 * ((rank / step) % 80) + 1, 2), '')
        from unnest(array[1, 80, 6400]) as step
    ) end
$$;

-- A rank whose share is the inverse of it.
create function bench_rank() returns integer language sql volatile as $$
    select floor(power(20000, random()))::integer - 1
$$;

create function bench_words(count integer) returns text language sql volatile as $$
    select string_agg(bench_word(bench_rank()), ' ') from generate_series(1, count)
$$;
