-- 70_insert_target.sql: the rows that win. The registry decides the name of a row whose source is translated.
-- person and naming hold the registry's names of all users of this load: the old ones and those that it has just added.
-- Reads staged, person and naming; writes the target.
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
    case when s.user_name is not null then coalesce(p.user_name, n.user_name) end as user_name,
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
left join person as p
    on
        s.user_id = p.user_id
        and len(s.user_id) = len(p.user_id)
left join naming as n
    on
        s.user_id = n.user_id
        and len(s.user_id) = len(n.user_id)
