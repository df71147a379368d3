-- 11_list_rejected.sql: quarantined events of these batches by reason, as the tables have them.
-- Takes audit.source, audit.first_batch, audit.last_batch. Reads rejected; writes nothing.
select
    r.batch_id,
    r.reason,
    r.events
from {{ schema }}.rejected as r
where
    r.source = '{{ audit.source }}'
    and r.batch_id between '{{ audit.first_batch }}' and '{{ audit.last_batch }}'
order by
    r.batch_id,
    r.reason
