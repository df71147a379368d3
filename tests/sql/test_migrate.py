"""The schema comes of numbered files, each of which may run again, and of which the table migration keeps account."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sql.warehouse import COLUMNS, SQL, Batch, Copy, files, render

TABLES = {"migration", "loader", "server", "client", "duplicate", "user_name", "log", "batch", "rejected"}
VIEWS = {"rejected_by_day", "freshness", "namings_by_day", "books"}


def relations(warehouse, kind):
    query = f"select table_name from information_schema.tables where table_schema = '{warehouse.schema}' and table_type = '{kind}'"
    return {row[0] for row in warehouse.read(query)}


def test_migrations_are_numbered_without_a_gap():
    """A gap is a file that was lost, two of a number are a merge gone wrong."""
    numbers = [int(Path(file).name[:4]) for file in files("migrate")]

    assert numbers == list(range(1, len(numbers) + 1))


def test_a_new_schema_has_every_table_and_view(new_warehouse):
    """As docs/tables.md names them."""
    applied = new_warehouse.migrate()

    assert [int(version) for version in applied] == list(range(1, len(files("migrate")) + 1))
    assert relations(new_warehouse, "BASE TABLE") == TABLES
    assert relations(new_warehouse, "VIEW") == VIEWS


def test_every_table_and_column_is_in_the_docs(warehouse):
    """A column that nobody explains is a column that nobody trusts."""
    documented = (SQL.parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
    columns = warehouse.read(f"select table_name, column_name from information_schema.columns where table_schema = '{warehouse.schema}'")

    missing = {name for row in columns for name in row if f"`{name}`" not in documented}
    assert not missing - {"nothing"}


@pytest.mark.parametrize("source", ["server", "client"])
def test_both_event_tables_have_the_columns_of_the_staged_file(warehouse, source):
    """In the same order: staged is made like its table, and COPY names them."""
    query = f"select column_name from information_schema.columns where table_schema = '{warehouse.schema}' and table_name = '{source}'"

    assert tuple(row[0] for row in warehouse.read(query + " order by ordinal_position")) == COLUMNS


def test_migrating_twice_applies_nothing_the_second_time(warehouse):
    """polku_migrate runs at every deployment."""
    before = warehouse.read("select version, name, applied_at from {s}.migration order by version")

    assert warehouse.migrate() == []
    assert warehouse.read("select version, name, applied_at from {s}.migration order by version") == before


def test_every_migration_runs_again_without_harm(warehouse):
    """Redshift may have taken one whose record was lost."""
    warehouse.load("server", [Batch(number=1, copies=(Copy(id="m"),))])
    before = warehouse.snapshot()

    warehouse.run(render(file, schema=warehouse.schema) for file in files("migrate"))

    assert warehouse.snapshot() == before


def test_only_what_is_missing_is_applied(new_warehouse):
    """A release brings new files; those that ran stay as they are."""
    new_warehouse.migrate()
    new_warehouse.write("delete from {s}.migration where version = '0014'", "drop view {s}.books")

    assert new_warehouse.migrate() == ["0014"]
    assert relations(new_warehouse, "VIEW") == VIEWS


def test_two_migrations_at_once_apply_each_file_once(new_warehouse, until_locked):
    """Somebody starts polku_migrate by hand while a deployment runs it."""
    schema = new_warehouse.schema
    new_warehouse.run(render(file, schema=schema) for file in files("migrate")[:2])
    ahead = new_warehouse.connect()
    cursor = ahead.cursor()
    cursor.execute(render("migrate/lock.sql", schema=schema))

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(new_warehouse.migrate)
        try:
            until_locked()
            for file in files("migrate"):
                migration = {"version": Path(file).name[:4], "name": "ahead"}
                cursor.execute(render(file, schema=schema))
                cursor.execute(render("migrate/record.sql", schema=schema, migration=migration))
        finally:
            ahead.commit()
        waiting.result(60)

    assert new_warehouse.read("select distinct name from {s}.migration") == [("ahead",)]
    assert new_warehouse.read("select count(*) from {s}.migration") == [(len(files("migrate")),)]
    ahead.close()


def test_each_table_is_kept_where_its_joins_are(warehouse):
    """The keys are a decision (docs/tables.md); losing one would only show as a slow load on a large cluster."""
    text = {Path(file).stem[12:]: (SQL / file).read_text(encoding="utf-8") for file in files("migrate")}

    for table in ("server", "client", "duplicate"):
        assert "distkey (message_id) compound sortkey (received_at)" in text[table]


def test_views_add_up_what_the_books_hold(warehouse):
    """What an analyst asks first: how fresh, how many rejected and why, how many new users."""
    copies = (Copy(id="m", user="u", name="Ada"), Copy(id="n", at=1, position="1", user="v", name="Bob"))
    warehouse.load("server", [Batch(number=1, copies=copies, reasons=(("not_json", 2), ("too_long", 1)))])
    warehouse.load("server", [Batch(number=2, reasons=(("not_json", 1),))])

    assert warehouse.read("select source, cast(day as varchar), reason, events, batches from {s}.rejected_by_day order by reason") == [
        ("server", "2026-11-23", "not_json", 3, 2),
        ("server", "2026-11-23", "too_long", 1, 1),
    ]
    assert warehouse.read("select source, users from {s}.namings_by_day") == [("server", 2)]
    [(source, newest, age, last)] = warehouse.read(
        "select source, cast(newest_arrival as varchar), age_seconds, last_load from {s}.freshness"
    )
    [(now,)] = warehouse.read("select datediff(second, cast('2026-11-23 13:00:00' as timestamp), sysdate)")
    assert (source, newest) == ("server", "2026-11-23 13:00:00")
    assert 0 <= now - age < 60
    assert last is not None


EVERY = sorted(str(path.relative_to(SQL)) for path in SQL.rglob("*.sql"))


@pytest.mark.parametrize("file", EVERY)
def test_each_file_says_what_it_is_and_holds_one_statement(file):
    """Airflow shows each by itself; the driver takes no second statement; a percent sign would be taken for a parameter."""
    text = (SQL / file).read_text(encoding="utf-8")
    name = Path(file).name
    statement = "\n".join(line for line in text.splitlines() if not line.startswith("--"))

    assert text.startswith(f"-- {name[:4] if file.startswith('migrate/0') else name}:")
    assert ";" not in statement
    assert not re.search(r"%(?!-? *(if|for|endif|endfor|else|\}))", re.sub(r"\{%.*?%\}", "", statement))
