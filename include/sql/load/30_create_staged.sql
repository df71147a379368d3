-- 30_create_staged.sql: the rows of this load, distributed and sorted as their table is.
create temp table staged (like {{ schema }}.{{ load.table }})
