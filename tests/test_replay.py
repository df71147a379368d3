"""Whatever is run again, in any order: rows, books and quarantine agree with the new run; no name is told twice or changed."""

from __future__ import annotations

import json
import random

import msgspec
import pytest
import zstandard
from airflow.sdk.exceptions import AirflowFailException

from local.kinesis import KinesisServer
from polku import archive, transform
from polku.batches import LAYOUT, Pending, Receipt, StagedObject, Tally
from polku.errors import TransientError
from tests.delivery import delivering, event

BROKEN = b'{"messageId": "broken", '


def same(delivery):
    """Return all that a replay under the same rules must leave as it is."""
    log = delivery.rows("select level, message, batch_id from {s}.log order by message")
    return delivery.digests(), delivery.rows("select * from {s}.user_name order by user_id"), log


def agrees(delivery):
    """Tell whether rows, quarantine, books and registry are what the archive gives under the rules of now."""
    return [delivery.audit(source)["differences"] for source in ("server", "client")] == [{}, {}] and delivery.unbalanced() == []


def deliver(delivery):
    delivery.put("server", event("a"), event("b"), BROKEN)
    delivery.put("client", event("a"), event("x"))
    delivery.run("server", 0)
    delivery.run("client", 0)
    delivery.put("server", event("c"), event("a", event="other"))
    delivery.drop("server", event("d", userId="u-a"))
    delivery.run("server", 1)
    delivery.put("server", event("b"), event("e"))
    delivery.run("server", 2)


def test_a_cleared_run_leaves_everything_as_it_was(delivery):
    """And so it does a second time."""
    deliver(delivery)
    before = same(delivery)

    for _ in range(2):
        delivery.replay("server", 0)

    assert same(delivery) == before
    assert agrees(delivery)


@pytest.mark.parametrize("seed", [1, 2])
def test_any_single_task_of_any_run_may_be_cleared_in_any_order(delivery, seed):
    """While events arrive; what arrives then is delivered once, by the next run."""
    deliver(delivery)
    before = same(delivery)
    tasks = delivery.tasks() * 2
    random.Random(seed).shuffle(tasks)
    delivery.put("server", event("new"))

    for task in tasks:
        delivery.clear(*task)

    for minute in (0, 1, 2):  # a run whose transform ran last has new staged objects; its load brings them
        delivery.load("server", minute)
    assert same(delivery) == before
    assert agrees(delivery)
    delivery.run("server", 3)
    assert delivery.rows("select batch_id from {s}.server where message_id = 'new'") == [(delivery.batch("server", 3).id,)]
    assert agrees(delivery)


def test_a_month_of_batches_backfilled_out_of_order_comes_to_the_same(tmp_path, aws, redshift):
    """Copies lie within and beyond the window of seven days, in pairs and in a chain; each row finds its rightful batch again."""
    with KinesisServer() as kinesis, delivering(tmp_path, aws, kinesis, redshift) as delivery:
        for day in range(0, 30, 3):
            delivery.put("server", event(f"e{day}"), event("often"), event(f"pair{day // 6}", event=str(day % 2)))
            delivery.put("server", *([event("seldom")] if day % 9 == 0 else []))
            delivery.run("server", day * 1440)
            kinesis.advance(3 * 86_400)
        before = same(delivery)
        assert [row[0] for row in delivery.rows("select count(*) from {s}.server group by message_id order by 1 desc")][:2] == [4, 1]

        delivery.drop_tables()
        delivery.migrate()
        runs = list(delivery.xcom)
        random.Random(1).shuffle(runs)
        for run in runs:
            delivery.replay(*run)
        rebuilt = delivery.digests()
        for run in reversed(runs):
            delivery.replay(*run)

        assert rebuilt == before[0]
        assert delivery.digests() == before[0]
        assert delivery.namings() == sorted({message for _, message, _ in before[2] if message.startswith("New user")})
        assert delivery.audit("server")["differences"] == {}


def test_translation_switched_on_later_names_the_users_of_old_batches_once(delivery):
    """A parameter changes, old runs are cleared; users whom the server named before keep their names."""
    deliver(delivery)
    names, namings = delivery.names(), delivery.namings()
    assert delivery.rows("select distinct user_name from {s}.client") == [(None,)]

    delivery.configure(**{"translate: false": "translate: true"})
    with pytest.raises(AirflowFailException, match="'different': 2"):
        delivery.audit("client")
    for _ in range(2):
        delivery.replay("client", 0)

    assert delivery.names() == {**names, **dict(delivery.rows("select user_id, user_name from {s}.client"))}
    assert {key: delivery.names()[key] for key in names} == names
    new = [message for message in delivery.namings() if message not in namings]
    assert [message.partition(" -> ")[0] for message in new] == ["New user: u-x"]
    assert len(delivery.namings()) == len(namings) + 1
    assert agrees(delivery)


def test_translation_switched_off_takes_names_out_of_rows_and_leaves_the_registry(delivery):
    """What was announced stays."""
    deliver(delivery)
    names, namings = delivery.names(), delivery.namings()

    delivery.configure(**{"translate: true": "translate: false"})
    for minute in (2, 0, 1):
        delivery.replay("server", minute)

    assert delivery.rows("select distinct user_name from {s}.server") == [(None,)]
    assert (delivery.names(), delivery.namings()) == (names, namings)
    assert agrees(delivery)


def test_a_batch_that_a_column_was_too_short_for_is_loaded_once_a_migration_made_it_longer(delivery):
    """It is held back, the others go on; clearing its run after the migration brings it."""
    deliver(delivery)
    delivery.write("alter table {s}.server alter column type type varchar(5)")
    delivery.put("server", event("long", type="identify"))
    with pytest.raises(AirflowFailException, match="held back"):
        delivery.run("server", 3)
    delivery.put("server", event("next"))
    delivery.run("server", 4)
    assert delivery.rows("select message_id from {s}.server where message_id in ('long', 'next')") == [("next",)]

    delivery.write("alter table {s}.server alter column type type varchar(64)")
    delivery.replay("server", 3)

    assert delivery.rows("select type from {s}.server where message_id = 'long'") == [("identify",)]
    assert agrees(delivery)


def deliver_two(delivery):
    for minute, id_ in enumerate("ab"):
        delivery.put("server", event(id_))
        delivery.run("server", minute)


def test_clearing_load_alone_says_so_where_what_it_loads_has_expired(delivery):
    """Staged objects live for two weeks; a green load that loaded nothing would be a lie."""
    deliver_two(delivery)
    for found in delivery.s3.list_objects_v2(Bucket=delivery.name, Prefix="staged/server/")["Contents"]:
        delivery.s3.delete_object(Bucket=delivery.name, Key=found["Key"])
    delivery.put("server", event("next"))
    delivery.run("server", 3, load=False)

    with pytest.raises(AirflowFailException, match="Clear its run from `commit` on"):
        delivery.load("server", 0)

    assert delivery.rows("select message_id from {s}.server where message_id = 'next'") == [("next",)]
    delivery.replay("server", 0)
    assert agrees(delivery)


def pend_again(delivery, minute):
    """Put a batch back among the pending ones, as a checkpoint of an hour ago has it."""
    id_ = delivery.batch("server", minute).id
    archive.change_checkpoint(
        delivery.s3, delivery.name, "server", lambda now: msgspec.structs.replace(now, pending={**now.pending, id_: Pending()})
    )


def test_after_a_checkpoint_was_put_back_an_audit_names_the_runs_to_clear(delivery):
    """What was drained since is drained again and known by its ids; files are not there any more, but in the archive."""
    checkpoint = {"Bucket": delivery.name, "Key": "state/server/checkpoint.json"}
    delivery.put("server", event("a"))
    delivery.run("server", 0)
    old = delivery.s3.get_object(**checkpoint)["Body"].read()
    delivery.put("server", event("b"))
    delivery.drop("server", event("c"))
    delivery.run("server", 1, load=False)

    delivery.s3.put_object(**checkpoint, Body=old)
    delivery.run("server", 2)
    with pytest.raises(AirflowFailException, match="Clear the run of each batch"):
        delivery.audit("server")
    delivery.replay("server", 1)

    assert delivery.rows("select message_id from {s}.server order by 1") == [("a",), ("b",), ("c",)]
    assert agrees(delivery)


def test_a_batch_whose_receipts_are_older_than_its_books_does_not_stop_the_others(delivery):
    """After somebody has put old state objects back it would be refused in every load, together with whatever shares the load."""
    deliver_two(delivery)
    pend_again(delivery, 1)
    delivery.write("update {s}.batch set generation = generation + 1 where batch_id = '" + delivery.batch("server", 1).id + "'")
    delivery.put("server", event("next"))

    with pytest.raises(AirflowFailException, match="the books hold a newer transform"):
        delivery.run("server", 3)

    assert delivery.rows("select message_id from {s}.server where message_id = 'next'") == [("next",)]
    delivery.replay("server", 1)
    assert not archive.read_checkpoint(delivery.s3, delivery.name, "server")[0].pending
    assert agrees(delivery)


def test_a_batch_that_is_refused_is_held_also_where_the_next_load_fails(delivery, redshift):
    """Else an hour without Redshift would have it tried first at every try."""
    deliver_two(delivery)
    for minute in (0, 1):
        pend_again(delivery, minute)
    redshift.fault("error", "^copy|copy staged", times=2, message="Load into table 'staged' failed.")  # of both, then of the older one
    redshift.fault("drop", "^copy|copy staged", times=0)

    try:
        with pytest.raises(TransientError):
            delivery.load("server", 0)
    finally:
        redshift.clear_faults()

    pending = archive.read_checkpoint(delivery.s3, delivery.name, "server")[0].pending
    assert [bool(pending[delivery.batch("server", minute).id].held) for minute in (0, 1)] == [True, False]


def forget_how_to_read(delivery, minute, *, layout):
    """Let an older release have transformed a batch: all of its events are in quarantine, for a reason of that time."""
    batch = delivery.batch("server", minute)
    manifest = archive.read_manifest(delivery.s3, delivery.name, batch)
    for part in manifest.parts:
        now = archive.read_last_receipt(delivery.s3, delivery.name, batch, part)
        names = archive.Names(batch=batch, part=part.name, attempt="old")
        line = {"reason": "old", "detail": "", "source": "server", "batch_id": batch.id, "position": "", "received_at": "", "bytes": ""}
        lines = zstandard.compress((json.dumps(line) + "\n").encode() * now.tally.received)
        etag = archive.put_once(delivery.s3, delivery.name, names.staged(0), transform.EMPTY)
        archive.put_once(delivery.s3, delivery.name, names.quarantine(0), lines)
        count = now.tally.received
        old = Receipt(
            batch=batch.id,
            part=part.name,
            layout=layout,
            generation=0,
            staged=(StagedObject(key=names.staged(0), size=len(transform.EMPTY), rows=0, etag=etag),),
            quarantine=(names.quarantine(0),),
            tally=Tally(
                received=count,
                quarantined=count,
                reasons={"old": count},
                bytes=now.tally.bytes,
                first_arrival=now.tally.first_arrival,
                last_arrival=now.tally.last_arrival,
            ),
        )
        archive.write_receipt(delivery.s3, delivery.name, old, now.generation + 1)


def test_quarantine_is_replayed_after_a_fix_of_the_rules(delivery):
    """Clear the run: the events become rows, the books and rejected follow, duplicates find their place, names are told once."""
    delivery.put("server", event("a"), event("b"), BROKEN)
    delivery.run("server", 0, load=False)
    forget_how_to_read(delivery, 0, layout=LAYOUT)
    delivery.load("server", 0)
    delivery.put("server", event("a", event="copy"))
    delivery.run("server", 1)
    books = "select received, loaded, duplicates, quarantined from {s}.batch order by batch_id"
    assert delivery.rows(books) == [(3, 0, 0, 3), (1, 1, 0, 0)]

    delivery.replay("server", 0)

    assert delivery.rows(books) == [(3, 2, 0, 1), (1, 0, 1, 0)]
    assert delivery.rows("select reason, events from {s}.rejected") == [("not_json", 1)]
    assert [message.partition(" -> ")[0] for message in delivery.namings()] == ["New user: u-a", "New user: u-b"]
    assert agrees(delivery)


def test_a_receipt_of_another_layout_is_no_receipt(delivery):
    """What an older release has staged is not loaded by this one: the next run makes it anew."""
    delivery.put("server", event("a"), BROKEN)
    delivery.run("server", 0, load=False)
    forget_how_to_read(delivery, 0, layout=LAYOUT - 1)

    delivery.run("server", 1)

    assert delivery.rows("select received, loaded, quarantined from {s}.batch") == [(2, 1, 1)]
    assert agrees(delivery)


def test_a_replay_under_rules_that_pass_events_over_takes_their_rows_away(delivery):
    """Both sources name one stream from now on: what is addressed to the client is no longer the server's."""
    addressed = {"context": {"resourcePath": "/client"}}
    delivery.put("server", json.dumps({"event": json.loads(event("a")), "context": {"resourcePath": "/server"}}).encode())
    delivery.put("server", json.dumps({"event": json.loads(event("b")), **addressed}).encode())
    delivery.run("server", 0)
    assert delivery.rows("select received, loaded, quarantined from {s}.batch") == [(2, 1, 1)]

    delivery.configure(**{f"stream: {delivery.name}-client": f"stream: {delivery.name}-server"})
    delivery.replay("server", 0)

    assert delivery.rows("select received, loaded, quarantined from {s}.batch") == [(1, 1, 0)]
    assert delivery.rows("select * from {s}.rejected") == []
    assert delivery.audit("server")["differences"] == {}
