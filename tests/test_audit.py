"""An audit finds whatever the tables hold otherwise than the archive, and nothing else; a trace finds every event."""

from __future__ import annotations

import ast
import contextlib
import re
from datetime import datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from polku import archive, audit
from polku.audit import Copy, judge
from tests.delivery import delivering, event

BROKEN = b'{"type": "track", "messageId": "broken", "userId":'


@pytest.fixture(scope="module")
def delivered(tmp_path_factory, aws, kinesis, redshift):
    """Three batches: of a stream and a file, with a duplicate across batches, a conflicting one, a broken event; and one that waits."""
    with delivering(tmp_path_factory.mktemp("audit"), aws, kinesis, redshift) as delivery:
        deliver(delivery)
        yield delivery


@pytest.fixture
def delivery(delivered):
    """What was delivered; whatever a test does to the tables is undone."""
    with delivered.kept():
        yield delivered


def deliver(delivery):
    delivery.put("server", event("a"), event("b"), event("c"), BROKEN)
    delivery.drop("server", event("d"), event("e", properties={"price": 1.0, "tags": ["x", None, 1e21]}))
    delivery.run("server", 0)
    delivery.put("server", event("a"), event("b", event="Other"), event("f"))
    delivery.run("server", 1)
    delivery.put("server", event("g", userId=7))
    delivery.run("server", 2)
    delivery.put("server", event("h"))
    delivery.run("server", 3, load=False)


@contextlib.contextmanager
def replaced(delivery, key, body=b""):
    """Another object in the place of one, or none; it is put back."""
    was = delivery.s3.get_object(Bucket=delivery.name, Key=key)["Body"].read()
    if body is None:
        delivery.s3.delete_object(Bucket=delivery.name, Key=key)
    else:
        delivery.s3.put_object(Bucket=delivery.name, Key=key, Body=body)
    yield
    delivery.s3.put_object(Bucket=delivery.name, Key=key, Body=was)


def test_tables_that_agree_with_the_archive_pass(delivery):
    """What is returned is what was compared; a batch that waits for the next load is no difference."""
    assert delivery.audit("server") == {
        "batches": 3, "rows": 7, "duplicates": 2, "quarantined": 1, "waiting": 1, "differences": {},
    }  # fmt: skip


DAMAGE = {
    "a row is gone": ("delete from {s}.server where message_id = 'a'", {"missing": 1, "misplaced": 1, "books": 1}),
    "a duplicate is gone": ("delete from {s}.duplicate where message_id = 'a'", {"missing": 1, "books": 1}),
    "a row was added": (
        (
            "insert into {s}.server (message_id, received_at, fingerprint, batch_id, position)"
            " select 'z', received_at, 'z', batch_id, 'server/1/0/0' from {s}.server where message_id = 'f'"
        ),
        {"extra": 1, "books": 1},
    ),
    "a row stands twice": (
        "insert into {s}.server select * from {s}.server where message_id = 'f'",
        {"doubled": 1, "misplaced": 1, "books": 1},
    ),
    "a text was changed": ("update {s}.server set event = 'x' where message_id = 'f'", {"different": 1}),
    "a time was changed": ("update {s}.server set received_at = received_at - interval '40 days' where message_id = 'f'", {"different": 1}),
    "contents were changed": ("update {s}.server set properties = json_parse('{}') where message_id = 'e'", {"different": 1}),
    "a name was changed": ("update {s}.server set user_name = 'x' where message_id = 'f'", {"different": 1}),
    "a name was taken away": ("update {s}.server set user_name = null where message_id = 'f'", {"different": 1}),
    "a copy is called conflicting": ("update {s}.duplicate set conflicting = true where message_id = 'a'", {"misplaced": 1, "books": 1}),
    "the books are wrong": ("update {s}.batch set received = received + 1 where source = 'server' and quarantined = 1", {"books": 1}),
    "the books are gone": ("delete from {s}.batch where quarantined = 1", {"books": 1}),
    "a reason is gone": ("delete from {s}.rejected", {"books": 1}),
    "a batch was never made": (
        "update {s}.server set batch_id = left(batch_id, 18) || '23:59:00Z' where message_id = 'g'",
        {"missing": 1, "unknown_batch": 1, "books": 1},
    ),
}


@pytest.mark.parametrize(("statement", "kinds"), DAMAGE.values(), ids=DAMAGE.keys())
def test_whatever_is_changed_in_the_tables_is_found(delivery, statement, kinds):
    """The run is red, at once, and says what to do."""
    delivery.write(statement)

    with pytest.raises(AirflowFailException, match="Clear the run") as failure:
        delivery.audit("server")
    found = re.search(r"'differences': (\{.*?\})", str(failure.value))
    assert ast.literal_eval(found[1]) == kinds


def test_a_winner_and_a_loser_that_changed_places_are_found(delivery):
    """Both stand in a table, and yet in the wrong one."""
    places = "position = {0}.position, batch_id = {0}.batch_id, received_at = {0}.received_at"
    delivery.write("create temp table swap as select * from {s}.server where message_id = 'a'")
    delivery.write(
        f"update {{s}}.server set {places.format('duplicate')} from {{s}}.duplicate"
        " where duplicate.message_id = 'a' and server.message_id = 'a'"
    )
    delivery.write(f"update {{s}}.duplicate set {places.format('swap')} from swap where duplicate.message_id = 'a'")
    delivery.write("drop table swap")

    with pytest.raises(AirflowFailException, match="'misplaced': 2"):
        delivery.audit("server")


def test_what_quarantine_no_longer_holds_as_it_should_is_found(delivery):
    """The promise is: with its bytes and its reason."""
    (found,) = delivery.s3.list_objects_v2(Bucket=delivery.name, Prefix="quarantine/")["Contents"]

    with replaced(delivery, found["Key"]), pytest.raises(AirflowFailException, match="'quarantine': 1"):
        delivery.audit("server")


def test_an_expired_raw_object_is_said_and_the_other_batches_are_compared(delivery):
    """Nobody can tell what is missing there."""
    delivery.write("delete from {s}.server where message_id = 'f'")
    listed = delivery.s3.list_objects_v2(
        Bucket=delivery.name, Prefix=f"raw/server/dt={delivery.batch('server', 2).date}/{delivery.batch('server', 2).name}"
    )

    with (
        replaced(delivery, listed["Contents"][0]["Key"], None),
        pytest.raises(AirflowFailException, match=r"'missing': 1.*'unreadable': 1"),
    ):
        delivery.audit("server")


def test_clearing_the_run_mends_what_an_audit_has_found(tmp_path, aws, kinesis, redshift):
    """The remedy that it names."""
    with delivering(tmp_path, aws, kinesis, redshift) as delivery:
        deliver(delivery)
        delivery.write("delete from {s}.server where message_id = 'd'")
        delivery.write("update {s}.server set event = 'x' where message_id = 'e'")

        delivery.replay("server", 0)

        assert delivery.audit("server")["differences"] == {}


def test_an_audit_writes_nothing(delivery):
    """It may run beside everything else."""
    before = delivery.digests(), sorted(e["Key"] + e["ETag"] for e in delivery.s3.list_objects_v2(Bucket=delivery.name)["Contents"])

    delivery.audit("server")

    after = delivery.digests(), sorted(e["Key"] + e["ETag"] for e in delivery.s3.list_objects_v2(Bucket=delivery.name)["Contents"])
    assert after == before


def test_pages_of_any_size_give_the_same_audit(delivery, monkeypatch):
    """A batch may be larger than what is read at once."""
    monkeypatch.setattr("polku.tables.PAGE", 2)

    assert delivery.audit("server")["differences"] == {}


def test_an_interval_is_cut_at_full_hours(delivery):
    """Each hour is a task that can be cleared by itself."""
    cut = delivery.task("plan_audit", **{"from": "2026-11-23T10:30:00Z", "to": "2026-11-23T12:00:00+01:00"})

    assert cut == [{"from": "2026-11-23T10:30:00+00:00", "to": "2026-11-23T11:00:00+00:00"}]


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z", "the second later"),
        ("2026-01-01T00:00:00Z", "2026-11-23T00:00:00Z", "in several runs"),
        ("x", "y", "no date-time"),
    ],
    ids=["empty", "too long", "no time"],
)  # fmt: skip
def test_an_interval_that_cannot_be_audited_is_refused(delivery, start, end, says):
    """With what is expected."""
    with pytest.raises(AirflowFailException, match=says):
        delivery.task("plan_audit", **{"from": start, "to": end})


# -- the rule of copies, against one that is written otherwise ------------------------------------------------------

NOON = datetime(2026, 11, 23, 12)


def copy(day, batch, *, wins, conflicting=False, fingerprint="a"):
    return Copy("m", NOON + timedelta(days=day), f"server/{batch}", "p", fingerprint, wins, conflicting)


def test_a_copy_just_inside_the_window_loses_and_one_outside_wins():
    """Seven days, to the microsecond."""
    inside = [copy(0, 1, wins=True), copy(7, 2, wins=False)]
    outside = [copy(0, 1, wins=True), copy(7.001, 2, wins=True)]

    assert [what for batch in ("server/1", "server/2") for _, what in judge(inside, batch, dedup_days=7)] == []
    assert [what for batch in ("server/1", "server/2") for _, what in judge(outside, batch, dedup_days=7)] == []


def test_conflicting_is_not_judged_where_the_first_copy_is_out_of_sight():
    """A chain of copies may be longer than a window."""
    chain = [copy(0, 1, wins=False, fingerprint="b"), copy(5, 2, wins=False, conflicting=False)]

    assert list(judge(chain, "server/2", dedup_days=7)) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"1.0", b"1", True),
        (b"1.5", b"1.50", True),
        (b'{"a": 1, "b": 2}', b'{"b":2,"a":1}', True),
        (b'"\\u00e9"', '"é"'.encode(), True),
        (b"0.1", b"0.2", False),
        (b"[]", b"{}", False),
        (b"12345678901234567890123", b"12345678901234567890124", False),
        (b"null", b'"null"', False),
    ],
    ids=str,
)
def test_json_is_compared_by_what_it_says(one, other, same):
    """Redshift writes SUPER anew; spaces, keys in another order and 1.0 for 1 are no differences."""
    assert (audit._contents(one) == audit._contents(other)) is same


# -- trace ----------------------------------------------------------------------------------------------------------


def test_a_row_is_traced_to_its_record(delivery):
    """Raw object, record, position, batch, rule."""
    (found,) = delivery.trace("f")

    assert found["outcome"] == "row"
    assert found["batch"] == delivery.batch("server", 1).id
    assert found["raw_object"].startswith(f"s3://{delivery.name}/raw/server/")
    assert "record 2 of block 0" in found["within"]
    assert found["rule"].startswith("first copy; user u-f is ")
    assert "event" not in found


def test_a_row_is_traced_to_its_file(delivery):
    """And its bytes are shown where they are asked for."""
    (found,) = delivery.trace("d", show=True)

    assert found["within"].startswith("value 0, counted from 0, of this copy of buffer/server/0000.jsonl")
    assert found["event"] == event("d").decode()


def test_a_duplicate_is_traced_beside_its_winner(delivery):
    """And why it lost."""
    winner, loser = delivery.trace("b")

    assert (winner["outcome"], loser["outcome"]) == ("row", "duplicate")
    assert loser["rule"].startswith(f"a copy came before it, in {winner['batch']}, with other contents")
    assert winner["position"] != loser["position"]


def test_repairs_are_named(delivery):
    """The rules that were applied."""
    (found,) = delivery.trace("g")

    assert "repaired: number_to_text" in found["rule"]


def test_what_cannot_be_read_is_found_in_quarantine_of_a_range(delivery):
    """By its messageId anywhere in its bytes; the reason is the rule."""
    assert delivery.trace("broken") == []

    (found,) = delivery.trace("broken", ranged=True, show=True)

    assert found["outcome"] == "quarantine"
    assert found["rule"].startswith("not_json: ")
    assert "record 3 of block 0" in found["within"]
    assert found["event"] == BROKEN.decode()


def test_an_event_that_waits_to_be_loaded_is_found(delivery):
    """During an outage of Redshift nothing is lost, and that can be seen."""
    (found,) = delivery.trace("h")

    assert (found["outcome"], found["batch"]) == ("waiting", delivery.batch("server", 3).id)


@pytest.mark.parametrize("body", [None, b"damaged"])
def test_a_batch_that_waits_for_a_raw_object_hides_no_other_event(delivery, caplog, body):
    """Such a batch may wait for long; it is said that it could not be looked through."""
    batch = delivery.batch("server", 3)
    (key,) = (raw.key for part in archive.read_manifest(delivery.s3, delivery.name, batch).parts for raw in part.objects)

    with replaced(delivery, key, body):
        (found,) = delivery.trace("f")

    assert found["outcome"] == "row"
    assert f"of {batch.id} waits and could not be looked through" in caplog.text


@pytest.mark.parametrize("id_", ["nobody", "'; drop table x; --", "\\", "%s"])
def test_an_event_that_never_came_is_no_failure(delivery, id_):
    """Nor is anything that a person may ask for."""
    assert delivery.trace(id_) == []
