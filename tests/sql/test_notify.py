"""The outbox: rows of the log are claimed, read, and marked; never by two runs at once, never lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sql.warehouse import render

STALE = 900


class Outbox:
    """One notify run, by the files of include/sql/notify."""

    def __init__(self, warehouse):
        self.warehouse = warehouse

    def run(self, *files, **claim):
        """Run files in one transaction; return the rows of the last."""
        claim = {"stale_seconds": STALE, **claim}
        return self.warehouse.run(render(f"notify/{file}.sql", schema=self.warehouse.schema, claim=claim) for file in files)

    def claim(self, claim_id, max_rows=100):
        """Claim rows; return position and message of each."""
        self.run("10_lock", "30_claim", id=claim_id, max_rows=max_rows)
        return [(row[0], row[4]) for row in self.run("40_read", id=claim_id)]

    def forwarded(self):
        """Return the messages that are marked."""
        return [row[0] for row in self.warehouse.read("select message from {s}.log where forwarded_at is not null order by message")]


@pytest.fixture
def outbox(warehouse):
    """Five messages that wait, in the order of their letters; the last two were logged in one transaction."""
    for message, minute in (("c", 2), ("a", 0), ("b", 1), ("d", 3), ("e", 3)):
        warehouse.write(
            'insert into {s}.log ("timestamp", level, message, batch_id)'
            f" values ('2026-11-23 12:0{minute}:00', 'WARNING', '{message}', 'server/x')"
        )
    return Outbox(warehouse)


def age(warehouse, claim_id, seconds):
    """Let a claim have been taken earlier."""
    warehouse.write(f"update {{s}}.log set claimed_at = dateadd(second, -{seconds}, claimed_at) where claim_id = '{claim_id}'")


def test_a_claim_takes_the_oldest_rows_in_order(outbox):
    """People read the channel from top to bottom."""
    assert outbox.claim("one", max_rows=3) == [(1, "a"), (2, "b"), (3, "c")]


def test_two_claims_never_share_a_row(outbox):
    """Each message is posted by one run."""
    assert outbox.claim("one", max_rows=3) == [(1, "a"), (2, "b"), (3, "c")]
    assert outbox.claim("two", max_rows=3) == [(1, "d"), (2, "e")]
    assert outbox.claim("three") == []


def test_two_claims_at_once_never_share_a_row(outbox, until_locked):
    """The second waits behind the lock, and sees what the first has taken."""
    warehouse = outbox.warehouse
    ahead = warehouse.connect()
    cursor = ahead.cursor()
    for file in ("10_lock", "30_claim"):
        cursor.execute(render(f"notify/{file}.sql", schema=warehouse.schema, claim={"id": "one", "max_rows": 3, "stale_seconds": STALE}))

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(outbox.claim, "two")
        try:
            until_locked()
        finally:
            ahead.commit()

    assert waiting.result(30) == [(1, "d"), (2, "e")]
    ahead.close()


def test_what_is_forwarded_is_never_claimed_again(outbox):
    """Marked message by message, as Slack accepts them."""
    outbox.claim("one")
    outbox.run("50_forward", id="one", first=1, last=2)

    assert outbox.forwarded() == ["a", "b"]
    assert [row[4] for row in outbox.run("40_read", id="one")] == ["c", "d", "e"]
    outbox.run("60_release", id="one")
    assert outbox.claim("two") == [(1, "c"), (2, "d"), (3, "e")]


def test_a_released_claim_leaves_nothing_of_itself(outbox):
    """Slack was away: the rows wait as if nobody had touched them."""
    before = outbox.warehouse.read("select id, claim_id, claimed_at, claim_position, forwarded_at from {s}.log order by id")
    outbox.claim("one")
    outbox.run("60_release", id="one")

    assert outbox.warehouse.read("select id, claim_id, claimed_at, claim_position, forwarded_at from {s}.log order by id") == before


def test_a_fresh_claim_is_live_and_a_forgotten_one_is_stale(outbox):
    """The clock is that of the database."""
    outbox.claim("one", max_rows=2)
    outbox.claim("two", max_rows=2)
    outbox.run("50_forward", id="one", first=1, last=1)
    age(outbox.warehouse, "one", STALE + 60)

    assert outbox.run("21_list_live") == [("two",)]
    assert [(row[0], row[2], row[3]) for row in outbox.run("20_list_stale")] == [("one", 2, 2)]


def test_a_stale_claim_can_be_taken_over_and_its_old_owner_marks_nothing(outbox):
    """A run that slept for an hour wakes up: the rows are no longer its own."""
    outbox.claim("one")
    age(outbox.warehouse, "one", STALE + 60)

    taken = outbox.claim("two")
    outbox.run("50_forward", id="one", first=1, last=5)
    outbox.run("60_release", id="one")

    assert [message for _, message in taken] == ["a", "b", "c", "d", "e"]
    assert outbox.forwarded() == []
    assert [row[0] for row in outbox.run("40_read", id="two")] == [1, 2, 3, 4, 5]


def test_marking_twice_keeps_the_first_time(outbox):
    """An answer of the database that was lost is asked for again."""
    outbox.claim("one")
    outbox.run("50_forward", id="one", first=1, last=5)
    before = outbox.warehouse.read("select id, forwarded_at from {s}.log order by id")

    outbox.run("50_forward", id="one", first=1, last=5)

    assert outbox.warehouse.read("select id, forwarded_at from {s}.log order by id") == before
