-- 83_log_conflicting.sql: one message for each batch with copies whose content is not that of the copy that won.
-- Runs again safely: where the books already held this count, it was said.
insert into {{ schema }}.log ("timestamp", level, message, context, batch_id)
select
    sysdate as logged_at,
    'WARNING' as level,
    'Conflicting duplicates: ' || cast(k.conflicting as varchar) || ' of ' || cast(k.received as varchar)
    || ' events of ' || k.batch_id || ' repeat a messageId with other contents' as message,
    json_parse(
        '{"source": "' || k.source || '"'
        || ', "received": ' || cast(k.received as varchar)
        || ', "duplicates": ' || cast(k.duplicates as varchar)
        || ', "conflicting": ' || cast(k.conflicting as varchar)
        || '}'
    ) as context,
    k.batch_id
from book as k
where
    k.conflicting > 0
    and k.conflicting <> coalesce(k.was_conflicting, 0)
