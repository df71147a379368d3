-- 62_log_namings.sql: one message for each first naming, in the transaction that decides it, so never two and never none.
insert into {{ schema }}.log ("timestamp", level, message, context, batch_id)
select
    sysdate as logged_at,
    'WARNING' as level,
    'New user: ' || n.user_id || ' -> ' || n.user_name as message,
    object(
        'user_id', n.user_id,
        'user_name', n.user_name,
        'source', '{{ load.table }}',
        'message_id', n.message_id
    ) as context,
    n.batch_id
from naming as n
