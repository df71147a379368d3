-- 0005: events of the source client, one row for each event.
-- DISTKEY(message_id): copies of an event meet on one slice, so that dedup joins without moving rows; ids spread evenly.
-- SORTKEY(received_at): the dedup window and time ranges read only the blocks of their days, and rows arrive in this order.
-- Runs again safely: it does nothing where the table is there.
create table if not exists {{ schema }}.client (
    message_id varchar(256) not null,
    received_at timestamp not null,
    "timestamp" timestamp,
    original_timestamp timestamp,
    sent_at timestamp,
    type varchar(64),
    event varchar(1024),
    name varchar(1024),
    user_id varchar(256),
    anonymous_id varchar(256),
    user_name varchar(256),
    previous_id varchar(256),
    group_id varchar(256),
    properties super,
    traits super,
    context super,
    integrations super,
    extra super,
    fingerprint varchar(32) not null,
    batch_id varchar(64) not null,
    position varchar(1400) not null,
    repairs varchar(256)
)
diststyle key distkey (message_id) compound sortkey (received_at)
