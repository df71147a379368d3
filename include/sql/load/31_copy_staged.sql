-- 31_copy_staged.sql: the staged objects of all batches of this load.
-- Text without quoting: the delimiter and newlines cannot stand inside a field, NULL is \N (the default of COPY).
-- One bad row refuses the load (MAXERROR 0 is the default); nothing is cut, nothing is replaced.
copy staged (
    message_id,
    received_at,
    "timestamp",
    original_timestamp,
    sent_at,
    type,
    event,
    name,
    user_id,
    anonymous_id,
    user_name,
    previous_id,
    group_id,
    properties,
    traits,
    context,
    integrations,
    extra,
    fingerprint,
    batch_id,
    position,
    repairs
)
from '{{ load.manifest }}'
iam_role '{{ load.iam_role }}'
manifest
delimiter '\001'
zstd
timeformat 'auto'
encoding utf8
compupdate off
