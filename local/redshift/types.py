"""Redshift's data types, and what stands for them in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RedshiftError, not_here

if TYPE_CHECKING:
    from .tokens import Token

MAX_VARCHAR = 65_535
MAX_CHAR = 4_096
DEFAULT_LENGTH = 256

# first word: (what PostgreSQL gets, whether a number in parentheses may follow)
_PLAIN = {
    "SMALLINT": "smallint", "INT2": "smallint", "INTEGER": "integer", "INT": "integer", "INT4": "integer", "BIGINT": "bigint",
    "INT8": "bigint",
    "REAL": "real", "FLOAT4": "real", "FLOAT8": "double precision", "BOOLEAN": "boolean", "BOOL": "boolean", "DATE": "date",
    "TIMESTAMPTZ": "timestamp with time zone", "TIMETZ": "time with time zone", "SUPER": "super", "OID": "oid", "NAME": "name",
    "REGCLASS": "regclass",
    "DATETIME": "timestamp without time zone", "SMALLDATETIME": "timestamp without time zone",
}  # fmt: skip
_CATALOG = {"REGTYPE", "REGPROC", "REGPROCEDURE", "REGNAMESPACE", "REGROLE", "CSTRING", "INT2VECTOR", "OIDVECTOR", "XID", "TID", "ACLITEM"}
_LATER = {"GEOMETRY", "GEOGRAPHY", "HLLSKETCH", "VARBYTE", "VARBINARY", "BINARY", "INTERVAL"}


def column_type(tokens: list[Token], at: int, column: str) -> tuple[str, int]:  # noqa: C901, PLR0912
    """
    Return PostgreSQL's type for the one that begins at this solid token, and the index after it.

    Args:
        tokens: Solid tokens of a column definition or a cast.
        at: Where the type begins.
        column: Name for the error; "" in a cast, where VARCHAR has no default length.

    Raises:
        RedshiftError: Redshift has no such type, or we do not.
    """
    if at >= len(tokens):
        raise RedshiftError("syntax error at end of input", "42601")
    word, after = tokens[at].key, at + 1
    if not column and (tokens[at].name == "pg_catalog" or word in _CATALOG):  # what tools ask the catalog with
        if tokens[at].name == "pg_catalog":
            after += 2
        if [t.key for t in tokens[after : after + 2]] == ["[", "]"]:
            after += 2
        return "".join(t.text for t in tokens[at:after]), after
    following = tokens[after].key if after < len(tokens) else ""
    if word == "DOUBLE" and following == "PRECISION":
        found, after = "double precision", after + 1
    elif word == "FLOAT":
        size, after = _parenthesis(tokens, after)
        found = "real" if size and size[0].isdigit() and int(size[0]) <= 24 else "double precision"  # noqa: PLR2004
    elif word in ("VARCHAR", "NVARCHAR", "TEXT") or (word in ("CHARACTER", "CHAR", "NCHAR") and following == "VARYING"):
        size, after = _parenthesis(tokens, after + (following == "VARYING"))
        found = "text" if not size and not column else f"character varying({_length(size, MAX_VARCHAR, 'character varying')})"
        if word == "TEXT":
            found = f"character varying({DEFAULT_LENGTH})" if column else "text"
    elif word in ("CHAR", "CHARACTER", "NCHAR", "BPCHAR"):
        size, after = _parenthesis(tokens, after)
        found = f"character({_length(size or ([str(DEFAULT_LENGTH)] if word == 'BPCHAR' else ['1']), MAX_CHAR, 'character')})"
    elif word in ("DECIMAL", "NUMERIC", "DEC"):
        size, after = _parenthesis(tokens, after)
        found = f"numeric({_precision(size)})"
    elif word in ("TIMESTAMP", "TIME"):
        found = word.lower()
        if following == "(":  # PostgreSQL's timestamp(3)
            raise RedshiftError(f'syntax error at or near "{tokens[after].text}"', "42601")
        if following in ("WITH", "WITHOUT") and [t.key for t in tokens[after + 1 : after + 3]] == ["TIME", "ZONE"]:
            found, after = f"{found} {following.lower()} time zone", after + 3
    elif word == "INTERVAL" and not column:
        found = "interval"
    elif word in _PLAIN:
        found = _PLAIN[word]
    elif word in _LATER:
        raise not_here(f"The data type {word}")
    else:
        raise _unsupported(tokens[at].text.lower(), column)
    if after + 1 < len(tokens) and tokens[after].key == "[" and tokens[after + 1].key == "]":
        raise _unsupported(f"{found}[]", column)
    return found, after


def _unsupported(kind: str, column: str) -> RedshiftError:
    if column:
        return RedshiftError(f'Column "{column}" has unsupported type "{kind}".', "0A000")
    return RedshiftError(f'type "{kind}" does not exist', "42704")


def _parenthesis(tokens: list[Token], at: int) -> tuple[list[str], int]:
    if at < len(tokens) and tokens[at].key == "(":
        end = next((i for i in range(at, len(tokens)) if tokens[i].key == ")"), len(tokens))
        return [t.text for t in tokens[at + 1 : end]], end + 1
    return [], at


def _length(size: list[str], largest: int, kind: str) -> int:
    if not size:
        return DEFAULT_LENGTH
    if size[0].upper() == "MAX":
        return largest
    length = int(size[0]) if size[0].isdigit() else 0
    if length < 1:
        raise RedshiftError(f"length for type {kind} must be at least 1", "22023")
    if length > largest:
        raise RedshiftError(f"length for type {kind} cannot exceed {largest}", "22023")
    return length


def _precision(size: list[str]) -> str:
    numbers = [int(s) for s in size if s.isdigit()]
    precision, scale = (numbers + [18, 0][len(numbers) :]) if numbers else (18, 0)
    if not 1 <= precision <= 38:  # noqa: PLR2004
        raise RedshiftError(f"DECIMAL precision {precision} must be between 1 and 38", "22023")
    if not 0 <= scale <= precision:
        raise RedshiftError(f"DECIMAL scale {scale} must be between 0 and precision {precision}", "22023")
    return f"{precision},{scale}"
