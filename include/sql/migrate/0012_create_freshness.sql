-- 0012: how old the newest event in the tables is, by source.
-- Runs again safely: it replaces the view.
create or replace view {{ schema }}.freshness as
select
    b.source,
    max(b.last_arrival) as newest_arrival,
    datediff(second, max(b.last_arrival), sysdate) as age_seconds,
    max(b.loaded_at) as last_load
from {{ schema }}.batch as b
group by b.source
