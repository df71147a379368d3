-- 90_report.sql: the books of the batches of this load, as the task logs them once they are committed.
select
    k.batch_id,
    k.received,
    k.loaded,
    k.duplicates,
    k.conflicting,
    k.quarantined
from book as k
where k.own
order by k.batch_id
