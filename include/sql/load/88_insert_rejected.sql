-- 88_insert_rejected.sql: quarantined events by reason. The first row of the list is of no batch: a list may not be empty.
insert into {{ schema }}.rejected (batch_id, source, reason, events, first_arrival, last_arrival)
select
    l.batch_id,
    l.source,
    r.reason,
    r.events,
    l.first_arrival,
    l.last_arrival
from (
    select
        cast('' as varchar(64)) as batch_id,
        cast('' as varchar(64)) as reason,
        0 as events
    {%- for b in load.batches %}
        {%- for reason, events in b.reasons.items() %}
            union all
            select
                '{{ b.id }}' as batch_id,
                '{{ reason }}' as reason,
                {{ events }} as events
        {%- endfor %}
    {%- endfor %}
) as r
inner join loading as l on r.batch_id = l.batch_id
