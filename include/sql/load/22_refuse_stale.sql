-- 22_refuse_stale.sql: a load that was given up and lives on must not undo the one that took its place,
-- and one that does not look where the batches' rows lie would leave them behind.
-- Fails with "StaleLoad: ..." where the books hold a newer generation of one of the batches, with "ArrivalMismatch: ..."
-- where they hold rows that arrived outside the range that this load states. The text is no integer: the cast raises it.
select
    cast(
        case
            when max(case when b.generation > l.generation then 1 else 0 end) = 1
                then
                    'StaleLoad: the books hold a newer transform of '
                    || min(case when b.generation > l.generation then b.batch_id end)
            when min(b.first_arrival) < '{{ load.first_arrival }}' or max(b.last_arrival) > '{{ load.last_arrival }}'
                then 'ArrivalMismatch: the books hold rows that arrived outside the range of this load, e.g. of ' || min(b.batch_id)
            else '0'
        end as int
    ) as refused
from {{ schema }}.batch as b
inner join loading as l on b.batch_id = l.batch_id
