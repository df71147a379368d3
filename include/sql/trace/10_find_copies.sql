-- 10_find_copies.sql: where the copies of an event stand. The message_id is bound by the driver (trace.message_id is a placeholder):
-- it came from a person or from an event. DISTKEY(message_id): one slice looks.
-- Reads the target and duplicate; writes nothing.
select
    t.message_id,
    t.received_at,
    t.batch_id,
    t.position,
    t.fingerprint,
    t.repairs,
    t.user_id,
    t.user_name,
    true as wins,
    false as conflicting
from {{ schema }}.{{ trace.source }} as t
where t.message_id = {{ trace.message_id }}
union all
select
    d.message_id,
    d.received_at,
    d.batch_id,
    d.position,
    d.fingerprint,
    d.repairs,
    d.user_id,
    d.user_name,
    false as wins,
    d.conflicting
from {{ schema }}.duplicate as d
where
    d.source = '{{ trace.source }}'
    and d.message_id = {{ trace.message_id }}
order by
    2,
    3,
    4
