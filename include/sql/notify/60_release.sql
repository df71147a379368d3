-- 60_release.sql: give the rows of a claim that were not forwarded back; the next claim takes them.
-- Takes claim.id. Runs again safely.
update {{ schema }}.log
set
    claim_id = null,
    claimed_at = null,
    claim_position = null
where
    log.claim_id = '{{ claim.id }}'
    and log.forwarded_at is null
