"""COPY from S3: the objects' lines, checked as Redshift would check them, into PostgreSQL's COPY FROM STDIN."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from . import load_errors
from .blocks import MAX_ROW, Blocks, UncommonError, escaped
from .errors import RedshiftError, not_here
from .load_errors import BadRow, Column, LoadFailed, load_failed
from .rows import converted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .copy_command import CopyCommand
    from .rows import Piece
    from .s3 import S3, S3Object

_FAST_DELIMITERS = frozenset(range(1, 128)) - set(b"\n\r\\.0123456789abcdefghijklmnopqrstuvwxyz")
_GENERAL_OPTIONS = {
    "ESCAPE",
    "EMPTYASNULL",
    "BLANKSASNULL",
    "TRIMBLANKS",
    "REMOVEQUOTES",
    "TRUNCATECOLUMNS",
    "IGNOREBLANKLINES",
    "FILLRECORD",
}
_BLOCK = 512 * 1024


@dataclass
class Load:
    """
    One COPY under way.

    Args:
        command: What the statement asks for.
        columns: What the fields of a line go to, in their order.
        s3: Where the objects are.
    """

    command: CopyCommand
    columns: Sequence[Column]
    s3: S3
    rows: int = 0
    _begins: list[tuple[int, S3Object]] = field(default_factory=list)

    def run(self, send: Callable[[bytes], None]) -> None:
        """
        Hand all rows to PostgreSQL, as pieces of its text format.

        Raises:
            LoadFailed: With Redshift's words; ``bad`` is filled in where a row is at fault.
        """
        for item in self.s3.objects(self.command):
            self._begins.append((self.rows, item))
            line = self.command.ignore_header + 1
            try:
                for piece, rows, lines in self._pieces(item):
                    send(piece)
                    self.rows += rows
                    line += lines
            except BadRow as bad:
                line += bad.line
                raise load_failed(self.table, replace(bad, line=line, file=item.url)) from None

    @property
    def table(self) -> str:
        """The target's name without its schema."""
        return self.command.table.rsplit(".", 1)[-1].strip('"')

    @property
    def fast(self) -> bool:
        """Whether the files' text can be handed on by the block."""
        return is_fast(self.command)

    def _pieces(self, item: S3Object) -> Iterator[Piece]:
        command = self.command
        if not self.fast:
            yield from converted(self._lines(item), command, self.columns, b"\x01", b"\\N")
            return
        blocks = Blocks(self.columns, command.delimiter, command.null, command.time_format)
        null = command.null.replace(b"\\", b"\\\\")
        for block in self._lines(item):
            try:
                rows = blocks.check(block)
            except UncommonError:
                yield from converted([block], command, self.columns, command.delimiter, null)
            else:
                yield escaped(block), rows, rows

    def _lines(self, item: S3Object) -> Iterator[bytes]:
        """Yield blocks of whole lines; the header is left out, a last line without newline is given one."""
        skip = self.command.ignore_header
        rest = b""
        for piece in self.s3.read(item, self.command.compression):
            data = rest + piece
            while skip and (at := data.find(b"\n")) >= 0:
                data, skip = data[at + 1 :], skip - 1
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if not cut or skip:
                if len(rest) > MAX_ROW and not skip and self.command.format == "text" and "ESCAPE" not in self.command.options:
                    raise BadRow(*load_errors.ROW_TOO_LONG, raw_line=rest[:1024])
                continue
            yield data[:cut]
        if rest and not skip:
            yield rest + b"\n"

    def explain(self, fields: dict[str, str]) -> RedshiftError | None:
        """
        Return Redshift's error for one that PostgreSQL raised over the rows; None where it is about something else.

        Args:
            fields: Of PostgreSQL's ErrorResponse.
        """
        where = re.search(r"^COPY .*?, line (\d+)(?:, column ([^:\n]+))?(?::|$)", fields.get("W", ""), re.MULTILINE)
        if not where:
            return None
        row = int(where[1]) - 1
        named = where[2] or _column_of(fields)
        column = next((c for c in self.columns if c.name == named), None)
        code, reason = _reason(fields, column)
        bad = BadRow(code, reason, column)
        if self._begins:
            begin, item = max((pair for pair in self._begins if pair[0] <= row), key=lambda pair: pair[0])
            bad = replace(bad, line=row - begin + 1 + self.command.ignore_header, file=item.url)
            bad.raw_line = self._line(item, bad.line) if self.fast else b""
            if column and self.fast and bad.raw_line:
                parts = bad.raw_line.split(self.command.delimiter)
                number = list(self.columns).index(column)
                if number < len(parts):
                    bad.raw_field = parts[number]
                    bad.position = sum(len(p) + 1 for p in parts[:number])
        return load_failed(self.table, bad)

    def _line(self, item: S3Object, number: int) -> bytes:
        """Read an object again up to one line: only ever done for an error."""
        seen = self.command.ignore_header
        for block in self._lines(item):
            count = block.count(b"\n")
            if seen + count >= number:
                return block.split(b"\n")[number - seen - 1]
            seen += count
        return b""


def is_fast(command: CopyCommand) -> bool:
    """Whether the files' text can be handed on by the block, or has to be read field by field."""
    return (
        command.format == "text"
        and not command.options & _GENERAL_OPTIONS
        and command.replacement is None
        and command.delimiter[0] in _FAST_DELIMITERS
        and command.null != b""
        and not command.date_format
        and command.time_format.lower() in ("", "auto", "auto ignorecase")
    )


def _column_of(fields: dict[str, str]) -> str:
    return fields.get("c", "")


def _reason(fields: dict[str, str], column: Column | None) -> tuple[int, str]:  # noqa: PLR0911
    state = fields.get("C", "")
    kind = column.kind if column else ""
    if state == "23502":
        return load_errors.MISSING
    if kind == "super":
        return load_errors.JSON
    if kind in ("timestamp", "timestamptz"):
        return load_errors.TIMESTAMP_AUTO
    if kind == "date":
        return 1205, "Invalid date format or value [YYYY-MM-DD]"
    if state == "22001":
        return load_errors.TOO_LONG
    if state == "22003":
        return 1204, f"Overflow, Column type: {kind}"
    return 1207, fields.get("M", "Invalid value")[:100]


def target_columns(rows: Sequence[Sequence[str | None]], command: CopyCommand) -> list[Column]:
    """
    Return what the fields of a line go to.

    Args:
        rows: Of ``CATALOG_QUERY``.
        command: The COPY.

    Raises:
        RedshiftError: A column that the table does not have, or an IDENTITY among them.
    """
    table = [
        Column(str(name), _kind(str(kind)), int(length or 0), not_null == "t", int(scale or 0), generated or "")
        for name, kind, length, not_null, scale, generated in rows
    ]
    if not command.columns:
        if any(c.generated for c in table):
            if any(c.generated == "d" for c in table):
                raise not_here("COPY without a column list into a table with an IDENTITY column")
            return [c for c in table if not c.generated]
        return table
    by_name = {c.name: c for c in table}
    for name in command.columns:
        if name not in by_name:
            raise RedshiftError(f'column "{name}" of relation "{command.table}" does not exist', "42703")
        if by_name[name].generated == "a":
            raise RedshiftError(f'cannot set an identity column to a value: column "{name}"', "XX000")
    return [by_name[name] for name in command.columns]


def _kind(name: str) -> str:
    return {"bpchar": "char", "text": "varchar"}.get(name, name)


CATALOG_QUERY = """
select a.attname, t.typname,
    case when a.atttypid in (1042, 1043) and a.atttypmod > 0 then a.atttypmod - 4
         when a.atttypid = 1700 and a.atttypmod > 0 then ((a.atttypmod - 4) >> 16) & 65535 end,
    a.attnotnull,
    case when a.atttypid = 1700 and a.atttypmod > 0 then (a.atttypmod - 4) & 65535 end,
    a.attidentity
from pg_catalog.pg_attribute as a inner join pg_catalog.pg_type as t on t.oid = a.atttypid
where a.attrelid = pg_catalog.to_regclass({name}) and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""

__all__ = ["CATALOG_QUERY", "Load", "LoadFailed", "is_fast", "target_columns"]
