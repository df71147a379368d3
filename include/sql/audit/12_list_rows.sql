-- 12_list_rows.sql: which batches have rows, how many, and between which arrivals; also batches that nobody knows of.
-- Takes audit.source, audit.first_batch, audit.last_batch. Reads one column of the target and of duplicate, once an audit:
-- a row with a wrong arrival is to be found too, so no range of arrivals bounds it. Writes nothing.
select
    t.batch_id,
    count(*) as events,
    min(t.received_at) as first_arrival,
    max(t.received_at) as last_arrival
from {{ schema }}.{{ audit.source }} as t
where t.batch_id between '{{ audit.first_batch }}' and '{{ audit.last_batch }}'
group by t.batch_id
union all
select
    d.batch_id,
    count(*) as events,
    min(d.received_at) as first_arrival,
    max(d.received_at) as last_arrival
from {{ schema }}.duplicate as d
where
    d.source = '{{ audit.source }}'
    and d.batch_id between '{{ audit.first_batch }}' and '{{ audit.last_batch }}'
group by d.batch_id
