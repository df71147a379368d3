"""What a COPY found wrong: the row, the column, the reason; in the words and with the numbers of Redshift's load error reference."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import RedshiftError


@dataclass(frozen=True)
class Column:
    """
    A column of the target.

    Args:
        name: As in the catalog.
        kind: Redshift's name of the type: "varchar", "char", "timestamp", "super", "int4", ...
        length: Bytes for varchar and char; precision for numeric; 0 for the others.
        not_null: It must have a value.
        scale: Of a numeric.
        generated: "" or IDENTITY's "a" (always) or "d" (by default).
    """

    name: str
    kind: str
    length: int = 0
    not_null: bool = False
    scale: int = 0
    generated: str = ""


@dataclass
class BadRow(Exception):
    """
    The first row that COPY could not take.

    Args:
        code: Redshift's number of the error.
        reason: Its text.
        column: Where it is in one column.
        line: 1 for the first line of the file.
        raw_line: The line's bytes.
        raw_field: The field's bytes.
        position: Where in the line the field begins.
        file: The object's address.
    """

    code: int
    reason: str
    column: Column | None = None
    line: int = 0
    raw_line: bytes = b""
    raw_field: bytes = b""
    position: int = 0
    file: str = ""

    def row(self) -> dict[str, object]:
        """Return the row of stl_load_errors; long values are cut as the columns there are."""
        column = self.column or Column("", "")
        return {
            "filename": self.file[:256], "line_number": self.line, "colname": column.name[:127], "type": column.kind[:10],
            "col_length": str(column.length)[:10] if column.length else "", "position": self.position,
            "raw_line": _printable(self.raw_line, 1024), "raw_field_value": _printable(self.raw_field, 1024),
            "err_code": self.code, "err_reason": self.reason[:100],
        }  # fmt: skip


def _printable(data: bytes, limit: int) -> str:
    return data[:limit].decode("utf-8", "replace").replace("\0", "\ufffd")


class LoadFailed(RedshiftError):
    """A COPY that ends in an error; ``bad`` is the row at fault, where it is a row."""

    def __init__(self, message: str, *, detail: str = "", bad: BadRow | None = None) -> None:
        super().__init__(message, "XX000", detail=detail)
        self.bad = bad


def load_failed(table: str, bad: BadRow) -> LoadFailed:
    """Return the error of a load that a row has broken."""
    return LoadFailed(f"Load into table '{table}' failed.  Check 'stl_load_errors' system table for details.", bad=bad)


def invalid_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    """Return Redshift's reason for bytes that are no UTF-8."""
    bad = data[error.start : error.start + 4]
    return f"String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: {bad[:1].hex()} (error 3)"


def internal(message: str, code: int, location: str, context: str = "") -> LoadFailed:
    """Return an error in the shape that Redshift gives those of its inner parts."""
    rule = "-----------------------------------------------"
    return LoadFailed(
        message,
        detail=f"\n  {rule}\n  error:  {message}\n  code:      {code}\n  context:   {context}\n  query:     0\n"
        f"  location:  {location}\n  process:   padbmaster\n  {rule}\n",
    )


DELIMITER_NOT_FOUND = (1214, "Delimiter not found")
EXTRA_COLUMNS = (1202, "Extra column(s) found")
MISSING = (1213, "Missing data for not-null field")
TOO_LONG = (1204, "String length exceeds DDL length")
CHAR_TOO_LONG = (1204, "Char length exceeds DDL length")
TIMESTAMP = (1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]")
TIMESTAMP_AUTO = (1206, "Invalid timestamp format or value [auto]")
DATE = (1205, "Invalid date format - length must be 10 or more")
BOOLEAN = (1210, "Unknown boolean format")
ROW_TOO_LONG = (1216, "Input record exceeds the maximum size of 4194304 bytes")
NUL = (1220, "String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: 00 (error 1)")
JSON = (1224, "Invalid JSON format. Invalid value.")
SUPER_STRING = (1224, "String value exceeds the max size of 65535 bytes")
SUPER_DEPTH = (1224, "Nesting of a SUPER value exceeds the limit of 1000")
CSV_QUOTE = (1216, "Invalid quote formatting for CSV")
CSV_UNENDED = (1216, "End-of-file found before the closing quote of a CSV field")
EMPTY_LINE = (1214, "Delimiter not found")
NULL_LINE = (1211, "Input line contained no data")
