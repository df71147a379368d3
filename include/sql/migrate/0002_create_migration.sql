-- 0002: which migrations have been applied. lock.sql locks it, applied.sql reads it, record.sql writes it.
-- Runs again safely: it does nothing where the table is there.
create table if not exists {{ schema }}.migration (
    version varchar(16) not null,
    name varchar(256) not null,
    applied_at timestamp not null
)
diststyle all
