-- 20_list_stale.sql: claims that a notify run took and did not finish: it died, or waits too long.
-- For each: see whether its messages are in the channel, mark those forwarded (50), release the rest (60).
-- Takes claim.stale_seconds. Gives (claim_id, claimed_at, first, last): the claim and the positions not forwarded yet.
-- The clock is that of Redshift alone.
select
    g.claim_id,
    min(g.claimed_at) as claimed_at,
    min(g.claim_position) as first_position,
    max(g.claim_position) as last_position
from {{ schema }}.log as g
where
    g.forwarded_at is null
    and g.claimed_at < dateadd(second, -{{ claim.stale_seconds }}, sysdate)
group by g.claim_id
order by claimed_at, g.claim_id
