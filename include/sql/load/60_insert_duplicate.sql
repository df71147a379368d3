-- 60_insert_duplicate.sql: the rows that lose.
-- Reads staged and judged; writes duplicate.
insert into {{ schema }}.duplicate (
    source,
    conflicting,
    message_id,
    received_at,
    "timestamp",
    original_timestamp,
    sent_at,
    type,
    event,
    name,
    user_id,
    anonymous_id,
    user_name,
    previous_id,
    group_id,
    properties,
    traits,
    context,
    integrations,
    extra,
    fingerprint,
    batch_id,
    position,
    repairs
)
select
    '{{ load.table }}' as source,
    j.conflicting,
    s.message_id,
    s.received_at,
    s."timestamp",
    s.original_timestamp,
    s.sent_at,
    s.type,
    s.event,
    s.name,
    s.user_id,
    s.anonymous_id,
    s.user_name,
    s.previous_id,
    s.group_id,
    s.properties,
    s.traits,
    s.context,
    s.integrations,
    s.extra,
    s.fingerprint,
    s.batch_id,
    s.position,
    s.repairs
from staged as s
inner join judged as j
    on
        s.message_id = j.message_id
        and s.batch_id = j.batch_id
        and s.position = j.position
where not j.wins
