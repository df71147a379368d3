-- 80_write_book.sql: the new books of the batches of this load, counted from the tables, and those of other batches
-- whose rows changed their place. was_...: what the books held before, null where nothing.
-- Counted from the tables and not from staged and judged, though these would do without a scan: so 81_check_book.sql holds what
-- really stands there to what was received, and a join that doubled or dropped rows cannot pass.
-- The scan is of two columns, of the blocks of this load's arrivals.
-- Reads loading, judged, the target, duplicate and the books; writes book.
create temp table book as
with winner as (
    select
        t.batch_id,
        count(*) as events
    from {{ schema }}.{{ load.table }} as t
    where
        t.received_at between '{{ load.first_arrival }}' and '{{ load.last_arrival }}'
        and t.batch_id in (select l.batch_id from loading as l)
    group by t.batch_id
),

loser as (
    select
        d.batch_id,
        count(*) as events,
        sum(case when d.conflicting then 1 else 0 end) as conflicting
    from {{ schema }}.duplicate as d
    where
        d.received_at between '{{ load.first_arrival }}' and '{{ load.last_arrival }}'
        and d.source = '{{ load.table }}'
        and d.batch_id in (select l.batch_id from loading as l)
    group by d.batch_id
),

mover as (
    select
        j.batch_id,
        sum(case when j.wins then 1 when j.place = 'target' then -1 else 0 end) as won,
        sum(case when j.conflicting then 1 else 0 end) - sum(case when j.was_conflicting then 1 else 0 end) as conflicting
    from judged as j
    where j.place <> 'staged'
    group by j.batch_id
)

select
    l.batch_id,
    l.source,
    l.generation,
    l.received,
    coalesce(w.events, 0) as loaded,
    coalesce(r.events, 0) as duplicates,
    coalesce(r.conflicting, 0) as conflicting,
    l.quarantined,
    l.repaired,
    l.bytes,
    case when l.received > 0 then l.first_arrival end as first_arrival,
    case when l.received > 0 then l.last_arrival end as last_arrival,
    l.gap_seconds,
    coalesce(b.first_loaded_at, sysdate) as first_loaded_at,
    sysdate as loaded_at,
    cast('{{ load.name }}' as varchar(256)) as load_name,
    b.quarantined as was_quarantined,
    b.conflicting as was_conflicting,
    b.gap_seconds as was_gap_seconds,
    true as own
from loading as l
left join winner as w on l.batch_id = w.batch_id
left join loser as r on l.batch_id = r.batch_id
left join {{ schema }}.batch as b on l.batch_id = b.batch_id
union all
select
    b.batch_id,
    b.source,
    b.generation,
    b.received,
    b.loaded + m.won as loaded,
    b.duplicates - m.won as duplicates,
    b.conflicting + m.conflicting as conflicting,
    b.quarantined,
    b.repaired,
    b.bytes,
    b.first_arrival,
    b.last_arrival,
    b.gap_seconds,
    b.first_loaded_at,
    b.loaded_at,
    b.load_name,
    b.quarantined as was_quarantined,
    b.conflicting as was_conflicting,
    b.gap_seconds as was_gap_seconds,
    false as own
from {{ schema }}.batch as b
inner join mover as m on b.batch_id = m.batch_id
