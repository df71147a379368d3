-- 0009: the books, one row a batch: received = loaded + duplicates + quarantined, in events.
-- Of the duplicates, conflicting differ in content from the copy that won; of the loaded and duplicates, repaired were mended.
-- bytes are those of the raw objects, decompressed. generation tells a transform of the batch from an older one.
-- gap_seconds: arrivals that retention took before the batch was drained, null where none, 0 where nobody can tell how many.
-- first_loaded_at stays when a batch is loaded again; loaded_at and load_name are those of its last load.
-- DISTKEY and SORTKEY on batch_id, by which each load looks its batches up.
-- Runs again safely: it does nothing where the table is there.
create table if not exists {{ schema }}.batch (
    batch_id varchar(64) not null,
    source varchar(64) not null,
    generation bigint not null,
    received bigint not null,
    loaded bigint not null,
    duplicates bigint not null,
    conflicting bigint not null,
    quarantined bigint not null,
    repaired bigint not null,
    bytes bigint not null,
    first_arrival timestamp,
    last_arrival timestamp,
    gap_seconds bigint,
    first_loaded_at timestamp not null,
    loaded_at timestamp not null,
    load_name varchar(256) not null
)
diststyle key distkey (batch_id) compound sortkey (batch_id)
