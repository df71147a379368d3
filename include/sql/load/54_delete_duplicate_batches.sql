-- 54_delete_duplicate_batches.sql: what an earlier load of these batches has left among the duplicates.
-- So a load can run again: it starts from tables without its batches.
delete from {{ schema }}.duplicate
where
    duplicate.received_at between '{{ load.first_arrival }}' and '{{ load.last_arrival }}'
    and duplicate.source = '{{ load.table }}'
    and duplicate.batch_id in (select l.batch_id from loading as l)
