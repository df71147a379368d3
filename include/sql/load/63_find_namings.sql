-- 63_find_namings.sql: the users whom the registry does not know, each with the name that its first row proposes.
-- Only rows of a user's first arrival are put in order: one a user, but for ties.
-- Reads staged and person; writes naming.
create temp table naming distkey (user_id) as
select
    f.user_id,
    f.user_name,
    f.batch_id,
    f.message_id
from (
    select
        s.user_id,
        s.user_name,
        s.batch_id,
        s.message_id,
        row_number() over (partition by s.user_id, len(s.user_id) order by s.batch_id, s.position) as place
    from staged as s
    inner join person as p
        on
            s.user_id = p.user_id
            and len(s.user_id) = len(p.user_id)
            and s.received_at = p.first_arrival
    where
        p.user_name is null
        and s.user_name is not null
) as f
where f.place = 1
