-- 20_read_rows.sql: some rows of a batch, in the order of their positions, each with the name that the registry has for its user.
-- Numbered, so that nothing is rendered that came with an event: a bound on positions would be.
-- Takes audit.source, audit.batch, audit.first_arrival, audit.last_arrival, audit.first_row, audit.last_row.
-- Reads the target and the registry; writes nothing.
select
    n.message_id,
    n.received_at,
    n."timestamp",
    n.original_timestamp,
    n.sent_at,
    n.type,
    n.event,
    n.name,
    n.user_id,
    n.anonymous_id,
    n.user_name,
    n.previous_id,
    n.group_id,
    n.properties,
    n.traits,
    n.context,
    n.integrations,
    n.extra,
    n.fingerprint,
    n.batch_id,
    n.position,
    n.repairs,
    n.conflicting,
    u.user_name as registered_name
from (
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
        t.repairs,
        false as conflicting,
        row_number() over (order by t.position, t.message_id, t.fingerprint) as place
    from {{ schema }}.{{ audit.source }} as t
    where
        t.batch_id = '{{ audit.batch }}'
        and t.received_at between '{{ audit.first_arrival }}' and '{{ audit.last_arrival }}'
) as n
left join {{ schema }}.user_name as u
    on
        n.user_id = u.user_id
        and len(n.user_id) = len(u.user_id)
where n.place between {{ audit.first_row }} and {{ audit.last_row }}
order by n.place
