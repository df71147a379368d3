-- 50_forward.sql: Slack has accepted a message; its rows are done for good. COMMIT before the next message is posted.
-- Takes claim.id, claim.first and claim.last: the positions of the rows in the message.
-- Changes nothing where another run has taken the claim over. Runs again safely.
update {{ schema }}.log
set forwarded_at = sysdate
where
    log.claim_id = '{{ claim.id }}'
    and log.claim_position between {{ claim.first }} and {{ claim.last }}
    and log.forwarded_at is null
