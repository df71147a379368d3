-- 88_insert_rejected.sql: quarantined events by reason. The row of rejection that is of no batch stays out.
-- Reads rejection and loading; writes rejected.
insert into {{ schema }}.rejected (batch_id, source, reason, events, first_arrival, last_arrival)
select
    r.batch_id,
    l.source,
    r.reason,
    r.events,
    l.first_arrival,
    l.last_arrival
from rejection as r
inner join loading as l on r.batch_id = l.batch_id
