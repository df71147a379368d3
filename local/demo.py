"""
The whole pipeline, once: ``make demo``.

Starts a stack of its own, sends sample events of both sources, lets the scheduler deliver them, shows what came out, compares
it with what went in, and stops everything. Exits 0 only if the two agree.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from local.airflow import Unreachable
from local.outcome import Outcome
from local.samples import samples
from local.send import NotSent, publish, report
from local.stack import FOLDER, NotUp, Place, running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local.samples import Expected

PATIENCE = 300.0
"""Seconds until what is not there counts as lost."""


def deliver(
    place: Place,
    env: Mapping[str, str],
    count: int,
    *,
    say: Callable[[str], None],
    seconds: float = PATIENCE,
) -> tuple[Outcome, dict[str, Expected]]:
    """
    Send this many events and wait until the books and Slack have them all, or for so many seconds.

    Returns what came out, and what should have.
    """
    parcels, expected = samples(count, name=place.folder.name, seed=1, now=datetime.now(timezone.utc))
    publish(parcels, env)
    say(f"Sent:\n{report(expected)}")
    outcome = Outcome(env)
    wanted = sum(part.received for part in expected.values())
    began = time.monotonic()
    shown = ""
    while time.monotonic() - began < seconds:
        books = outcome.books()
        rows, waiting = outcome.waiting()
        text = ", ".join(f"{source} {one.received} of {expected[source].received}" for source, one in books.items())
        text = f"delivered: {text} events; Slack {rows - waiting} of {rows} log rows"
        if text != shown:
            say(f"{time.monotonic() - began:4.0f} s  {text}   {_runs(place)}")
            shown = text
        if sum(one.received for one in books.values()) >= wanted and not waiting:
            break
        time.sleep(2)
    return outcome, expected


def _runs(place: Place) -> str:
    """Return what the scheduler is doing."""
    try:
        states = {dag: [run["state"] for run in place.airflow().runs(dag, 1)] for dag in ("polku_server", "polku_client", "polku_notify")}
    except Unreachable:
        return ""
    return "runs: " + ", ".join(f"{dag} {state[0] if state else 'none yet'}" for dag, state in states.items())


def show(outcome: Outcome, say: Callable[[str], None]) -> None:
    """Print some of what came out."""
    for source in ("server", "client"):
        rows = outcome.query(
            f"select message_id, received_at, type, coalesce(event, name), user_id, user_name from {{schema}}.{source} "  # noqa: S608 -- one of our two
            "where user_id is not null order by message_id limit 5"
        )
        say(f"\n{outcome.schema}.{source}:")
        say(_table(("message_id", "received_at", "type", "event or name", "user_id", "user_name"), rows))
    say(f"\nThe books, {outcome.schema}.books:")
    columns = ("batch_id", "received", "loaded", "duplicates", "conflicting", "quarantined", "repaired", "balanced")
    say(_table(columns, outcome.query(f"select {', '.join(columns)} from {{schema}}.books order by batch_id")))  # noqa: S608 -- constants
    say(f"\nIn quarantine, {outcome.schema}.rejected:")
    rows = outcome.query("select source, reason, sum(events) from {schema}.rejected group by source, reason order by source, reason")
    say(_table(("source", "reason", "events"), rows))
    texts = outcome.slack()
    if texts is not None:
        lines = [line for text in texts for line in text.splitlines()]
        say(f"\nSlack received {len(lines)} lines in {len(texts)} messages:")
        others = [line for line in lines if "New user" not in line]
        say("\n".join(f"  {line[:150]}" for line in [*lines[:4], "...", *others[:4]]))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [list(head), *([("" if value is None else str(value))[:44] for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def main() -> int:
    """Run the demo; return 0 only if what came out agrees with what went in."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description="The whole pipeline, once.")
    parser.add_argument("--count", type=int, default=2000, help="how many events")
    count = parser.parse_args().count
    began = time.monotonic()
    FOLDER.mkdir(exist_ok=True)
    place = Place(Path(tempfile.mkdtemp(prefix="demo-", dir=FOLDER)))
    good = False
    try:
        with running(place, say=_say) as env:
            outcome, expected = deliver(place, env, count, say=_say)
            show(outcome, _say)
            differences = outcome.differences(expected)
            good = not differences
            _say("")
            if good:
                rows = sum(part.rows for part in expected.values())
                _say(f"What came out agrees with what went in: {count} events, {rows} rows, each exactly once.")
            else:
                _say("What came out differs from what went in:\n" + "\n".join(f"- {difference}" for difference in differences))
            _say(f"Stopping everything; make up starts a stack that stays.   ({time.monotonic() - began:.0f} s so far)")
    except (NotUp, NotSent) as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    if good:
        shutil.rmtree(place.folder, ignore_errors=True)
    else:
        print(f"Logs are kept in {place.logs} and {place.folder / 'airflow' / 'logs'}.", file=sys.stderr)
    return 0 if good else 1


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
