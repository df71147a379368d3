-- 82_log_quarantined.sql: one message for each batch with events in quarantine.
-- Runs again safely: where the books already held this count, it was said.
insert into {{ schema }}.log ("timestamp", level, message, context, batch_id)
select
    sysdate as logged_at,
    l.quarantine_level as level,
    'Quarantined ' || cast(l.quarantined as varchar) || ' of ' || cast(l.received as varchar)
    || ' events of ' || l.batch_id || ': '
    || left(translate(l.reasons, '{}"', ''), 3000) as message,
    json_parse(
        '{"source": "' || l.source || '"'
        || ', "received": ' || cast(l.received as varchar)
        || ', "quarantined": ' || cast(l.quarantined as varchar)
        || ', "reasons": ' || l.reasons
        || '}'
    ) as context,
    l.batch_id
from loading as l
inner join book as k on l.batch_id = k.batch_id
where
    l.quarantined > 0
    and l.quarantined <> coalesce(k.was_quarantined, 0)
