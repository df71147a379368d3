-- 64_register_namings.sql: from here on these names are decided and never change.
-- Runs again safely: a user in the registry is not in naming.
insert into {{ schema }}.user_name (user_id, user_name, named_at, batch_id, message_id)
select
    n.user_id,
    n.user_name,
    sysdate as named_at,
    n.batch_id,
    n.message_id
from naming as n
