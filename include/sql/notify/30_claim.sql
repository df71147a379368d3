-- 30_claim.sql: take the oldest rows that nobody has, and number them; behind 10_lock.sql, then COMMIT before posting.
-- A row whose claim is stale counts as nobody's: work off 20_list_stale.sql first, or a message may be posted twice.
-- Takes claim.id (new for every claim), claim.max_rows, claim.stale_seconds.
update {{ schema }}.log
set
    claim_id = '{{ claim.id }}',
    claimed_at = sysdate,
    claim_position = w.place
from (
    select
        g.id,
        row_number() over (order by g."timestamp", g.id) as place
    from {{ schema }}.log as g
    where
        g.forwarded_at is null
        and (g.claim_id is null or g.claimed_at < dateadd(second, -{{ claim.stale_seconds }}, sysdate))
) as w
where
    log.id = w.id
    and w.place <= {{ claim.max_rows }}
