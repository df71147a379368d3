-- 40_read.sql: the rows of a claim that are not forwarded yet, in order.
-- Takes claim.id. Gives (claim_position, id, timestamp, level, message, batch_id).
select
    g.claim_position,
    g.id,
    g."timestamp",
    g.level,
    g.message,
    g.batch_id
from {{ schema }}.log as g
where
    g.claim_id = '{{ claim.id }}'
    and g.forwarded_at is null
order by g.claim_position
