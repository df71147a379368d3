-- 24_fill_rejection.sql: one row a batch and reason. The last row is of no batch: a list of values may not be empty.
-- Rows of values, and not one SELECT each: a tree of thousands of UNION ALL is deeper than a database plans.
-- Reads load.batches; writes rejection.
insert into rejection values
{%- for b in load.batches %}
    {%- for reason, events in b.reasons.items() %}
        ('{{ b.id }}', '{{ reason }}', {{ events }}),
    {%- endfor %}
{%- endfor %}
('', '', 0)
