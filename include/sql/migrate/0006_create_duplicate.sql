-- 0006: copies of events that lost against one that arrived earlier, whole, so that a copy can take its place again
-- when a replay under other rules removes the one that won. Columns as in the event tables, and two more.
-- DISTKEY and SORTKEY as in the event tables, with which it is joined.
-- Runs again safely: it does nothing where the table is there.
create table if not exists {{ schema }}.duplicate (
    source varchar(64) not null,
    conflicting boolean not null,
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
