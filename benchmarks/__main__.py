"""
``make bench``: runs the benchmarks one after another and writes their figures as one table to docs/benchmarks.md.

Progress goes to stderr. Where a target is missed, the profile that shows why stands below the table. The table is written anew
each time, so it holds one run on one machine; growth is measured with ``make bench GROWTH=1`` only (some minutes more), and
its figures of the last time are kept until then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
KEPT = "<!-- growth -->"
TRANSFORM_TARGET = 1.0
MEMORY_TARGET = 150


class Row(NamedTuple):
    """One line of the table; ``target`` and ``met`` are "" where a figure is there for comparison."""

    what: str
    median: str
    spread: str
    ratio: str
    target: str = ""
    met: str = ""

    def text(self) -> str:
        """Return it as Markdown."""
        return "| " + " | ".join(self) + " |"


HEAD = ["| what | median | spread | ratio | target | met |", "|---|---|---|---|---|---|"]


def run(script: str, *options: str) -> Any:
    """Run one benchmark, its progress shown, and return what it printed as JSON."""
    say(f"{script} {' '.join(options)}")
    begin = time.monotonic()
    output = output_of(script, "--json", *options)
    say(f"  done in {time.monotonic() - begin:.0f} s")
    return json.loads(output)


def output_of(script: str, *options: str) -> str:
    """Run one benchmark and return what it printed."""
    return subprocess.run([sys.executable, str(HERE / script), *options], stdout=subprocess.PIPE, text=True, check=True).stdout


def transform_rows(results: list[dict[str, Any]]) -> list[Row]:
    """Return the rows of bench_transform; its target is about the events as they come through the front door."""
    rows = []
    for number, one in enumerate(results):
        target = (f"at least {TRANSFORM_TARGET}", met(one["ratio"] >= TRANSFORM_TARGET)) if not number else ()
        rows.append(Row(one["what"], one["median"], one["spread"], str(one["ratio"]), *target))
    most = max(one["memory_mb_over_interpreter"] for one in results)
    rows.append(
        Row("transform, memory over the interpreter", f"{most} MB", "", "", f"at most {MEMORY_TARGET} MB", met(most <= MEMORY_TARGET))
    )
    return rows


def drain_rows(found: dict[str, Any]) -> list[Row]:
    """Return the rows of bench_drain."""
    rows = []
    for one in found["results"]:
        own, ratio = one["polku"], one["ratio"]
        where = "one core" if one["one_core"] else "any core"
        rate, (low, high) = own["records_per_second"], own["spread"]
        target = (f"at least {found['target']}", met(ratio >= found["target"]))
        rows.append(Row(f"drain, {where}, against a boto3 loop", f"{rate:,} records/s", f"{low:,} to {high:,}", str(ratio), *target))
    return rows


def load_rows(found: dict[str, Any]) -> list[Row]:
    """Return the rows of bench_load; by hand nobody is named, so an empty registry costs the most beside it."""
    rows = []
    for one in found["results"]:
        low, high = one["spread"]
        target = (f"at most {found['target']}", met(one["ratio"] <= found["target"]))
        rows.append(Row(one["what"], f"{one['seconds']} s", f"{low} to {high}", str(one["ratio"]), *target))
    return rows


def growth_rows(found: dict[str, Any]) -> list[Row]:
    """Return the rows of bench_growth; counts have to be equal, and what is the stand-in's own has no target."""
    rows = []
    for one in found["results"]:
        if "count" in one:
            rows.append(Row(one["what"], f"{one['count']:g}", "", "", f"{one['count_there']:g}", met(one["count"] == one["count_there"])))
            continue
        low, high = one["spread"]
        target = () if one.get("stand_in") else (f"at most {found['target']}", met(one["ratio"] <= found["target"]))
        rows.append(Row(one["what"], f"{one['seconds']} s", f"{low} to {high}", str(one["ratio"]), *target))
    return rows


def profile_of(title: str, script: str, *options: str) -> list[str]:
    """Return the section with the profile of a missed target, of one round."""
    say(f"{title} is missed; profiling")
    return [f"### {title}", "", "```", output_of(script, "--profile", *options).strip(), "```", ""]


def statements(found: dict[str, Any], mine: str, other: str) -> list[str]:
    """Return the seconds of each statement of the rows of a benchmark of loads."""
    lines = []
    for one in found["results"]:
        if mine in one:
            lines += [f"{one['what']}, seconds of each statement:", ""]
            for name, seconds in (("Polku", one[mine]), ("the other", one[other])):
                lines.append(f"- {name}: " + ", ".join(f"{key} {value}" for key, value in seconds.items()))
            lines.append("")
    return lines


def met(yes: object) -> str:
    """Return how the table says it."""
    return "yes" if yes else "**no**"


def machine() -> str:
    """Return where the figures are from."""
    model = next((line.partition(":")[2].strip() for line in cpuinfo() if line.startswith("model name")), platform.processor() or "?")
    now = datetime.now(timezone.utc)
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, {platform.system()}, {now:%Y-%m-%d %H:%M} UTC"


def cpuinfo() -> list[str]:
    """Return what Linux says of the processor; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure all, write the page, print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--growth", action="store_true", help="measure growth too")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--page", type=Path, default=PAGE)
    given = options.parse_args()
    rounds = ("--rounds", str(given.rounds))
    missed: list[str] = []

    transformed = run("bench_transform.py", *rounds)
    drained = run("bench_drain.py", *rounds)
    loaded = run("bench_load.py", *rounds)
    rows = [*transform_rows(transformed), *drain_rows(drained), *load_rows(loaded)]
    if any(row.met == met(yes=False) for row in drain_rows(drained)):
        missed += profile_of("drain", "bench_drain.py")
    if any(row.met == met(yes=False) for row in transform_rows(transformed)):
        missed += profile_of("transform", "bench_transform.py", "--shapes", "envelope")
    if any(row.met == met(yes=False) for row in load_rows(loaded)):
        missed += ["### load", "", *statements(loaded, "statements", "by_hand_statements")]

    page = [
        "# Benchmarks",
        "",
        "`make bench` writes this page; the top of each file in `benchmarks/` says what it measures.",
        "Ratios compare within one run on one machine; only they can be compared between machines.",
        "A row without a target is there for comparison.",
        "",
        machine(),
        "",
        *HEAD,
        *(row.text() for row in rows),
        "",
        *(["## Where missed targets spend their time", "", *missed] if missed else []),
    ]
    if given.growth:
        page += [KEPT, *growth_section(run("bench_growth.py"))]
    elif given.page.exists() and KEPT in (text := given.page.read_text(encoding="utf-8")):
        page += [KEPT + text.partition(KEPT)[2].rstrip("\n")]
    given.page.write_text("\n".join(page).rstrip("\n") + "\n", encoding="utf-8")
    print("\n".join(page))
    say(f"written to {given.page}")


def growth_section(found: dict[str, Any]) -> list[str]:
    """Return the section about growth."""
    rows = growth_rows(found)
    return [
        "## Growth",
        "",
        "`make bench GROWTH=1`. " + machine(),
        "",
        *HEAD,
        *(row.text() for row in rows),
        "",
        "The seconds of a plan of a source with buffer files are the local S3's own: to list one prefix it looks at every key of the",
        "bucket. What is asked of it is counted below that row, and the target is the count with the few batches.",
        "",
        *(statements(found, "statements", "statements_there") if any(row.met == met(yes=False) for row in rows) else []),
    ]


if __name__ == "__main__":
    main()
