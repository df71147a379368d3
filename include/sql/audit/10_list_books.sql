-- 10_list_books.sql: what the books say of some batches: of one, or of all whose ids lie between two texts.
-- Takes audit.source, audit.first_batch, audit.last_batch. Reads the books; writes nothing.
select
    b.batch_id,
    b.received,
    b.loaded,
    b.duplicates,
    b.conflicting,
    b.quarantined,
    b.repaired,
    b.bytes,
    b.first_arrival,
    b.last_arrival
from {{ schema }}.batch as b
where
    b.source = '{{ audit.source }}'
    and b.batch_id between '{{ audit.first_batch }}' and '{{ audit.last_batch }}'
order by b.batch_id
