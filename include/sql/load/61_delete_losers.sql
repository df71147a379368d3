-- 61_delete_losers.sql: the rows that lose stand in duplicate; from here on staged holds the winners alone.
-- Reads judged; writes staged.
delete from staged
using judged as j
where
    staged.message_id = j.message_id
    and staged.batch_id = j.batch_id
    and staged.position = j.position
    and not j.wins
