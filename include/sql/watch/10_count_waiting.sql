-- 10_count_waiting.sql: log rows that Slack has not got, and for how many seconds the oldest of them has waited; null where none waits.
-- Takes schema. Gives (rows, seconds). Changes nothing; waits for nobody.
select
    count(*) as waiting,
    datediff(second, min(g."timestamp"), sysdate) as oldest_seconds
from {{ schema }}.log as g
where g.forwarded_at is null
