-- 40_find_neighbours.sql: copies that other batches hold of the events that this load brings or takes away.
-- Reads staged, the target and duplicate; writes neighbour. The ends of the window are constants, so that
-- Redshift reads only the blocks of these days.
create temp table neighbour distkey (message_id) as
with touched as (
    select s.message_id
    from staged as s
    union all
    select t.message_id
    from {{ schema }}.{{ load.table }} as t
    where
        t.received_at between '{{ load.first_arrival }}' and '{{ load.last_arrival }}'
        and t.batch_id in (select l.batch_id from loading as l)
    union all
    select d.message_id
    from {{ schema }}.duplicate as d
    where
        d.received_at between '{{ load.first_arrival }}' and '{{ load.last_arrival }}'
        and d.source = '{{ load.table }}'
        and d.batch_id in (select l.batch_id from loading as l)
)

select
    t.message_id,
    t.received_at,
    t.batch_id,
    t.position,
    t.fingerprint,
    cast('target' as varchar(16)) as place,
    false as conflicting
from {{ schema }}.{{ load.table }} as t
where
    t.received_at between '{{ load.window_start }}' and '{{ load.window_end }}'
    and t.batch_id not in (select l.batch_id from loading as l)
    and t.message_id in (select x.message_id from touched as x)
union all
select
    d.message_id,
    d.received_at,
    d.batch_id,
    d.position,
    d.fingerprint,
    cast('duplicate' as varchar(16)) as place,
    d.conflicting
from {{ schema }}.duplicate as d
where
    d.received_at between '{{ load.window_start }}' and '{{ load.window_end }}'
    and d.source = '{{ load.table }}'
    and d.batch_id not in (select l.batch_id from loading as l)
    and d.message_id in (select x.message_id from touched as x)
