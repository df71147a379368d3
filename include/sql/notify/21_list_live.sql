-- 21_list_live.sql: claims that a notify run took and is still working off. While there is one, nobody else posts: order would be lost.
-- Takes claim.stale_seconds. Gives (claim_id).
select distinct g.claim_id
from {{ schema }}.log as g
where
    g.forwarded_at is null
    and g.claim_id is not null
    and g.claimed_at >= dateadd(second, -{{ claim.stale_seconds }}, sysdate)
