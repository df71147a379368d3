-- 84_log_gaps.sql: one message for each batch before which retention took records: these are lost.
-- Runs again safely: where the books already held this gap, it was said.
insert into {{ schema }}.log ("timestamp", level, message, context, batch_id)
select
    sysdate as logged_at,
    'ERROR' as level,
    'Gap before ' || k.batch_id || ': the stream dropped records that nobody had read, '
    || case when k.gap_seconds > 0 then 'up to ' || cast(k.gap_seconds as varchar) || ' s of arrivals' else 'nobody can tell how many' end
        as message,
    json_parse('{"source": "' || k.source || '", "gap_seconds": ' || cast(k.gap_seconds as varchar) || '}') as context,
    k.batch_id
from book as k
where
    k.own
    and k.gap_seconds is not null
    and k.gap_seconds <> coalesce(k.was_gap_seconds, -1)
