-- 87_delete_rejected.sql: what an earlier load of these batches has left.
delete from {{ schema }}.rejected
where rejected.batch_id in (select l.batch_id from loading as l)
