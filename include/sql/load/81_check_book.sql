-- 81_check_book.sql: what was received is loaded, a duplicate or in quarantine; else nothing of this load stays.
-- Fails with "BooksUnbalanced: ..."; the text is no integer.
select
    cast(
        case
            when count(*) > 0
                then 'BooksUnbalanced: received is not loaded + duplicates + quarantined in ' || min(k.batch_id)
            else '0'
        end as int
    ) as unbalanced
from book as k
where k.received <> k.loaded + k.duplicates + k.quarantined
