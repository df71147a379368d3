-- 86_insert_books.sql: the books of the batches of this load, and the corrected ones of others.
insert into {{ schema }}.batch (
    batch_id,
    source,
    generation,
    received,
    loaded,
    duplicates,
    conflicting,
    quarantined,
    repaired,
    bytes,
    first_arrival,
    last_arrival,
    gap_seconds,
    first_loaded_at,
    loaded_at,
    load_name
)
select
    k.batch_id,
    k.source,
    k.generation,
    k.received,
    k.loaded,
    k.duplicates,
    k.conflicting,
    k.quarantined,
    k.repaired,
    k.bytes,
    k.first_arrival,
    k.last_arrival,
    k.gap_seconds,
    k.first_loaded_at,
    k.loaded_at,
    k.load_name
from book as k
