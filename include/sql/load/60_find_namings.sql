-- 60_find_namings.sql: users of winning rows whom the registry does not know, each with the name its first row proposes.
-- Rows of a source that is not translated propose none.
-- Reads staged, judged and the registry; writes naming.
create temp table naming as
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
        row_number() over (partition by s.user_id order by s.received_at, s.batch_id, s.position) as place
    from staged as s
    left join judged as j
        on
            s.message_id = j.message_id
            and s.batch_id = j.batch_id
            and s.position = j.position
    left join {{ schema }}.user_name as u on s.user_id = u.user_id
    where
        s.user_name is not null
        and s.user_id is not null
        and u.user_id is null
        and coalesce(j.wins, true)
) as f
where f.place = 1
