-- 42_check_positions.sql: a copy is known by where it stood. Two rows at one position would both lose, and the event with them.
-- Fails with "PositionMismatch: ..."; the text is no integer.
-- Reads judged.
select
    cast(
        case
            when count(*) > 0
                then 'PositionMismatch: ' || cast(count(*) as varchar) || ' positions hold two staged rows, e.g. in ' || min(w.batch_id)
            else '0'
        end as int
    ) as doubled
from (
    select j.batch_id
    from judged as j
    where j.copies_here > 1
    group by j.message_id, j.batch_id, j.position
) as w
