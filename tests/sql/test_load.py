"""One load is one transaction: its contents depend on what arrived, never on what was loaded first, or how often."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polku import events
from tests.sql.warehouse import NOON, Batch, Copy, batch_id, expected, split

DAY = 24


def _load_singly(warehouse, source, copies):
    for batch in split(copies):
        warehouse.load(source, [batch])


# name: copies in the order in which their batches are loaded
CASES = {
    "one event": [Copy(id="m")],
    "two copies in one batch": [Copy(id="m", position="0"), Copy(id="m", position="1")],
    "copies with the same arrival are ordered by batch": [Copy(id="m", batch=2), Copy(id="m", batch=1)],
    "copies with the same arrival in one batch are ordered by position": [Copy(id="m", position="b"), Copy(id="m", position="a")],
    "the later copy comes later": [Copy(id="m", batch=1, at=0), Copy(id="m", batch=2, at=1)],
    "the earlier copy comes later": [Copy(id="m", batch=2, at=1), Copy(id="m", batch=1, at=0)],
    "the earlier copy is in the later batch": [Copy(id="m", batch=1, at=1), Copy(id="m", batch=2, at=0)],
    "three copies, the first comes last": [Copy(id="m", batch=3, at=2), Copy(id="m", batch=2, at=1), Copy(id="m", batch=1, at=0)],
    "a copy with other contents": [Copy(id="m", batch=1, at=0), Copy(id="m", batch=2, at=1, content="b")],
    "copies that conflict until the first comes": [
        Copy(id="m", batch=2, at=1, content="b"), Copy(id="m", batch=3, at=2, content="a"), Copy(id="m", batch=1, at=0, content="a"),
    ],
    "copies that agree until the first comes": [
        Copy(id="m", batch=2, at=1, content="b"), Copy(id="m", batch=3, at=2, content="b"), Copy(id="m", batch=1, at=0, content="a"),
    ],
    "copies at the two ends of a window": [Copy(id="m", batch=1, at=0), Copy(id="m", batch=2, at=7 * DAY)],
    "copies further apart than a window are two events": [Copy(id="m", batch=1, at=0), Copy(id="m", batch=2, at=7 * DAY + 0.01)],
    "a replay of the older one does not touch the newer one": [Copy(id="m", batch=2, at=8 * DAY), Copy(id="m", batch=1, at=0)],
    "a copy between two that are further apart joins them": [
        Copy(id="m", batch=1, at=0), Copy(id="m", batch=3, at=10 * DAY), Copy(id="m", batch=2, at=5 * DAY),
    ],
    "copies in three batches of one load, and one before": [
        Copy(id="m", batch=9, at=5), Copy(id="m", batch=1, at=3), Copy(id="m", batch=2, at=4, content="b"), Copy(id="m", batch=3, at=6),
    ],
    "other events stay": [Copy(id="m", batch=1, position="0"), Copy(id="n", batch=1, position="1"), Copy(id="n", batch=2, at=1)],
}  # fmt: skip


@pytest.mark.parametrize("copies", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("together", [False, True], ids=["singly", "together"])
def test_of_several_copies_the_one_that_arrived_first_is_the_row(warehouse, copies, together):
    """Whichever batch is loaded first; the others are duplicates, and the books of both batches say so."""
    numbers = list(dict.fromkeys(copy.batch for copy in copies))
    batches = [Batch(number=number, copies=tuple(c for c in copies if c.batch == number)) for number in numbers]

    if together:
        warehouse.load("server", batches)
    else:
        for batch in batches:
            warehouse.load("server", [batch])

    assert warehouse.contents("server") == expected("server", copies)


def test_a_copy_in_the_other_source_is_no_duplicate(warehouse):
    """A browser and a server may both send an event with the same id; each table holds its own."""
    warehouse.load("server", [Batch(number=1, copies=(Copy(id="m"),))])
    warehouse.load("client", [Batch(number=1, copies=(Copy(id="m", at=1),))])

    assert warehouse.contents("server") == expected("server", [Copy(id="m")])
    assert warehouse.contents("client") == expected("client", [Copy(id="m", at=1)])


def test_a_row_holds_what_was_staged(warehouse):
    """Every column goes from staged to the table, to duplicate, and back."""
    second = Copy(id="m", batch=2, at=1, user="u", name="Ada")
    first = Copy(id="m", batch=1, at=0)
    warehouse.load("server", [Batch(number=2, copies=(second,))])
    loaded = warehouse.snapshot()["server"]

    warehouse.load("server", [Batch(number=1, copies=(first,))])
    lost = warehouse.snapshot()["duplicate"]
    warehouse.load("server", [Batch(number=1, generation=2, reasons=(("not_json", 1),))], first_arrival=str(NOON), last_arrival=str(NOON))
    back = warehouse.snapshot()

    assert [row[2:] for row in lost] == loaded
    assert back["server"] == loaded
    assert back["duplicate"] == []
    assert [book[4:8] for book in back["batch"]] == [(0, 0, 0, 1), (1, 0, 0, 0)]


copies_of_events = st.lists(
    st.builds(
        Copy,
        id=st.sampled_from("mnop"),
        at=st.integers(0, 6 * DAY),
        batch=st.integers(1, 5),
        content=st.sampled_from("ab"),
        user=st.sampled_from([None, "u", "v"]),
    ),
    min_size=1,
    max_size=14,
).map(lambda copies: [replace(copy, position=f"{i:03}", name=copy.user and f"Name of {copy.user}") for i, copy in enumerate(copies)])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(copies=copies_of_events, seed=st.integers(0, 2**32), loads=st.integers(1, 8))
def test_any_order_of_loading_gives_the_same_tables(warehouse, copies, seed, loads):
    """Batches come singly or together, in any order, some of them again: the tables are a function of what arrived."""
    warehouse.empty()
    chance = random.Random(seed)
    batches = split(copies)
    order = chance.sample(batches, len(batches)) + chance.choices(batches, k=loads)

    while order:
        take = chance.randint(1, 3)
        group, order = {b.number: b for b in order[:take]}, order[take:]
        warehouse.load("server", chance.sample(list(group.values()), len(group)))

    assert warehouse.contents("server") == expected("server", copies)
    named = warehouse.read("select user_id, count(*) from {s}.user_name group by user_id")
    logged = warehouse.read("select count(*) from {s}.log where message like 'New user:%'")
    assert all(count == 1 for _, count in named)
    assert logged == [(len(named),)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(copies=copies_of_events, spread=st.lists(st.integers(0, 25 * DAY), min_size=14, max_size=14), seed=st.integers(0, 2**32))
def test_rows_do_not_depend_on_the_order_even_where_copies_are_weeks_apart(warehouse, copies, spread, seed):
    """Beyond one window only the conflicting flags may differ: which copy is a row is decided by the copies around it."""
    warehouse.empty()
    chance = random.Random(seed)
    copies = [replace(copy, at=at, content="a") for copy, at in zip(copies, spread, strict=False)]
    batches = split(copies)

    for batch in [*chance.sample(batches, len(batches)), *chance.choices(batches, k=2)]:
        warehouse.load("server", [batch])

    assert warehouse.contents("server") == expected("server", copies)


_MICROSECOND = 1 / 3_600_000_000
NEAR = st.integers(0, 6 * DAY)
FAR = st.builds(
    lambda windows, off: windows * 7 * DAY + off, st.integers(0, 4), st.sampled_from([0, _MICROSECOND, -_MICROSECOND, 1, -1, 3.5 * DAY])
)
"""Hours: all within a window of each other; or at its very edges, several windows long."""


def _copies(at, contents):
    made = st.builds(
        Copy,
        id=st.sampled_from(["m", "m ", "m  ", "M", "n"]),
        at=at,
        batch=st.integers(1, 4),
        content=st.sampled_from(contents),
        user=st.sampled_from([None, "u", "u ", "U", " "]),
    )
    return st.lists(st.tuples(st.sampled_from(["server", "client"]), made), min_size=1, max_size=14)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(copies=_copies(NEAR, "ab") | _copies(FAR, "a"), seed=st.integers(0, 2**32), replays=st.integers(0, 6))
def test_replays_under_changing_rules_of_both_sources_come_to_what_the_archive_says(warehouse, copies, seed, replays):
    """Copies on the edge of the window, ids that differ in case and blanks, other names and rules at each replay, in any order."""
    warehouse.empty()
    chance = random.Random(seed)
    archive = {}
    for number, (source, copy) in enumerate(copies):
        archive.setdefault((source, copy.batch), []).append(replace(copy, position=f"{number:03}"))
    current = {}

    def transform(source, number):
        """Make of a batch what the rules of this try make of it: a copy may go to quarantine, or be proposed another name."""
        before = current.get((source, number))
        kept = [copy for copy in archive[source, number] if before is None or chance.random() < 0.7]
        named = [replace(copy, name=copy.user and f"{copy.user}: {chance.choice('xyz')}") for copy in kept]
        lost = len(archive[source, number]) - len(kept)
        generation = before.generation + 1 if before else 1
        return Batch(number=number, copies=tuple(named), reasons=(("too_long", lost),) if lost else (), generation=generation)

    order = [*chance.sample(list(archive), len(archive)), *chance.choices(list(archive), k=replays)]
    while order:
        source = order[0][0]
        group = [order.pop(0)]
        while order and order[0][0] == source and order[0] not in group and chance.random() < 0.5:
            group.append(order.pop(0))
        for key in group:
            current[key] = transform(*key)
        arrivals = [NOON, *(copy.received_at for key in group for copy in archive[key])]  # NOON: of a batch with nothing left
        warehouse.load(
            source,
            [current[key] for key in group],
            first_arrival=str(min(arrivals)),
            last_arrival=str(max(arrivals)),
            window_start=str(min(arrivals) - timedelta(days=7)),
            window_end=str(max(arrivals) + timedelta(days=7)),
        )

    for source in ("server", "client"):
        numbers = [number for of, number in current if of == source]
        held = [copy for (of, _), batch in current.items() if of == source for copy in batch.copies]
        assert warehouse.contents(source) == expected(source, held, batches=numbers)
    registry = warehouse.read("select user_id, user_name from {s}.user_name")
    rows = warehouse.read("select user_id, user_name from {s}.server union all select user_id, user_name from {s}.client")
    assert len(dict(registry)) == len(registry)
    assert {name for _, name in rows} - {None} <= {name for _, name in registry}
    assert {(user, dict(registry).get(user)) for user, _ in rows} == set(rows)
    logged = warehouse.read("select message from {s}.log where message like 'New user:%'")
    assert sorted(logged) == sorted((f"New user: {user} -> {name}",) for user, name in registry)


def test_ids_that_differ_in_blanks_at_their_end_are_two(warehouse):
    """Redshift compares VARCHAR without trailing blanks; events and users are told apart by every byte all the same."""
    ids = ["m", "m ", "m  "]
    copies = [Copy(id=id_, batch=n, position="0", user=id_, name=f"Name {n}") for n, id_ in enumerate(ids)]

    _load_singly(warehouse, "server", copies)
    warehouse.load("server", split(copies))

    assert warehouse.contents("server") == expected("server", copies)
    named = [(id_, f"Name {n}") for n, id_ in enumerate(ids)]
    assert sorted(warehouse.read("select user_id, user_name from {s}.user_name")) == named
    assert sorted(warehouse.read("select user_id, user_name from {s}.server")) == named


def test_loading_a_batch_twice_leaves_the_tables_as_they_were(warehouse):
    """Clearing `load` in the UI must never double a row, a naming or a log line."""
    batches = [
        Batch(
            number=1,
            copies=(
                Copy(id="m", position="0", user="u", name="Ada"),
                Copy(id="m", position="1", user="u", name="Ada", content="b"),
                Copy(id="n", position="2", user="v", name="Bob"),
            ),
            reasons=(("not_json", 2),),
            gap_seconds=60,
        ),
        Batch(number=2, copies=(Copy(id="n", batch=2, at=1, content="b"),)),
    ]
    warehouse.load("server", batches)
    before = warehouse.snapshot()

    warehouse.load("server", batches)
    warehouse.load("server", batches[:1])

    assert warehouse.snapshot() == before
    assert len(before["log"]) == 6, "two namings, one quarantine, two conflicts, one gap"


def test_a_load_reports_the_books_of_its_batches(warehouse):
    """The task logs these once they are committed."""
    warehouse.load("server", [Batch(number=2, copies=(Copy(id="m", batch=2, at=1),))])

    report = warehouse.load("server", [Batch(number=1, copies=(Copy(id="m"), Copy(id="m", position="1")), reasons=(("not_json", 3),))])

    assert report == [(batch_id("server", 1), 5, 1, 1, 0, 3)]


def test_a_batch_without_events_has_books(warehouse):
    """An idle minute that healed a pending batch is no hole in the books; COPY of an empty object stages no row."""
    report = warehouse.load("server", [Batch(number=1)])

    assert report == [(batch_id("server", 1), 0, 0, 0, 0, 0)]
    assert warehouse.read("select balanced, missing from {s}.books") == [(True, 0)]


def test_an_older_transform_changes_nothing(warehouse):
    """A zombie that wakes after its successor must not undo what that one has loaded."""
    warehouse.load("server", [Batch(number=1, generation=5, copies=(Copy(id="m"),))])
    before = warehouse.snapshot()

    with pytest.raises(Exception, match=f"StaleLoad: the books hold a newer transform of {batch_id('server', 1)}"):
        warehouse.load("server", [Batch(number=2, copies=(Copy(id="y", batch=2),)), Batch(number=1, generation=4, copies=(Copy(id="x"),))])

    assert warehouse.snapshot() == before


def test_a_newer_transform_replaces_the_older_one(warehouse):
    """A replay after the parameters changed: rows, books and quarantine are those of the new run."""
    warehouse.load(
        "server", [Batch(number=1, copies=(Copy(id="m"), Copy(id="n", position="1")), reasons=(("not_json", 1), ("too_long", 2)))]
    )

    warehouse.load("server", [Batch(number=1, generation=2, copies=(Copy(id="m"), Copy(id="o", position="2")), reasons=(("not_json", 3),))])

    assert warehouse.contents("server") == expected("server", [Copy(id="m"), Copy(id="o", position="2")])
    assert warehouse.read("select reason, events from {s}.rejected") == [("not_json", 3)]
    assert warehouse.read("select received, quarantined, generation from {s}.batch") == [(5, 3, 2)]


WRONG = {
    "a row is missing": ({"rows": 2}, r"CountMismatch: 1 rows came, 2 were staged"),
    "a row is too many": ({"rows": 0}, r"CountMismatch: 1 rows came, 0 were staged"),
    "a row is too early": (
        {"first_arrival": str(NOON.replace(hour=13)), "last_arrival": str(NOON.replace(hour=14))},
        r"ArrivalMismatch: a row",
    ),
    "a row is too late": (
        {"first_arrival": str(NOON.replace(hour=10)), "last_arrival": str(NOON.replace(hour=11))},
        r"ArrivalMismatch: a row",
    ),
}


@pytest.mark.parametrize(("changed", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_not_what_was_staged_is_refused(warehouse, changed, message):
    """A staged object that is not the one that was written must not become rows."""
    with pytest.raises(Exception, match=message):
        warehouse.load("server", [Batch(number=1, copies=(Copy(id="m"),))], **changed)

    assert not any(warehouse.snapshot().values())


def test_a_row_of_another_batch_is_refused(warehouse):
    """It would stand in no books."""
    statements = warehouse.load_statements("server", [Batch(number=1, copies=(Copy(id="m"),))])
    foreign = [s.replace(batch_id("server", 1), batch_id("server", 9)) if s.startswith("insert into staged") else s for s in statements]

    with pytest.raises(Exception, match="BatchMismatch: a staged row is of no batch of this load"):
        warehouse.run(foreign)

    assert not any(warehouse.snapshot().values())


def test_a_row_that_came_twice_is_refused(warehouse):
    """A copy is known by its position; two rows at one would both be taken for the duplicate of the other."""
    with pytest.raises(Exception, match=f"PositionMismatch: 1 positions hold two staged rows, e.g. in {batch_id('server', 1)}"):
        warehouse.load("server", [Batch(number=1, copies=(Copy(id="m"), Copy(id="m")))])

    assert not any(warehouse.snapshot().values())


def test_books_that_do_not_balance_are_refused(warehouse):
    """Received = loaded + duplicates + quarantined, always."""
    statements = warehouse.load_statements("server", [Batch(number=1, copies=(Copy(id="m"),))])
    extra = [s for s in statements if not s.startswith("-- 70_insert_target.sql")]

    with pytest.raises(Exception, match=f"BooksUnbalanced: .* in {batch_id('server', 1)}"):
        warehouse.run(extra)

    assert not any(warehouse.snapshot().values())


def test_rows_outside_the_range_of_a_replay_are_not_left_behind(warehouse):
    """The range is constant in the SQL; where the books know of more, the load stops instead of doubling rows."""
    warehouse.load("server", [Batch(number=1, copies=(Copy(id="m", at=0), Copy(id="n", at=2, position="1")))])

    with pytest.raises(Exception, match=r"ArrivalMismatch: the books hold rows that arrived outside"):
        warehouse.load("server", [Batch(number=1, generation=2, copies=(Copy(id="m", at=0),))])


def test_a_user_is_named_once_whoever_comes_first(warehouse):
    """Server and client, one batch or many, one proposal or two: the first one decides, for good."""
    ada, eve = {"user": "u", "name": "Ada"}, {"user": "u", "name": "Eve"}

    warehouse.load("client", [Batch(number=1, copies=(Copy(id="a", at=2, position="0", **eve), Copy(id="b", at=1, position="1", **ada)))])
    warehouse.load(
        "server", [Batch(number=1, copies=(Copy(id="c", at=0, **eve),)), Batch(number=2, copies=(Copy(id="d", batch=2, **eve),))]
    )

    assert warehouse.read("select user_id, user_name, batch_id, message_id from {s}.user_name") == [
        ("u", "Ada", batch_id("client", 1), "b")
    ]
    assert warehouse.read("select distinct user_name from {s}.client union select distinct user_name from {s}.server") == [("Ada",)]
    assert warehouse.read("select level, message, batch_id from {s}.log") == [("WARNING", "New user: u -> Ada", batch_id("client", 1))]


def test_a_source_that_is_not_translated_has_no_names(warehouse):
    """Also where the other source has named the user: else the order of loading would show."""
    warehouse.load("server", [Batch(number=1, copies=(Copy(id="a", user="u", name="Ada"),))])
    warehouse.load("client", [Batch(number=1, copies=(Copy(id="b", user="u"), Copy(id="c", user="w", position="1")))])

    assert warehouse.read("select user_id, user_name from {s}.client order by user_id") == [("u", None), ("w", None)]
    assert warehouse.read("select user_id from {s}.user_name") == [("u",)]


def test_a_copy_that_loses_names_nobody(warehouse):
    """Names are given to rows, and a duplicate is none."""
    warehouse.load(
        "server", [Batch(number=1, copies=(Copy(id="m", user="u", name="Ada"), Copy(id="m", at=1, position="1", user="v", name="Bob")))]
    )

    assert warehouse.read("select user_id from {s}.user_name") == [("u",)]


def test_a_copy_that_becomes_a_row_again_is_named(warehouse):
    """When a replay puts the winner into quarantine, the next copy takes its place, and its user is announced."""
    warehouse.load(
        "server", [Batch(number=1, copies=(Copy(id="m"),)), Batch(number=2, copies=(Copy(id="m", batch=2, at=1, user="v", name="Bob"),))]
    )

    warehouse.load("server", [Batch(number=1, generation=2, reasons=(("too_long", 1),))])

    assert warehouse.contents("server") == expected("server", [Copy(id="m", batch=2, at=1)], batches=[1])
    assert warehouse.read("select message, batch_id from {s}.log where message like 'New%'") == [
        ("New user: v -> Bob", batch_id("server", 2))
    ]


NASTY_IDS = [
    "o'hara",
    'say "hi"',
    "back\\slash",
    "\\N",
    "</script>",
    "<!channel>",
    "משתמש",
    "\u202eevil",
    "😀",
    "{}",
    "%s",
    "-- x",
    "'; drop table x; --",
    " ",
]


@pytest.mark.parametrize("user", NASTY_IDS)
def test_a_strange_user_id_is_kept_and_logged_as_it_is(warehouse, user):
    """It comes in by COPY and is never part of a statement; the context of its log row is JSON all the same."""
    warehouse.load("server", [Batch(number=1, copies=(Copy(id="m", user=user, name="Ada"),))])

    assert warehouse.read("select user_id from {s}.user_name") == [(user,)]
    [(message, context)] = warehouse.read("select message, json_serialize(context) from {s}.log")
    assert message == f"New user: {user} -> Ada"
    assert json.loads(context) == {"user_id": user, "user_name": "Ada", "source": "server", "message_id": "m"}


def test_quarantined_counts_are_logged_when_they_are_new(warehouse):
    """Once for each count of a batch, at the level that its share deserves."""
    few, many = (("not_json", 1), ("too_long", 2)), (("not_json", 9),)

    for reasons, level in ((few, "WARNING"), (few, "WARNING"), (many, "ERROR"), ((), "WARNING")):
        warehouse.load("server", [Batch(number=1, copies=(Copy(id="m"),), reasons=reasons, level=level)])

    of = f"events of {batch_id('server', 1)}"
    assert warehouse.read("select level, message from {s}.log order by message") == [
        ("WARNING", f"Quarantined 3 of 4 {of}: not_json: 1, too_long: 2"),
        ("ERROR", f"Quarantined 9 of 10 {of}: not_json: 9"),
    ]
    [(context,)] = warehouse.read("select json_serialize(context) from {s}.log where level = 'ERROR'")
    assert json.loads(context) == {"source": "server", "received": 10, "quarantined": 9, "reasons": {"not_json": 9}}


def test_as_many_batches_as_a_load_may_hold_each_with_every_reason(warehouse):
    """The largest script that the parameters allow: below Redshift's 16 MB of a statement, and no tree of UNION ALL of that size."""
    reasons = tuple((reason, 1) for reason in sorted(events.REASONS))
    batches = [Batch(number=number, reasons=reasons) for number in range(1000)]

    statements = warehouse.load_statements("server", batches)
    warehouse.load("server", batches)

    assert max(map(len, statements)) < 16_000_000
    assert warehouse.read("select count(*), sum(events) from {s}.rejected") == [(1000 * len(reasons), 1000 * len(reasons))]
    assert warehouse.read("select count(*) from {s}.books where balanced and quarantined = received") == [(1000,)]


def test_conflicting_copies_are_logged_for_the_batch_that_holds_them(warehouse):
    """Also where the copy that wins comes later, by another batch."""
    warehouse.load("server", [Batch(number=2, copies=(Copy(id="m", batch=2, at=1, content="b"),))])
    warehouse.load("server", [Batch(number=1, copies=(Copy(id="m", batch=1, at=0, content="a"),))])

    [(level, message, batch)] = warehouse.read("select level, message, batch_id from {s}.log")
    assert (level, batch) == ("WARNING", batch_id("server", 2))
    assert message == f"Conflicting duplicates: 1 of 1 events of {batch} repeat a messageId with other contents"


@pytest.mark.parametrize(("seconds", "text"), [(90, "up to 90 s of arrivals"), (0, "nobody can tell how many")])
def test_a_gap_is_logged_loudly_and_stands_in_the_books(warehouse, seconds, text):
    """What retention took is lost, and somebody must know."""
    warehouse.load("server", [Batch(number=1, gap_seconds=seconds)])

    [(level, message)] = warehouse.read("select level, message from {s}.log")
    assert level == "ERROR"
    assert text in message
    assert warehouse.read("select gap_seconds from {s}.books") == [(seconds,)]


def test_a_load_that_waited_for_another_sees_what_it_left(warehouse, until_locked):
    """Two tries at once, under snapshot isolation: the second must not see the past, or rows and names would double."""
    first, second = Copy(id="m", user="u", name="Ada"), Copy(id="m", batch=2, at=1, user="u", name="Ada")
    ahead, behind = warehouse.connect(), warehouse.connect()
    cursor = ahead.cursor()
    for statement in warehouse.load_statements("server", [Batch(number=1, copies=(first,))]):
        cursor.execute(statement)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(warehouse.run, warehouse.load_statements("server", [Batch(number=2, copies=(second,))]), connection=behind)
        try:
            until_locked()
        finally:
            ahead.commit()
        waiting.result(30)

    assert warehouse.contents("server") == expected("server", [first, second])
    assert warehouse.read("select count(*) from {s}.user_name") == [(1,)]
    ahead.close()
    behind.close()
