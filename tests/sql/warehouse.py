"""A schema of its own in the local Redshift, the SQL files rendered as Airflow renders them, and a model of what they should do."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from polku.loads import Load, LoadedBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SQL = Path(__file__).parents[2] / "include" / "sql"
NOON = datetime(2026, 11, 23, 12)
DEDUP_DAYS = 7
COLUMNS = (
    "message_id", "received_at", "timestamp", "original_timestamp", "sent_at", "type", "event", "name", "user_id", "anonymous_id",
    "user_name", "previous_id", "group_id", "properties", "traits", "context", "integrations", "extra", "fingerprint", "batch_id",
    "position", "repairs",
)  # fmt: skip
STATE = ("server", "client", "duplicate", "user_name", "log", "batch", "rejected")
CLEAR = "drop table if exists loading, rejection, staged, neighbour, judged, person, naming, book"
"""In production each load has a session of its own; here one session after another would take most of the time."""

_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(SQL), undefined=jinja2.StrictUndefined, autoescape=False)


def files(folder: str) -> list[str]:
    """Return the files of a folder in running order."""
    return sorted(f"{folder}/{file.name}" for file in (SQL / folder).glob("[0-9]*.sql"))


def render(file: str, **values: Any) -> str:
    """Return a file as Airflow would render it; an unknown name is an error."""
    return _TEMPLATES.get_template(file).render(**values)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """
    One copy of an event, as transform would stage it.

    Args:
        id: Its message_id.
        at: Hours after NOON at which it arrived.
        batch: Number of its batch.
        position: Where it stood, unique in its batch.
        content: What its fingerprint is made of.
        user: Its user_id.
        name: The name that is proposed for the user; None where its source is not translated.
    """

    id: str
    at: float = 0
    batch: int = 1
    position: str = "0"
    content: str = "a"
    user: str | None = None
    name: str | None = None

    @property
    def received_at(self) -> datetime:
        """When it arrived."""
        return NOON + timedelta(hours=self.at)

    @property
    def fingerprint(self) -> str:
        """The hash of its content."""
        return hashlib.md5(self.content.encode()).hexdigest()

    def values(self, source: str) -> dict[str, Any]:
        """Return it as a row of the staged file; columns that are not in it are NULL."""
        return {
            "message_id": self.id,
            "received_at": self.received_at.isoformat(sep=" ", timespec="microseconds"),
            "type": "track",
            "event": self.content,
            "user_id": self.user,
            "user_name": self.name,
            "fingerprint": self.fingerprint,
            "batch_id": batch_id(source, self.batch),
            "position": self.position,
        }


def batch_id(source: str, number: int) -> str:
    """Return the id of the batch of this minute after NOON."""
    return f"{source}/{(NOON + timedelta(minutes=number)).isoformat()}Z"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a batch holds: copies that became rows, and counts of what did not."""

    number: int
    copies: tuple[Copy, ...] = ()
    reasons: tuple[tuple[str, int], ...] = ()
    generation: int = 1
    gap_seconds: int | None = None
    level: str = "WARNING"

    def book(self, source: str) -> LoadedBatch:
        """Return what load is told of it."""
        arrivals = [copy.received_at for copy in self.copies] or [NOON]
        quarantined = sum(count for _, count in self.reasons)
        return LoadedBatch(
            id=batch_id(source, self.number),
            source=source,
            generation=self.generation,
            received=len(self.copies) + quarantined,
            quarantined=quarantined,
            repaired=0,
            bytes=100 * len(self.copies),
            first_arrival=_text(min(arrivals)),
            last_arrival=_text(max(arrivals)),
            reasons=dict(self.reasons),
            quarantine_level=self.level,
            gap_seconds=self.gap_seconds,
        )


def split(copies: Iterable[Copy]) -> list[Batch]:
    """Return the batches that these copies came in, oldest first."""
    ordered = sorted(copies, key=lambda copy: copy.batch)
    return [Batch(number=number, copies=tuple(group)) for number, group in itertools.groupby(ordered, key=lambda copy: copy.batch)]


def describe(source: str, batches: Sequence[Batch], *, name: str = "load", manifest: str = "s3://bucket/none", **changed: Any) -> Load:
    """Return the values of a load of these batches."""
    arrivals = [copy.received_at for batch in batches for copy in batch.copies] or [NOON]
    load = Load(
        table=source,
        name=name,
        manifest=manifest,
        iam_role="arn:aws:iam::123456789012:role/polku",
        rows=sum(len(batch.copies) for batch in batches),
        first_arrival=_text(min(arrivals)),
        last_arrival=_text(max(arrivals)),
        window_start=_text(min(arrivals) - timedelta(days=DEDUP_DAYS)),
        window_end=_text(max(arrivals) + timedelta(days=DEDUP_DAYS)),
        dedup_days=DEDUP_DAYS,
        batches=tuple(batch.book(source) for batch in batches),
    )
    return dataclasses.replace(load, **changed)


class Warehouse:
    """
    One schema and how to work with it.

    Args:
        connect: Opens a connection of redshift_connector.
        schema: Its name.
    """

    def __init__(self, connect: Callable[[], Any], schema: str) -> None:
        self.connect = connect
        self.schema = schema
        self._reader, self._loader = connect(), connect()
        self._loads = itertools.count()

    def close(self) -> None:
        """End its connections."""
        self._reader.close()
        self._loader.close()

    def run(self, statements: Iterable[str], *, connection: Any = None) -> list[tuple[Any, ...]]:
        """Run statements in one transaction as Airflow's hook does, commit, and return the rows of the last."""
        own = connection is None
        connection = connection or self.connect()
        rows: list[tuple[Any, ...]] = []
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
                rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            if own:
                connection.close()
        return rows

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; ``{s}`` in it is the schema."""
        return self.run([query.replace("{s}", self.schema)], connection=self._reader)

    def write(self, *statements: str) -> None:
        """Run statements and commit; ``{s}`` in them is the schema."""
        self.run([statement.replace("{s}", self.schema) for statement in statements], connection=self._reader)

    def migrate(self) -> list[str]:
        """Apply the migrations that are missing, as polku_migrate does, and return their versions."""
        self.run(render(file, schema=self.schema) for file in ("migrate/0001_create_schema.sql", "migrate/0002_create_migration.sql"))
        applied = {row[0] for row in self.run([render("migrate/applied.sql", schema=self.schema)])}
        missing = [file for file in files("migrate") if _version(file) not in applied]
        statements = [render("migrate/lock.sql", schema=self.schema)]
        for file in missing:
            migration = {"version": _version(file), "name": Path(file).stem.partition("_")[2]}
            statements += [render(file, schema=self.schema), render("migrate/record.sql", schema=self.schema, migration=migration)]
        self.run(statements)
        return [_version(file) for file in missing]

    def load(self, source: str, batches: Sequence[Batch], *, copy: str | None = None, **changed: Any) -> list[tuple[Any, ...]]:
        """
        Load batches in one transaction and return what the last statement reports.

        Args:
            source: Table.
            batches: In any order.
            copy: The statement that fills staged; by default an INSERT of the batches' copies in the place of COPY.
            changed: Fields of ``Load`` that shall differ from what the batches would give.
        """
        return self.run([CLEAR, *self.load_statements(source, batches, copy=copy, **changed)], connection=self._loader)

    def load_statements(self, source: str, batches: Sequence[Batch], *, copy: str | None = None, **changed: Any) -> list[str]:
        """Return the statements of a load."""
        load = describe(source, batches, name=f"load-{next(self._loads)}", **changed)
        statements = []
        for file in files("load"):
            if file == "load/31_copy_staged.sql":
                rows = [row.values(source) for batch in batches for row in batch.copies]
                statements += [insert_staged(rows)] if copy is None and rows else [copy] if copy else []
            else:
                statements.append(render(file, schema=self.schema, load=load))
        return statements

    def empty(self) -> None:
        """Take every row out of every table."""
        self.write(*(f"delete from {{s}}.{table}" for table in STATE))

    def snapshot(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all that a load must leave alone when it runs again: everything but the time and name of the last load."""
        columns, order = _columns(), "order by message_id, batch_id, position"
        books = (
            "batch_id, source, generation, received, loaded, duplicates, conflicting, quarantined, repaired, bytes, first_arrival,"
            " last_arrival, gap_seconds, first_loaded_at"
        )
        return {
            "server": self.read(f"select {columns} from {{s}}.server {order}"),
            "client": self.read(f"select {columns} from {{s}}.client {order}"),
            "duplicate": self.read(f"select source, conflicting, {columns} from {{s}}.duplicate {order}"),
            "user_name": self.read("select user_id, user_name, batch_id, message_id from {s}.user_name order by user_id"),
            "log": self.read("select level, message, batch_id, forwarded_at from {s}.log order by message, id"),
            "batch": self.read(f"select {books} from {{s}}.batch order by batch_id"),
            "rejected": self.read("select * from {s}.rejected order by batch_id, reason"),
        }

    def contents(self, source: str) -> Contents:
        """Return what is a function of the archive."""
        rows = self.read(f"select message_id, batch_id, position from {{s}}.{source}")
        duplicates = self.read(f"select message_id, batch_id, position, conflicting from {{s}}.duplicate where source = '{source}'")
        books = self.read(f"select batch_id, loaded, duplicates, conflicting from {{s}}.batch where source = '{source}'")
        return Contents(Counter(rows), Counter(duplicates), {book[0]: tuple(map(int, book[1:])) for book in books})


@dataclass(frozen=True)
class Contents:
    """Winners and losers by their keys, and (loaded, duplicates, conflicting) by batch."""

    rows: Counter[tuple[Any, ...]]
    duplicates: Counter[tuple[Any, ...]]
    books: dict[str, tuple[int, ...]]


def expected(source: str, copies: Iterable[Copy], *, batches: Iterable[int] = ()) -> Contents:
    """
    Return what the tables should hold, worked out one copy after another and without SQL.

    Args:
        source: Table.
        copies: All that was ever loaded.
        batches: Numbers of batches that were loaded, also those without a copy.
    """
    ordered = sorted(copies, key=lambda c: (c.id, c.received_at, batch_id(source, c.batch), c.position))
    rows: Counter[tuple[Any, ...]] = Counter()
    duplicates: Counter[tuple[Any, ...]] = Counter()
    books = {batch_id(source, number): [0, 0, 0] for number in {*batches, *(c.batch for c in ordered)}}
    before: Copy | None = None
    first: Copy | None = None
    for copy in ordered:
        key = (copy.id, batch_id(source, copy.batch), copy.position)
        book = books[key[1]]
        if before and first and before.id == copy.id and copy.received_at - before.received_at <= timedelta(days=DEDUP_DAYS):
            conflicting = copy.fingerprint != first.fingerprint
            duplicates[(*key, conflicting)] += 1
            book[1] += 1
            book[2] += conflicting
        else:
            first = copy
            rows[key] += 1
            book[0] += 1
        before = copy
    return Contents(rows, duplicates, {name: tuple(book) for name, book in books.items()})


def insert_staged(rows: Sequence[dict[str, Any]]) -> str:
    """Return an INSERT that fills staged as COPY would."""
    lines = (", ".join(_literal(row.get(column)) for column in COLUMNS) for row in rows)
    return f"insert into staged ({_columns()}) values " + ",\n".join(f"({line})" for line in lines)


def _literal(value: str | None) -> str:
    return "null" if value is None else "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _columns() -> str:
    return ", ".join(f'"{column}"' if column == "timestamp" else column for column in COLUMNS)


def _version(file: str) -> str:
    return Path(file).name.partition("_")[0]


def _text(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="microseconds")
