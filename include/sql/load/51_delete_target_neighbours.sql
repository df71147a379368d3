-- 51_delete_target_neighbours.sql: the place that they leave; 50_take_neighbours.sql has a copy of each.
delete from {{ schema }}.{{ load.table }}
using judged as j
where
    {{ load.table }}.message_id = j.message_id
    and {{ load.table }}.batch_id = j.batch_id
    and {{ load.table }}.position = j.position
    and {{ load.table }}.received_at between '{{ load.first_arrival }}' and '{{ load.window_end }}'
    and j.place = 'target'
