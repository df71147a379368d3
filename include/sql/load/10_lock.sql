-- 10_lock.sql: loads of both sources follow one another. First of all statements: under snapshot isolation
-- whatever is read after it is what the load before has left. Nobody reads this table, so no reader waits.
lock {{ schema }}.loader
