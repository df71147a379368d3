-- 82_log_quarantined.sql: one message for each batch with events in quarantine.
-- Runs again safely: where the books already held this count, it was said.
insert into {{ schema }}.log ("timestamp", level, message, context, batch_id)
select
    sysdate as logged_at,
    l.quarantine_level as level,
    'Quarantined ' || cast(l.quarantined as varchar) || ' of ' || cast(l.received as varchar)
    || ' events of ' || l.batch_id || ': '
    || translate(l.reasons, '{}"', '') as message,
    object(
        'source', l.source,
        'received', l.received,
        'quarantined', l.quarantined,
        'reasons', json_parse(l.reasons)
    ) as context,
    l.batch_id
from loading as l
inner join book as k on l.batch_id = k.batch_id
where
    l.quarantined > 0
    and l.quarantined <> coalesce(k.was_quarantined, 0)
