-- 0011: quarantined events by source, day of arrival (UTC, the first of their batch) and reason.
-- Runs again safely: it replaces the view.
create or replace view {{ schema }}.rejected_by_day as
select
    r.source,
    cast(r.first_arrival as date) as day,
    r.reason,
    cast(sum(r.events) as bigint) as events,
    count(*) as batches
from {{ schema }}.rejected as r
group by r.source, cast(r.first_arrival as date), r.reason
