"""
How long a load takes, against the same rows loaded by hand on the same server.

Measures 200,000 staged Segment events of about 450 bytes (one in 100 a copy of another, 20,000 users), as the product's transform
writes them, from S3 on loopback into empty tables of the local Redshift, over redshift_connector, in one transaction:
- polku: all statements of include/sql/load: lock, COPY, checks, dedup, registry of names, log, target, duplicates, books;
- by hand: a temporary table, COPY of the same manifest, row_number and an anti-join by message_id inside the window, insert, commit.
  No lock, names, log, books or kept duplicates; what it leaves depends on the order of the batches.
By turns, now one first and now the other, each load in a session of its own, in seconds from its first statement to the end of
COMMIT. The ratio is that of each round: polku's seconds to those by hand; at most 1.3 is wanted. Once with users that the registry
knows, as in any hour but the first, and once with an empty registry, where each of the 20,000 users is named and logged.
The seconds of each statement, COPY alone among them, are in the profile.

    python benchmarks/bench_load.py [--rounds 5] [--rows 200000] [--json] [--profile] [--explain]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from typing import TYPE_CHECKING, Any

from loading import PRODUCT, TABLES, Warehouse, medians, say, warehouse

from polku import sql

if TYPE_CHECKING:
    from polku.loads import Ready

TARGET = 1.3


def compare(house: Warehouse, ready: Ready, rounds: int, *, known: bool) -> dict[str, Any]:
    """Return the row of one state of the registry."""
    kept = ("user_name",) if known else ()
    mine: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for number in range(rounds + 1):
        house.empty(*(table for table in TABLES if table not in kept or not number))
        took = {}
        for load in (house.by_hand, house.product) if number % 2 else (house.product, house.by_hand):
            house.settle()
            took[load.__name__] = load(ready)
        by_hand, product = took["by_hand"], took["product"]
        if number:  # the first fills caches, and the registry
            theirs.append(by_hand)
            mine.append(product)
            say(f"  round {number} of {rounds}: polku {sum(product.values()):.2f} s, by hand {sum(by_hand.values()):.2f} s")
    seconds, other = (sorted(sum(run.values()) for run in runs) for runs in (mine, theirs))
    ratios = sorted(sum(a.values()) / sum(b.values()) for a, b in zip(mine, theirs, strict=True))
    return {
        "what": f"load, {'users known' if known else 'all users new'}, against by hand",
        "rows": ready.rows,
        "seconds": round(statistics.median(seconds), 3),
        "spread": [round(seconds[0], 3), round(seconds[-1], 3)],
        "by_hand_seconds": round(statistics.median(other), 3),
        "by_hand_spread": [round(other[0], 3), round(other[-1], 3)],
        "ratio": round(statistics.median(ratios), 2),
        "ratio_spread": [round(ratios[0], 2), round(ratios[-1], 2)],
        "statements": medians(mine),
        "by_hand_statements": medians(theirs),
    }


def explain(house: Warehouse, ready: Ready) -> None:
    """Print the plan of each statement (Redshift has no EXPLAIN ANALYZE), in a transaction that is rolled back."""
    load = house.describe(ready)
    house.empty(*(table for table in TABLES if table != "user_name"))
    with house.connection() as connection, connection.cursor() as cursor:
        for file in sql.names("load"):
            text = house.templates.get_template(file).render(load=load, schema=PRODUCT)
            begins = re.sub(r"^(--.*\n)+", "", text)
            if re.match(r"insert|delete|select|create temp table \w+( distkey \(\w+\))? as", begins) and "fill_loading" not in file:
                print(f"\n== {file}")
                table = re.match(r"create temp table \w+( distkey \(\w+\))? as", begins)
                cursor.execute("explain " + (begins[table.end() :] if table else begins))
                print("\n".join(row[0] for row in cursor.fetchall()))
            cursor.execute(text)
        connection.rollback()


def main() -> None:
    """Print the comparison."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--json", action="store_true")
    options.add_argument("--profile", action="store_true", help="print the seconds of each statement too")
    options.add_argument("--explain", action="store_true", help="print PostgreSQL's plan of each statement, and stop")
    given = options.parse_args()
    with warehouse() as house:
        ready = house.stage(given.rows)
        say(f"staged {ready.rows:,} rows in {len(ready.staged)} objects of {sum(o.size for o in ready.staged):,} bytes")
        if given.explain:
            house.product(ready)
            explain(house, ready)
            return
        results = [compare(house, ready, given.rounds, known=known) for known in (True, False)]
    if given.json:
        print(json.dumps({"name": "load", "target": TARGET, "results": results}, indent=1))
        return
    for row in results:
        (low, high), (least, most) = row["spread"], row["by_hand_spread"]
        print(
            f"{row['what']}: {row['rows']:,} rows, polku {row['seconds']} s ({low} to {high}), "
            f"by hand {row['by_hand_seconds']} s ({least} to {most}), ratio {row['ratio']} (at most {TARGET})"
        )
        if given.profile:
            for name in ("statements", "by_hand_statements"):
                print(f"  {name.replace('_', ' ')}, seconds:", ", ".join(f"{key} {value}" for key, value in row[name].items()))


if __name__ == "__main__":
    main()
