-- 0013: users named for the first time, by day (UTC) and by the source whose event came first.
-- Runs again safely: it replaces the view.
create or replace view {{ schema }}.namings_by_day as
select
    cast(u.named_at as date) as day,
    split_part(u.batch_id, '/', 1) as source,
    count(*) as users
from {{ schema }}.user_name as u
group by cast(u.named_at as date), split_part(u.batch_id, '/', 1)
