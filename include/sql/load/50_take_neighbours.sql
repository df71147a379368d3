-- 50_take_neighbours.sql: neighbours that change their place go by way of staged, as if they had come with this load.
-- Reads judged, the target and duplicate; writes staged.
insert into staged (
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
    t.message_id,
    t.received_at,
    t."timestamp",
    t.original_timestamp,
    t.sent_at,
    t.type,
    t.event,
    t.name,
    t.user_id,
    t.anonymous_id,
    t.user_name,
    t.previous_id,
    t.group_id,
    t.properties,
    t.traits,
    t.context,
    t.integrations,
    t.extra,
    t.fingerprint,
    t.batch_id,
    t.position,
    t.repairs
from {{ schema }}.{{ load.table }} as t
inner join judged as j
    on
        t.message_id = j.message_id
        and t.batch_id = j.batch_id
        and t.position = j.position
where
    j.place = 'target'
    and t.received_at between '{{ load.first_arrival }}' and '{{ load.window_end }}'
union all
select
    d.message_id,
    d.received_at,
    d."timestamp",
    d.original_timestamp,
    d.sent_at,
    d.type,
    d.event,
    d.name,
    d.user_id,
    d.anonymous_id,
    d.user_name,
    d.previous_id,
    d.group_id,
    d.properties,
    d.traits,
    d.context,
    d.integrations,
    d.extra,
    d.fingerprint,
    d.batch_id,
    d.position,
    d.repairs
from {{ schema }}.duplicate as d
inner join judged as j
    on
        d.message_id = j.message_id
        and d.batch_id = j.batch_id
        and d.position = j.position
where
    j.place = 'duplicate'
    and d.source = '{{ load.table }}'
    and d.received_at between '{{ load.first_arrival }}' and '{{ load.window_end }}'
