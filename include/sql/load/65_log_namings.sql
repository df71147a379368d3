-- 65_log_namings.sql: one message for each first naming, in the transaction that decides it, so never two and never none.
-- What came with an event becomes JSON by a cast to SUPER, whatever characters are in it.
insert into {{ schema }}.log ("timestamp", level, message, context, batch_id)
select
    sysdate as logged_at,
    'WARNING' as level,
    'New user: ' || n.user_id || ' -> ' || n.user_name as message,
    json_parse(
        '{"source": "{{ load.table }}"'
        || ', "user_id": ' || json_serialize(cast(n.user_id as super))
        || ', "user_name": ' || json_serialize(cast(n.user_name as super))
        || ', "message_id": ' || json_serialize(cast(n.message_id as super))
        || '}'
    ) as context,
    n.batch_id
from naming as n
