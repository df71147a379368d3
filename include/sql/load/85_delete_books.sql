-- 85_delete_books.sql: the books that 86_insert_books.sql writes anew.
delete from {{ schema }}.batch
using book as k
where batch.batch_id = k.batch_id
