-- 0008: the outbox of messages to people; notify forwards every row to Slack once.
-- id tells rows apart; IDENTITY has gaps and is not in order, so rows are read by timestamp, then id.
-- claim_id, claimed_at, claim_position: which notify run has the row, since when, and as its how-manieth.
-- Runs again safely: it does nothing where the table is there.
create table if not exists {{ schema }}.log (
    id bigint identity (1, 1) not null,
    "timestamp" timestamp not null,
    level varchar(16) not null,
    message varchar(4096) not null,
    context super,
    batch_id varchar(64),
    claim_id varchar(64),
    claimed_at timestamp,
    claim_position int,
    forwarded_at timestamp
)
diststyle even compound sortkey ("timestamp")
