-- 70_insert_target.sql: the rows that win. The registry decides the name of a row whose source is translated.
-- Reads staged, judged and the registry; writes the target.
insert into {{ schema }}.{{ load.table }} (
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
    case when s.user_name is not null then coalesce(u.user_name, s.user_name) end as user_name,
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
left join judged as j
    on
        s.message_id = j.message_id
        and s.batch_id = j.batch_id
        and s.position = j.position
left join {{ schema }}.user_name as u on s.user_id = u.user_id
where coalesce(j.wins, true)
