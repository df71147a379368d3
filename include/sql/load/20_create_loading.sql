-- 20_create_loading.sql: the batches of this load, as their receipts tell of them.
-- gap_seconds: arrivals that retention took before the batch, null where none, 0 where nobody can tell how many.
create temp table loading (
    batch_id varchar(64) not null,
    source varchar(64) not null,
    generation bigint not null,
    received bigint not null,
    quarantined bigint not null,
    repaired bigint not null,
    bytes bigint not null,
    first_arrival timestamp,
    last_arrival timestamp,
    gap_seconds bigint,
    quarantine_level varchar(16) not null,
    reasons varchar(8192) not null
)
diststyle all
