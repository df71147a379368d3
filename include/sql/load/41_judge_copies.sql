-- 41_judge_copies.sql: which copies lose, and which neighbours therefore change their place.
-- A copy loses when another of the same message_id arrived at most dedup_days before it (by received_at, then batch,
-- then position); it conflicts when its content is not that of the first copy of their chain. Both depend on what came,
-- not on the order of loading. Neighbours that arrived before this load cannot change: no row of it stands before them.
-- Reads staged and neighbour; writes judged: staged rows that lose and neighbours that move. Who is not in it stays or wins.
-- Redshift compares VARCHAR without trailing blanks, so that 'm' and 'm ' meet in joins and GROUP BY; len counts the blanks and
-- keeps these two events apart. Where a table is only searched by message_id, some rows too many do no harm.
-- copies_here: how many rows stand at one position; more than one is an error, see 42_check_positions.sql.
create temp table judged distkey (message_id) as
with shared as (
    select s.message_id
    from staged as s
    group by s.message_id
    having count(*) > 1
    union all
    select n.message_id
    from neighbour as n
),

copied as (
    select
        s.message_id,
        s.received_at,
        s.batch_id,
        s.position,
        s.fingerprint,
        cast('staged' as varchar(16)) as place,
        false as was_conflicting
    from staged as s
    where s.message_id in (select x.message_id from shared as x)
    union all
    select
        n.message_id,
        n.received_at,
        n.batch_id,
        n.position,
        n.fingerprint,
        n.place,
        n.conflicting as was_conflicting
    from neighbour as n
),

spaced as (
    select
        c.message_id,
        c.received_at,
        c.batch_id,
        c.position,
        c.fingerprint,
        c.place,
        c.was_conflicting,
        case
            when
                lag(c.received_at) over (partition by c.message_id, len(c.message_id) order by c.received_at, c.batch_id, c.position)
                >= c.received_at - interval '{{ load.dedup_days }} days'
                then 0
            else 1
        end as leads
    from copied as c
),

chained as (
    select
        p.message_id,
        p.received_at,
        p.batch_id,
        p.position,
        p.fingerprint,
        p.place,
        p.was_conflicting,
        p.leads,
        sum(p.leads) over (
            partition by p.message_id, len(p.message_id) order by p.received_at, p.batch_id, p.position rows unbounded preceding
        ) as chain
    from spaced as p
),

compared as (
    select
        h.message_id,
        h.received_at,
        h.batch_id,
        h.position,
        h.place,
        h.was_conflicting,
        h.leads = 1 as wins,
        h.fingerprint <> first_value(h.fingerprint) over (
            partition by h.message_id, len(h.message_id), h.chain
            order by h.received_at, h.batch_id, h.position
            rows between unbounded preceding and current row
        ) as conflicting,
        count(*) over (partition by h.message_id, h.batch_id, h.position) as copies_here
    from chained as h
)

select
    j.message_id,
    j.received_at,
    j.batch_id,
    j.position,
    j.place,
    j.wins,
    j.conflicting,
    j.was_conflicting,
    j.copies_here
from compared as j
where
    (j.place = 'staged' and not j.wins)
    or (
        j.received_at >= '{{ load.first_arrival }}'
        and (
            (j.place = 'target' and not j.wins)
            or (j.place = 'duplicate' and (j.wins or j.conflicting <> j.was_conflicting))
        )
    )
