-- 52_delete_duplicate_neighbours.sql: the place that they leave; 50_take_neighbours.sql has a copy of each.
delete from {{ schema }}.duplicate
using judged as j
where
    duplicate.message_id = j.message_id
    and duplicate.batch_id = j.batch_id
    and duplicate.position = j.position
    and duplicate.received_at between '{{ load.first_arrival }}' and '{{ load.window_end }}'
    and duplicate.source = '{{ load.table }}'
    and j.place = 'duplicate'
