-- 21_fill_loading.sql: one row a batch; reasons is JSON, counts of quarantined events by code.
-- Reads load.batches; writes loading.
insert into loading values
{%- for b in load.batches %}
    (
        '{{ b.id }}',
        '{{ b.source }}',
        {{ b.generation }},
        {{ b.received }},
        {{ b.quarantined }},
        {{ b.repaired }},
        {{ b.bytes }},
        '{{ b.first_arrival }}',
        '{{ b.last_arrival }}',
        {{ 'null' if b.gap_seconds is none else b.gap_seconds }},
        '{{ b.quarantine_level }}',
        '{{ b.reasons | tojson }}'
    ){% if not loop.last %},{% endif %}
{%- endfor %}
