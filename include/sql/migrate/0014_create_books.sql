-- 0014: the books with their check: missing is 0 and balanced is true in every row, else something is wrong.
-- Runs again safely: it replaces the view.
create or replace view {{ schema }}.books as
select
    b.batch_id,
    b.source,
    b.received,
    b.loaded,
    b.duplicates,
    b.conflicting,
    b.quarantined,
    b.repaired,
    b.bytes,
    b.first_arrival,
    b.last_arrival,
    b.gap_seconds,
    b.first_loaded_at,
    b.loaded_at,
    b.load_name,
    b.generation,
    b.received - b.loaded - b.duplicates - b.quarantined as missing,
    b.received = b.loaded + b.duplicates + b.quarantined as balanced
from {{ schema }}.batch as b
