-- applied.sql: the versions that need not run any more.
select m.version
from {{ schema }}.migration as m
order by m.version
