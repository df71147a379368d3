"""
What audit and trace read of Redshift, by the statements of include/sql/audit and include/sql/trace. Nothing here writes.

A connection of redshift_connector holds a whole result in memory, so that many rows are asked for in pages.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from polku.audit import Books, Copy
from polku.batches import SOURCES
from polku.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

PAGE = 20_000
"""Rows in one answer: some tens of MB of ordinary events."""


class Extent(NamedTuple):
    """Between which arrivals the rows of a batch lie, and how many there are, winners and losers together."""

    rows: int
    first: datetime
    last: datetime


class Found(NamedTuple):
    """A copy of an event that somebody asked for: it is the row where it ``wins``, else it stands in duplicate."""

    message_id: str
    received_at: datetime
    batch_id: str
    position: str
    fingerprint: str
    repairs: str | None
    user_id: str | None
    user_name: str | None
    wins: bool
    conflicting: bool


class Tables:
    """
    The tables of one source.

    Args:
        connection: A DB-API connection to Redshift without autocommit.
        sql: The texts of include/sql/audit and include/sql/trace by their name without number, as Jinja templates.
        schema: The schema that they take.
        source: "server" or "client".
    """

    def __init__(self, connection: Any, sql: Mapping[str, str], schema: str, source: str) -> None:
        if source not in SOURCES:  # it is rendered as the name of a table
            raise SettingsError(f"source is {source!r:.80}; expected one of {', '.join(SOURCES)}")
        self._connection, self._sql, self._schema, self._source = connection, sql, schema, source

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """See one state of the tables inside the block, whatever is loaded meanwhile, and leave no transaction open after it."""
        self._connection.rollback()
        try:
            yield
        finally:
            with contextlib.suppress(Exception):  # on a broken connection the error that broke it is the one to raise
                self._connection.rollback()

    def books(self, first: str, last: str) -> dict[str, Books]:
        """Return the books of the batches whose ids lie between two texts."""
        return {row[0]: Books(*row) for row in self._ask("list_books", first_batch=first, last_batch=last)}

    def rejected(self, first: str, last: str) -> dict[str, dict[str, int]]:
        """Return quarantined events by reason, by batch."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for batch, reason, events in self._ask("list_rejected", first_batch=first, last_batch=last):
            found[batch][reason] = int(events)
        return found

    def extents(self, first: str, last: str) -> dict[str, Extent]:
        """Return where the rows of batches lie, also of batches that nobody made."""
        found: dict[str, Extent] = {}
        for batch, *row in self._ask("list_rows", first_batch=first, last_batch=last):
            new = Extent(*row)
            was = found.get(batch, new)
            rows = new.rows + (was.rows if batch in found else 0)
            found[batch] = Extent(rows, min(was.first, new.first), max(was.last, new.last))
        return found

    def rows(self, batch: str, first: str, last: str, *, wins: bool) -> Iterator[Sequence[Any]]:
        """Yield the rows of a batch that arrived between two times: COLUMNS, conflicting, and the registry's name of the user."""
        return self._pages("read_rows" if wins else "read_duplicates", batch=batch, first_arrival=first, last_arrival=last)

    def copies(self, batch: str, first: str, last: str, window_start: str) -> Iterator[Copy]:
        """Yield the copies of a batch's events that there are several of, and those of other batches from the start of the window on."""
        pages = self._pages("read_copies", batch=batch, first_arrival=first, last_arrival=last, window_start=window_start)
        return (Copy(*row) for row in pages)

    def find(self, message_id: str) -> list[Found]:
        """Return all copies of an event; Redshift compares without trailing blanks and gives those of "m " for "m" too."""
        text = self._rendered("find_copies", trace={"source": self._source, "message_id": "%s"})
        found = [Found(*row) for row in self._execute(text, (message_id, message_id))]
        return [copy for copy in found if copy.message_id == message_id]

    def _pages(self, name: str, **audit: Any) -> Iterator[Sequence[Any]]:
        start = 1
        while True:
            page = self._ask(name, first_row=start, last_row=start + PAGE - 1, **audit)
            yield from page
            if len(page) < PAGE:
                return
            start += PAGE

    def _ask(self, name: str, **audit: Any) -> Sequence[Sequence[Any]]:
        return self._execute(self._rendered(name, audit={"source": self._source, **audit}), ())

    def _rendered(self, name: str, **values: Any) -> str:
        import jinja2

        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 -- SQL; only values that our code made
        return environment.from_string(self._sql[name]).render(schema=self._schema, **values)

    def _execute(self, text: str, bound: tuple[str, ...]) -> Sequence[Sequence[Any]]:
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(text, bound)
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
            return rows
