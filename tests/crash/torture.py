# ruff: noqa: T201 -- a command prints
"""
Every fault at every request: ``make torture``.

Tries the whole matrix (or as much of it as there are minutes for, in random order), prints the table and writes it into
``docs/guarantees.md``. Each of the processes that share the work has servers of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import selectors
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.crash import schedules, trials
from tests.crash.world import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- torture: begin -->", "<!-- torture: end -->"
SOURCES = ("server", "client")
SERVERS = {"s3": "S3", "kinesis": "Kinesis", "redshift": "Redshift", "slack": "Slack", "sentry": "Sentry", "names": "directory of names"}


# -- a share of the work ---------------------------------------------------------------------------------------------


def share(number: int, of: int, seed: int, until: float, interleaved: int) -> None:
    """Try every ``of``-th trial and print a line of JSON for each; ends once the time is over."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        for kind, key, attempt in _work(stack, number, of, seed, interleaved):
            if time.time() > until:
                return
            began = time.monotonic()
            try:
                findings = attempt()
                told = {"lost": findings.lost, "doubled": findings.doubled, "wrong": findings.wrong}
            except Exception as error:  # noqa: BLE001 -- a trial that could not be judged is a finding too
                told = {"lost": [], "doubled": [], "wrong": [f"{type(error).__name__}: {error}"]}
            _say({"kind": kind, "key": key, "seconds": time.monotonic() - began, **told})


def _work(stack: Stack, number: int, of: int, seed: int, interleaved: int) -> Iterator[tuple[Any, str, Any]]:
    """Yield (row of the table, name, function) of this share's trials, in an order that mixes all kinds."""
    every: list[Any] = [trial for source in SOURCES for trial in trials.matrix(source, trials.record(stack, source))]
    every += [f"{seed}-{i}" for i in range(interleaved)]
    random.Random(seed).shuffle(every)
    _say({"total": len(every)})
    for one in every[number::of]:
        if isinstance(one, str):
            yield ["interleaved", ""], f"interleaved {one}", lambda one=one: schedules.perform(stack, schedules.tape(one))
        else:
            yield [one.fault, one.point.server], str(one), lambda one=one: trials.perform(stack, one)


def _say(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


# -- the whole -------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of it so far."""

    total: int = 0
    tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    doubled: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, told: dict[str, Any]) -> None:
        """Count one trial."""
        row = tuple(told["kind"])
        self.tries[row] += 1
        for name in ("lost", "doubled", "wrong"):
            getattr(self, name)[row] += len(told[name])

    @property
    def bad(self) -> int:
        """Events, names, log rows or messages that were lost or doubled, and whatever else was wrong."""
        return self.lost.total() + self.doubled.total() + self.wrong.total()

    def table(self, minutes: float) -> str:
        """Return the table as Markdown."""
        rows = ["| fault | at a request to | tries | lost | doubled | otherwise wrong |", "| --- | --- | ---: | ---: | ---: | ---: |"]
        faults = [*trials.FAULTS, "interleaved"]
        for row in sorted(self.tries, key=lambda r: (faults.index(r[0]), list(SERVERS).index(r[1]) if r[1] else 0)):
            name = "runs, retries, zombies, clears, backfills, resharding, interleaved" if row[0] == "interleaved" else row[0]
            figures = (self.tries[row], self.lost[row], self.doubled[row], self.wrong[row])
            rows.append(f"| {name} | {SERVERS.get(row[1], 'any')} | " + " | ".join(map(str, figures)) + " |")
        sums = (self.tries.total(), self.lost.total(), self.doubled.total(), self.wrong.total())
        rows.append("| **all** | | " + " | ".join(f"**{figure}**" for figure in sums) + " |")
        day = f"{datetime.now(timezone.utc):%Y-%m-%d}"
        whole = (
            "the whole matrix"
            if self.tries.total() >= self.total
            else f"{self.tries.total()} of the matrix's {self.total}, drawn at random"
        )
        return f"{day}, {whole}, in {minutes:.0f} minutes:\n\n" + "\n".join(rows)


def torture(processes: int, minutes: float, seed: int, interleaved: int) -> Tally:
    """Try everything, side by side, showing progress; return what came of it."""
    until = time.time() + minutes * 60
    command = [sys.executable, "-W", "ignore", "-m", "tests.crash.torture", "--seed", str(seed), "--interleaved", str(interleaved)]
    workers = [
        subprocess.Popen([*command, "--share", str(i), str(processes), str(until)], cwd=ROOT, stdout=subprocess.PIPE)
        for i in range(processes)
    ]
    tally = Tally()
    began = time.monotonic()
    try:
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                assert worker.stdout
                selector.register(worker.stdout, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    line = key.fileobj.readline()  # type: ignore[union-attr]
                    if not line:
                        selector.unregister(key.fileobj)
                        continue
                    _hear(json.loads(line), tally, began)
    except KeyboardInterrupt:
        print("\nInterrupted; this is what was tried:")
    finally:
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(30)
            worker.terminate()
            worker.wait()
    print()
    return tally


def _hear(told: dict[str, Any], tally: Tally, began: float) -> None:
    """Take a line of a worker and show how far we are."""
    if "total" in told:
        tally.total = told["total"]
        return
    tally.take(told)
    if told["lost"] or told["doubled"] or told["wrong"]:
        print(f"\n{told['key']}: " + json.dumps({name: told[name] for name in ("lost", "doubled", "wrong") if told[name]}))
    done = tally.tries.total()
    left = (time.monotonic() - began) / done * (tally.total - done) / 60
    print(f"\r{done} of {tally.total} trials, {tally.bad} findings, about {left:.0f} minutes left for all ", end="", flush=True)


def write(table: str, document: Path = DOCUMENT) -> None:
    """Put the table between the markers of the document."""
    text = document.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    document.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; the exit status is 1 where anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.torture", description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=600, help="stop after so many minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--interleaved", type=int, default=200, help="schedules of interleaved runs to try besides")
    parser.add_argument("--keep-document", action="store_true", help="do not write the table into docs/guarantees.md")
    parser.add_argument("--share", nargs=3, metavar=("NUMBER", "OF", "UNTIL"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.share:
        number, of, until = chosen.share
        share(int(number), int(of), chosen.seed, float(until), chosen.interleaved)
        return 0
    began = time.monotonic()
    tally = torture(chosen.processes, chosen.minutes, chosen.seed, chosen.interleaved)
    table = tally.table((time.monotonic() - began) / 60)
    print(f"Seed {chosen.seed}. {table}")
    if not chosen.keep_document:
        write(table)
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
