"""The warehouse is a function of the archive: without a table left, a replay of everything in any order gives the same."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from polku.errors import TransientError
from tests.delivery import event

TRIES = 5
LOADERS = 4


def deliver(delivery):
    """Both sources: copies across batches and doors, some with other contents, files that come late, and what cannot be read."""
    delivery.put("server", event("a"), event("b"), event("c"), b'{"broken": ')
    delivery.drop("server", event("d"), event("late", event="first"), event("a", event="other"))
    delivery.run("server", 0, without="files")
    delivery.put("server", event("late", event="second"), event("a"), event("e", userId="u-a"), event("f", userId=None))
    delivery.run("server", 1, without="files")
    delivery.put("server", event("b", event="other"), event("late", event="third"))
    delivery.run("server", 2)
    delivery.put("server", event("b"), event("g", properties={"a": [1, 2.5, None], "b": {"c": "é"}}), b"[]")
    delivery.drop("server", event("h"), b"no JSON", event("c"))
    delivery.run("server", 3)
    for minute in range(3):
        delivery.put("client", event("a"), event(f"c{minute}"), event("c0", event=f"in {minute}"), b'"text"')
        delivery.run("client", minute)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_rebuild_in_any_order_by_several_loaders_gives_the_same(delivery, seed):
    """The two event tables, duplicate, rejected, and the counts in the books."""
    deliver(delivery)
    before, names, namings = delivery.digests(), delivery.names(), delivery.namings()
    batches = [row[0] for row in delivery.rows("select batch_id from {s}.batch")]
    assert len(batches) == 7

    delivery.drop_tables()
    delivery.migrate()
    runs = list(delivery.xcom)
    random.Random(seed).shuffle(runs)
    with ThreadPoolExecutor(LOADERS) as loaders:
        list(loaders.map(lambda run: replay(delivery, *run), runs))

    assert delivery.digests() == before
    assert delivery.unbalanced() == []
    assert delivery.names() == names
    assert delivery.namings() == namings


def replay(delivery, source, minute):
    """Replay a batch; what Airflow would try again is tried again."""
    for _ in range(TRIES - 1):
        try:
            return delivery.replay(source, minute)
        except TransientError:
            continue
    return delivery.replay(source, minute)
