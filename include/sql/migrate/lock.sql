-- lock.sql: one migration at a time; the other waits here. Held until COMMIT.
-- First in its transaction: under snapshot isolation what is read after it is what the other has left.
lock {{ schema }}.migration
