-- 62_find_users.sql: the users of the rows that win, each with the name that the registry holds, null where it knows none, and the
-- arrival of the first row. The only look at the registry in a load, and each user is looked up once, not each row.
-- Rows of a source that is not translated propose no name and ask for none.
-- DISTKEY as the registry, so that they meet on one slice. len: VARCHAR compares without trailing blanks, see 41_judge_copies.sql;
-- a difference, so that user_id alone is hashed: len is then worked out where two ids have met, not for the whole registry.
-- Reads staged and the registry; writes person.
create temp table person distkey (user_id) as
select
    m.user_id,
    u.user_name,
    m.first_arrival
from (
    select
        s.user_id,
        min(s.received_at) as first_arrival
    from staged as s
    where
        s.user_name is not null
        and s.user_id is not null
    group by s.user_id, len(s.user_id)
) as m
left join {{ schema }}.user_name as u
    on
        m.user_id = u.user_id
        and len(m.user_id) - len(u.user_id) = 0
