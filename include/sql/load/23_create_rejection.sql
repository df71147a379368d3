-- 23_create_rejection.sql: quarantined events of the batches of this load, by reason.
create temp table rejection (
    batch_id varchar(64) not null,
    reason varchar(64) not null,
    events bigint not null
)
diststyle all
