-- 0003: the lock that loads and claims take before anything else. It holds no rows, nobody reads it.
-- LOCK is ACCESS EXCLUSIVE in Redshift: taken on a table that is read, it would make readers wait.
-- Runs again safely: it does nothing where the table is there.
create table if not exists {{ schema }}.loader (
    nothing smallint
)
diststyle all
