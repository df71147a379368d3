"""One value and its type: what Redshift takes where PostgreSQL would take more, or less."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from . import load_errors

if TYPE_CHECKING:
    from .load_errors import Column

MAX_STRING = 65_535
MAX_DEPTH = 1000

Fault = tuple[int, str]

_INTEGERS = {"int2": (16, "Short"), "int4": (32, "Integer"), "int8": (64, "Long")}
_FLOAT = re.compile(rb"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)
_STRICT_TIME = re.compile(rb"(\d{4}-\d{1,2}-\d{1,2}) (\d{1,2}:\d{1,2}:\d{1,2})(\.\d{1,6}\d*)?")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_BOOLEANS = {
    b"t": True, b"true": True, b"y": True, b"yes": True, b"1": True, b"f": False, b"false": False, b"n": False, b"no": False, b"0": False,
}  # fmt: skip


def check_value(value: bytes, column: Column, time_format: str, date_format: str) -> Fault | None:  # noqa: C901, PLR0911, PLR0912
    """Return what is wrong with a value that is not NULL and is handed on as it is; None where it is fine."""
    kind = column.kind
    if kind == "varchar":
        return load_errors.TOO_LONG if column.length and len(value) > column.length else None
    if kind == "super":
        return check_super(value)
    if kind in _INTEGERS:
        return _integer(value, *_INTEGERS[kind])
    if kind == "char":
        if not value.isascii():
            return 1215, "Char data contains multibyte characters"
        return load_errors.CHAR_TOO_LONG if len(value.rstrip(b" ")) > column.length else None
    if kind == "bool":
        return None if value.strip().lower() in _BOOLEANS else load_errors.BOOLEAN
    if kind in ("float4", "float8"):
        return None if _FLOAT.fullmatch(value) else (1208, f"Invalid digit, Value '{_first(value)}', Pos 0, Type: Float")
    if kind == "numeric":
        return _numeric(value, column)
    if kind in ("timestamp", "timestamptz"):
        if kind == "timestamp" and not time_format:
            return None if _STRICT_TIME.fullmatch(value) and _calendar(value) else load_errors.TIMESTAMP
        try:
            to_timestamp(value.decode(), time_format or "auto", zoned=kind == "timestamptz")
        except ValueError:
            return 1206, f"Invalid timestamp format or value [{time_format or 'auto'}]"
        return None
    if kind == "date":
        try:
            to_date(value.decode(), date_format)
        except ValueError:
            return load_errors.DATE if len(value) < 10 else (1205, f"Invalid date format or value [{date_format or 'YYYY-MM-DD'}]")  # noqa: PLR2004
    return None


def _first(value: bytes) -> str:
    return value[:1].decode("ascii", "replace")


def _integer(value: bytes, bits: int, name: str) -> Fault | None:
    text = value.strip()
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    if not digits.isdigit():
        at = next((i for i, byte in enumerate(value) if not chr(byte).isdigit() and not (i == 0 and chr(byte) in "+-")), 0)
        return 1207, f"Invalid digit, Value '{chr(value[at]) if value else ''}', Pos {at}, Type: {name}"
    if not -(1 << bits - 1) <= int(text) < 1 << bits - 1:
        return 1204, f"Overflow for {'SMALLINT' if bits == 16 else 'INTEGER' if bits == 32 else 'BIGINT'} (Value out of range)"  # noqa: PLR2004
    return None


def _numeric(value: bytes, column: Column) -> Fault | None:
    try:
        number = Decimal(value.decode().strip())
    except (InvalidOperation, UnicodeDecodeError):
        return 1207, f"Invalid digit, Value '{_first(value)}', Pos 0, Type: Decimal"
    if not number.is_finite():
        return 1207, f"Invalid digit, Value '{_first(value)}', Pos 0, Type: Decimal"
    if column.length and abs(number) >= Decimal(10) ** (column.length - column.scale):
        return 1204, f"Overflow, Column type: Decimal ({column.length},{column.scale})"
    return None


def check_super(value: bytes) -> Fault | None:
    """Return what is wrong with a SUPER beyond its JSON syntax, which PostgreSQL looks at: a string too long, nesting too deep."""
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        return load_errors.SUPER_DEPTH
    if len(value) > MAX_STRING:
        for match in _STRING.finditer(value):
            if match.end() - match.start() - 2 > MAX_STRING and _string_bytes(match[0]) > MAX_STRING:
                return load_errors.SUPER_STRING
    return None


def _string_bytes(token: bytes) -> int:
    """The bytes of a JSON string without its escapes; 0 where it is no JSON (PostgreSQL will say so)."""
    try:
        return len(json.loads(token).encode("utf-8", "surrogatepass"))
    except ValueError:
        return 0


def _depth(value: bytes) -> int:
    depth = deepest = 0
    for match in _MARKS.finditer(value):
        if match[0] in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in (b"]", b"}"):
            depth -= 1
    return deepest


def to_boolean(value: str) -> bool:
    """Return a boolean; raises KeyError for what is none."""
    return _BOOLEANS[value.strip().lower().encode()]


def _calendar(value: bytes) -> bool:
    try:
        to_timestamp(value.decode(), "", zoned=False)
    except ValueError:
        return False
    return True


_FORMATS = [  # what 'auto' takes, beside ISO 8601; https://docs.aws.amazon.com/redshift/latest/dg/automatic-recognition.html
    "%b %d %Y", "%d %b %Y", "%m/%d/%Y", "%m-%d-%Y", "%m.%d.%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d-%b-%Y", "%B %d %Y", "%Y-%b-%d",
    "%b-%d-%Y", "%Y %b %d", "%a, %d %b %Y", "%m/%d/%y",
]  # fmt: skip
_ISO = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d+)?)?)?\s*(Z|UTC|GMT|[+-]\d{1,2}(?::?\d{2})?)?", re.IGNORECASE
)
_CLOCK = re.compile(r"(.*?)[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(\.\d+)?)?\s*(AM|PM)?\s*(Z|UTC|GMT|[+-]\d{1,2}(?::?\d{2})?)?", re.IGNORECASE)


def to_timestamp(text: str, time_format: str, *, zoned: bool) -> datetime:
    """
    Return the time that a text stands for under a TIMEFORMAT; raises ValueError where it is none.

    Args:
        text: The field.
        time_format: "" (the default format), "auto", "epochsecs", "epochmillisecs" or a pattern such as "DD.MM.YYYY HH:MI:SS".
        zoned: The column is a TIMESTAMPTZ: an offset counts. In a TIMESTAMP it is dropped.
    """
    text = text.strip()
    if time_format.lower() in ("epochsecs", "epochmillisecs"):
        if not re.fullmatch(r"-?\d+(\.\d+)?", text):
            raise ValueError(text)
        unit = timedelta(seconds=1) if time_format.lower() == "epochsecs" else timedelta(milliseconds=1)
        return datetime(1970, 1, 1, tzinfo=timezone.utc if zoned else None) + float(Decimal(text)) * unit
    if time_format and not time_format.lower().startswith("auto"):
        found = datetime.strptime(_fraction(text), python_format(time_format))  # noqa: DTZ007
        return found if zoned or found.tzinfo is None else found.replace(tzinfo=None)
    match = _ISO.fullmatch(text)
    if match:
        year, month, day, hour, minute, second = (int(g) if g else 0 for g in match.group(1, 2, 3, 4, 5, 6))
        return _moment(datetime(year, month, day), (hour, minute, second), match[7], match[8], zoned=zoned)  # noqa: DTZ001
    match = _CLOCK.fullmatch(text)
    day_text = match[1] if match else text
    for pattern in _FORMATS:
        try:
            day_found = datetime.strptime(day_text.replace(",", ""), pattern.replace(",", ""))  # noqa: DTZ007
        except ValueError:
            continue
        if not match:
            return day_found
        hour = int(match[2])
        if match[6]:
            hour = hour % 12 + (12 if match[6].upper() == "PM" else 0)
        return _moment(day_found, (hour, int(match[3]), int(match[4] or 0)), match[5], match[7], zoned=zoned)
    raise ValueError(text)


def _moment(day: datetime, clock: tuple[int, int, int], fraction: str | None, offset: str | None, *, zoned: bool) -> datetime:
    hour, minute, second = clock
    micros = round(float(fraction) * 1_000_000) if fraction else 0
    base = (
        day + timedelta(days=1)
        if (hour, minute, second, micros) == (24, 0, 0, 0)
        else day.replace(hour=hour, minute=minute, second=min(second, 59))
    )
    found = base + timedelta(microseconds=micros, seconds=1 if second == 60 else 0)  # noqa: PLR2004
    if second > 60:  # noqa: PLR2004
        raise ValueError("seconds")
    if zoned:
        found = found.replace(tzinfo=timezone(_offset(offset)))
    return found


def _offset(text: str | None) -> timedelta:
    if not text or text[0] not in "+-":
        return timedelta(0)
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0) if len(digits) > 2 else int(digits) * 60  # noqa: PLR2004
    return timedelta(minutes=-minutes if text[0] == "-" else minutes)


def _fraction(text: str) -> str:
    """Python reads at most six digits after the point."""
    return re.sub(r"(\.\d{6})\d+", r"\1", text)


_TOKENS = [
    ("HH24", "%H"), ("HH12", "%I"), ("HH", "%H"), ("YYYY", "%Y"), ("YY", "%y"), ("MON", "%b"), ("MONTH", "%B"), ("MM", "%m"), ("DD",
    "%d"), ("MI", "%M"),
    ("SS", "%S"), ("US", "%f"), ("OF", "%z"), ("AM", "%p"), ("PM", "%p"), ("DY", "%a"),
]  # fmt: skip


def python_format(pattern: str) -> str:
    """Return strptime's format for one of COPY's; raises ValueError for a part that we do not know."""
    out, at = "", 0
    upper = pattern.upper()
    while at < len(pattern):
        for token, code in sorted(_TOKENS, key=lambda pair: -len(pair[0])):
            if upper.startswith(token, at):
                out, at = out + code, at + len(token)
                break
        else:
            if pattern[at] == "." and out.endswith("%S") and not upper.startswith("US", at + 1):
                out, at = out + ".%f", at + 1
                while at < len(pattern) and upper[at] in "S0123456789":
                    at += 1
            elif pattern[at].isalpha() and pattern[at] != "T":
                raise ValueError(f"unknown part {pattern[at:]!r} of the format {pattern!r}")
            else:
                out, at = out + pattern[at].replace("%", "%%"), at + 1
    return out


def to_date(text: str, date_format: str) -> date:
    """Return the date that a text stands for under a DATEFORMAT; raises ValueError where it is none."""
    text = text.strip()
    if not date_format:
        match = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T].*)?", text)
        if not match:
            raise ValueError(text)
        return date(int(match[1]), int(match[2]), int(match[3]))
    if date_format.lower().startswith("auto"):
        return to_timestamp(text, "auto", zoned=False).date()
    return datetime.strptime(text, python_format(date_format)).date()  # noqa: DTZ007
