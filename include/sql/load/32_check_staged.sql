-- 32_check_staged.sql: what came is what transform staged: as many rows, of these batches, of these arrivals.
-- Fails with "CountMismatch: ...", "BatchMismatch: ..." or "ArrivalMismatch: ..."; the text is no integer.
-- A row outside the arrivals that this load states would be judged by half of its window.
select
    cast(
        case
            when count(*) <> {{ load.rows }}
                then 'CountMismatch: ' || cast(count(*) as varchar) || ' rows came, {{ load.rows }} were staged'
            when count(*) <> count(l.batch_id)
                then 'BatchMismatch: a staged row is of no batch of this load, but of ' || max(s.batch_id)
            when min(s.received_at) < '{{ load.first_arrival }}'
                then 'ArrivalMismatch: a row arrived ' || cast(min(s.received_at) as varchar)
            when max(s.received_at) > '{{ load.last_arrival }}'
                then 'ArrivalMismatch: a row arrived ' || cast(max(s.received_at) as varchar)
            else '0'
        end as int
    ) as wrong
from staged as s
left join loading as l on s.batch_id = l.batch_id
