-- 10_lock.sql: one claim at a time, behind the lock that loads take too. First in its transaction, held until COMMIT.
-- Takes schema.
lock {{ schema }}.loader
