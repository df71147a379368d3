-- 30_read_copies.sql: copies of the events of a batch, of those of which there are several, or of which one stands in duplicate.
-- Together with all copies that arrived in the dedup window before them: by these it is judged which copy should win.
-- len: VARCHAR compares without trailing blanks; 'm' and 'm ' are two events, and each stands together.
-- Takes audit.source, audit.batch, audit.first_arrival, audit.last_arrival, audit.window_start, audit.first_row, audit.last_row.
-- Reads the target and duplicate; writes nothing.
with own as (
    select t.message_id
    from {{ schema }}.{{ audit.source }} as t
    where
        t.batch_id = '{{ audit.batch }}'
        and t.received_at between '{{ audit.first_arrival }}' and '{{ audit.last_arrival }}'
    union all
    select d.message_id
    from {{ schema }}.duplicate as d
    where
        d.batch_id = '{{ audit.batch }}'
        and d.source = '{{ audit.source }}'
        and d.received_at between '{{ audit.first_arrival }}' and '{{ audit.last_arrival }}'
),

copied as (
    select
        t.message_id,
        t.received_at,
        t.batch_id,
        t.position,
        t.fingerprint,
        true as wins,
        false as conflicting
    from {{ schema }}.{{ audit.source }} as t
    where
        t.received_at between '{{ audit.window_start }}' and '{{ audit.last_arrival }}'
        and t.message_id in (select o.message_id from own as o)
    union all
    select
        d.message_id,
        d.received_at,
        d.batch_id,
        d.position,
        d.fingerprint,
        false as wins,
        d.conflicting
    from {{ schema }}.duplicate as d
    where
        d.source = '{{ audit.source }}'
        and d.received_at between '{{ audit.window_start }}' and '{{ audit.last_arrival }}'
        and d.message_id in (select o.message_id from own as o)
),

shared as (
    select c.message_id
    from copied as c
    group by c.message_id
    having count(*) > 1 or sum(case when c.wins then 0 else 1 end) > 0
),

numbered as (
    select
        c.message_id,
        c.received_at,
        c.batch_id,
        c.position,
        c.fingerprint,
        c.wins,
        c.conflicting,
        row_number() over (order by c.message_id, len(c.message_id), c.received_at, c.batch_id, c.position, c.fingerprint) as place
    from copied as c
    where c.message_id in (select s.message_id from shared as s)
)

select
    n.message_id,
    n.received_at,
    n.batch_id,
    n.position,
    n.fingerprint,
    n.wins,
    n.conflicting
from numbered as n
where n.place between {{ audit.first_row }} and {{ audit.last_row }}
order by n.place
