-- 0010: quarantined events of each batch by reason; their bytes are in quarantine/ in the bucket.
-- first_arrival and last_arrival are those of the batch.
-- Runs again safely: it does nothing where the table is there.
create table if not exists {{ schema }}.rejected (
    batch_id varchar(64) not null,
    source varchar(64) not null,
    reason varchar(64) not null,
    events bigint not null,
    first_arrival timestamp,
    last_arrival timestamp
)
diststyle key distkey (batch_id) compound sortkey (batch_id)
