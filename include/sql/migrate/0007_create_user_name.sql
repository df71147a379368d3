-- 0007: the registry: the name of each user, decided once, and the event that it was first given to.
-- DISTKEY and SORTKEY on user_id: it is only ever looked up by it.
-- Runs again safely: it does nothing where the table is there.
create table if not exists {{ schema }}.user_name (
    user_id varchar(256) not null,
    user_name varchar(256) not null,
    named_at timestamp not null,
    batch_id varchar(64) not null,
    message_id varchar(256) not null
)
diststyle key distkey (user_id) compound sortkey (user_id)
