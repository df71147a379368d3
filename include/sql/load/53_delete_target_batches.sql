-- 53_delete_target_batches.sql: what an earlier load of these batches has left.
-- So a load can run again: it starts from tables without its batches.
delete from {{ schema }}.{{ load.table }}
where
    {{ load.table }}.received_at between '{{ load.first_arrival }}' and '{{ load.last_arrival }}'
    and {{ load.table }}.batch_id in (select l.batch_id from loading as l)
