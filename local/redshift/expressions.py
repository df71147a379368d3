"""Expressions: Redshift's functions, casts and SUPER navigation, where PostgreSQL writes them otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tokens import Token, solid
from .types import column_type

if TYPE_CHECKING:
    from collections.abc import Callable

_PARTS = {
    "YEAR": "year", "YEARS": "year", "Y": "year", "YR": "year", "YRS": "year", "QUARTER": "quarter", "QUARTERS": "quarter", "QTR": "quarter", "QTRS": "quarter",
    "MONTH": "month", "MONTHS": "month", "MON": "month", "MONS": "month", "WEEK": "week", "WEEKS": "week", "W": "week",
    "DAY": "day", "DAYS": "day", "D": "day", "HOUR": "hour", "HOURS": "hour", "H": "hour", "HR": "hour", "HRS": "hour",
    "MINUTE": "minute", "MINUTES": "minute", "M": "minute", "MIN": "minute", "MINS": "minute",
    "SECOND": "second", "SECONDS": "second", "S": "second", "SEC": "second", "SECS": "second",
    "MILLISECOND": "millisecond", "MILLISECONDS": "millisecond", "MS": "millisecond", "MSEC": "millisecond", "MSECS": "millisecond",
    "MICROSECOND": "microsecond", "MICROSECONDS": "microsecond", "MICROSEC": "microsecond", "MICROSECS": "microsecond", "USEC": "microsecond", "USECS": "microsecond",
}  # fmt: skip


def rewrite(tokens: list[Token]) -> None:
    """Replace, in place, the texts of the tokens that PostgreSQL would not understand."""
    s = solid(tokens)
    for i, token in enumerate(s):
        if token.key == "::":
            _cast(s, i + 1)
        elif token.kind == "word":
            following = s[i + 1].key if i + 1 < len(s) else ""
            before = s[i - 1].key if i else ""
            if following == "(" and before != ".":
                function = _CALLS.get(token.key)
                if function:
                    function(s, i)
            elif token.key == "SYSDATE" and before != ".":
                token.text = "redshift_sysdate()"
            elif token.key == "MINUS" and before == ")":
                token.text = "except"


def _cast(s: list[Token], at: int) -> None:
    kind, after = column_type(s, at, "")
    s[at].text = f" {kind}"
    for token in s[at + 1 : after]:
        token.text = ""


def _call_cast(s: list[Token], at: int) -> None:
    depth = 0
    for i in range(at + 1, len(s)):
        depth += {"(": 1, ")": -1}.get(s[i].key, 0)
        if not depth:
            return
        if depth == 1 and s[i].key == "AS":
            _cast(s, i + 1)
            return


def _date_part(s: list[Token], at: int) -> None:
    """DATEADD(day, ...) names its part bare, or as a string."""
    part = s[at + 2] if at + 2 < len(s) else None
    if part is not None and part.kind in ("word", "quoted") and part.name.upper() in _PARTS:
        part.text = f"'{_PARTS[part.name.upper()]}'"


def _renamed(name: str) -> Callable[[list[Token], int], None]:
    def rename(s: list[Token], at: int) -> None:
        s[at].text = name

    return rename


def _getdate(s: list[Token], at: int) -> None:
    s[at].text = "redshift_getdate"


def _decode(s: list[Token], at: int) -> None:
    """DECODE(value, a, x, b, y, z) is a CASE whose comparisons take two NULLs as equal."""
    from .tokens import groups, join  # noqa: PLC0415

    parts, end = groups(s, at + 1)
    if len(parts) < 3:  # noqa: PLR2004
        return
    rewritten = []
    for part in parts:
        rewrite(part)
        rewritten.append(" ".join(t.text for t in part))
    value, rest = rewritten[0], rewritten[1:]
    text = "(case"
    while len(rest) > 1:
        text += f" when ({value}) is not distinct from ({rest[0]}) then {rest[1]}"
        rest = rest[2:]
    text += (f" else {rest[0]}" if rest else "") + " end)"
    s[at].text = text
    for token in s[at + 1 : end + 1]:
        token.text, token.key, token.kind = "", "", "done"
    assert join is not None


_CALLS: dict[str, Callable[[list[Token], int], None]] = {
    "CAST": _call_cast,
    "TRY_CAST": _call_cast,
    "DATEADD": _date_part,
    "DATE_ADD": _date_part,
    "DATEDIFF": _date_part,
    "DATE_DIFF": _date_part,
    "DATE_PART": _date_part,
    "DATE_TRUNC": _date_part,
    "GETDATE": _getdate,
    "NVL": _renamed("coalesce"),
    "IFNULL": _renamed("coalesce"),
    "DECODE": _decode,
}
