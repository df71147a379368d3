"""Expressions: Redshift's functions, casts and SUPER navigation, where PostgreSQL writes them otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RedshiftError, not_here, syntax
from .tokens import Token, groups, solid
from .types import column_type

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_PARTS = {
    "YEAR": "year", "YEARS": "year", "Y": "year", "YR": "year", "YRS": "year", "QUARTER": "quarter", "QUARTERS": "quarter",
    "QTR": "quarter", "QTRS": "quarter",
    "MONTH": "month", "MONTHS": "month", "MON": "month", "MONS": "month", "WEEK": "week", "WEEKS": "week", "W": "week",
    "DAY": "day", "DAYS": "day", "D": "day", "HOUR": "hour", "HOURS": "hour", "H": "hour", "HR": "hour", "HRS": "hour",
    "MINUTE": "minute", "MINUTES": "minute", "M": "minute", "MIN": "minute", "MINS": "minute",
    "SECOND": "second", "SECONDS": "second", "S": "second", "SEC": "second", "SECS": "second",
    "MILLISECOND": "millisecond", "MILLISECONDS": "millisecond", "MS": "millisecond", "MSEC": "millisecond", "MSECS": "millisecond",
    "MICROSECOND": "microsecond", "MICROSECONDS": "microsecond", "MICROSEC": "microsecond", "MICROSECS": "microsecond",
    "USEC": "microsecond", "USECS": "microsecond",
}  # fmt: skip
_FIELDS = {"EPOCH": "epoch", "DOW": "dow", "DAYOFWEEK": "dow", "DOY": "doy", "DAYOFYEAR": "doy", "DW": "dow", "DY": "doy"}


def rewrite(tokens: list[Token], supers: Collection[str] = ()) -> None:
    """
    Replace, in place, the texts of the tokens that PostgreSQL would not understand.

    Args:
        tokens: A statement, or a part of one.
        supers: Names of columns that are SUPER somewhere: a path that goes on after one navigates into it.
    """
    s = solid(tokens)
    if any(token.name == "pg_catalog" for token in s):
        return
    aliases = _aliases(s) if supers else frozenset()
    depth, lists = 0, set()  # in which depths of parentheses a select list is open
    i = 0
    while i < len(s):
        token = s[i]
        depth += {"(": 1, ")": -1}.get(token.key, 0)
        if token.key == "SELECT":
            lists.add(depth)
        elif token.key in ("FROM", ")", "UNION", "WHERE"):
            lists.discard(depth + (token.key == ")"))
        following = s[i + 1].key if i + 1 < len(s) else ""
        before = s[i - 1].key if i else ""
        if token.key == "::":
            _cast(s, i + 1)
        elif token.kind == "word" and following == "(" and before != ".":
            function = _CALLS.get(token.key)
            if function:
                function(s, i)
        elif token.key in _WORDS and before != ".":
            _WORDS[token.key](s, i)
        if supers and token.name and before not in (".", "AS") and following in (".", "["):
            whole = depth in lists and before in ("SELECT", "DISTINCT", "ALL", ",")
            i = _navigate(s, i, supers, aliases, names=whole)
        i += 1


# -- SUPER


def _aliases(s: list[Token]) -> frozenset[str]:
    """Names of tables and their aliases: what a path may begin with that is no column."""
    found = set()
    for i, token in enumerate(s[:-1]):
        if token.key in ("FROM", "JOIN", "UPDATE", "INTO", "USING", ","):
            at = i + 1
            while at + 2 < len(s) and s[at].name and s[at + 1].key == ".":
                at += 2
            if s[at].name:
                found.add(s[at].name)
                if at + 1 < len(s) and s[at + 1].key == "AS" and at + 2 < len(s):
                    found.add(s[at + 2].name)
                elif at + 1 < len(s) and s[at + 1].name:
                    found.add(s[at + 1].name)
        elif token.key == ")" and s[i + 1].name:
            at = i + 1 + (s[i + 1].key == "AS")
            if at < len(s):
                found.add(s[at].name)
    return frozenset(found)


def _navigate(s: list[Token], at: int, supers: Collection[str], aliases: frozenset[str], *, names: bool) -> int:
    """Turn ``t.column.a[0].b`` into calls; return the index of the path's last token."""
    end, places = at, [at]
    while end + 2 < len(s) and s[end + 1].key == "." and s[end + 2].name:
        end += 2
        places.append(end)
    column = next(
        (k for k, index in enumerate(places) if s[index].name in supers and not (k < len(places) - 1 and s[index].name in aliases)), None
    )
    if column is None:
        return end
    first = places[column] + 1
    steps: list[str] = []
    last = places[column]
    i = first
    while i < len(s):
        if s[i].key == "." and i + 1 < len(s) and s[i + 1].name:
            steps.append("'" + s[i + 1].name.replace("'", "''") + "'")
            i += 2
        elif s[i].key == "[" and i + 2 < len(s) and s[i + 2].key == "]" and s[i + 1].kind in ("number", "string"):
            steps.append(s[i + 1].text if s[i + 1].kind == "number" else s[i + 1].text.lower())
            i += 3
        else:
            break
        last = i - 1
    if not steps:
        return end
    s[at].text = "pg_redshift_step(" * len(steps) + s[at].text
    s[places[column]].text += "".join(f", {step})" for step in steps)
    label = next((t.name for t in reversed(s[first : last + 1]) if t.name), s[places[column]].name)
    for token in s[first : last + 1]:
        token.text = ""
    if names and (last + 1 == len(s) or s[last + 1].key in (",", "FROM", ")", ";")):
        s[last].text = f' as "{label}"'
    return last


# -- casts


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


# -- functions


def _date_part(s: list[Token], at: int) -> None:
    """DATEADD(day, ...) names its part bare, or as a string."""
    part = s[at + 2] if at + 2 < len(s) else None
    if part is None or part.kind not in ("word", "quoted", "string"):
        return
    name = (part.name or part.text.strip("'")).upper()
    known = _PARTS.get(name) or (_FIELDS.get(name) if s[at].key in ("DATE_PART", "DATEPART") else None)
    if s[at].key in ("DATEDIFF", "DATE_DIFF") and known == "week":
        raise not_here("DATEDIFF in weeks")
    if known:
        part.text = f"'{known}'"
    elif s[at].key in ("DATEADD", "DATEDIFF", "DATE_ADD", "DATE_DIFF"):
        raise RedshiftError(f'{s[at].text.lower()} part "{name.lower()}" is not known', "22023")


def _as(name: str) -> Callable[[list[Token], int], None]:
    """The call goes to a function of another name."""

    def rename(s: list[Token], at: int) -> None:
        s[at].text = name

    return rename


def _dated(name: str) -> Callable[[list[Token], int], None]:
    def rename(s: list[Token], at: int) -> None:
        _date_part(s, at)
        s[at].text = name

    return rename


def _own(s: list[Token], at: int) -> None:
    """PostgreSQL's function of this name means something else."""
    s[at].text = f"pg_redshift.{s[at].text}"


def _only_here(what: str) -> Callable[[list[Token], int], None]:
    def refuse(_s: list[Token], _at: int) -> None:
        raise not_here(what)

    return refuse


def _parts(s: list[Token], at: int) -> tuple[list[str], int]:
    """The arguments of a call as rewritten SQL, and the index of its closing parenthesis."""
    parts, end = groups(s, at + 1)
    for part in parts:
        rewrite(part)
    return [" ".join(t.text for t in part if t.text) for part in parts], end


def _replace(s: list[Token], at: int, end: int, text: str) -> None:
    s[at].text = text
    for token in s[at + 1 : end + 1]:
        token.text, token.key, token.kind = "", "", "done"


def _decode(s: list[Token], at: int) -> None:
    """DECODE(value, a, x, b, y, z) is a CASE whose comparisons take two NULLs as equal."""
    parts, end = _parts(s, at)
    if len(parts) < 3:  # noqa: PLR2004
        raise RedshiftError("DECODE needs at least three arguments", "42883")
    value, rest = parts[0], parts[1:]
    text = "(case"
    while len(rest) > 1:
        text += f" when ({value}) is not distinct from ({rest[0]}) then {rest[1]}"
        rest = rest[2:]
    _replace(s, at, end, text + (f" else {rest[0]}" if rest else "") + " end)")


def _nvl2(s: list[Token], at: int) -> None:
    parts, end = _parts(s, at)
    if len(parts) != 3:  # noqa: PLR2004
        raise RedshiftError("NVL2 needs three arguments", "42883")
    _replace(s, at, end, f"(case when ({parts[0]}) is not null then {parts[1]} else {parts[2]} end)")


def _listagg(s: list[Token], at: int) -> None:
    """LISTAGG(x, ',') WITHIN GROUP (ORDER BY y) is string_agg(x, ',' order by y)."""
    parts, end = _parts(s, at)
    distinct = "distinct " if parts[0].lower().startswith("distinct ") else ""
    value = parts[0][len(distinct) :]
    separator = parts[1] if len(parts) > 1 else "''"
    order = ""
    if [t.key for t in s[end + 1 : end + 4]] == ["WITHIN", "GROUP", "("]:
        inside, end = _parts(s, end + 2)
        order = " " + ", ".join(inside)
    if end + 1 < len(s) and s[end + 1].key == "OVER":
        raise not_here("LISTAGG as a window function")
    if distinct and order and order.strip().lower().removeprefix("order by ").split(" ")[0] != value.strip().lower():
        raise not_here("LISTAGG(DISTINCT ...) ordered by something else")
    if distinct and order:
        order = order.lower().replace(value.strip().lower(), f"({value})::text", 1)
    _replace(s, at, end, f"pg_redshift.listagg({distinct}({value})::text, {separator}{order})")


def _median(s: list[Token], at: int) -> None:
    parts, end = _parts(s, at)
    _replace(s, at, end, f"percentile_cont(0.5) within group (order by {parts[0]})")


def _extract(s: list[Token], at: int) -> None:
    """EXTRACT gives an integer."""
    parts, _ = groups(s, at + 1)
    if len(parts) != 1 or len(parts[0]) < 3 or parts[0][1].key != "FROM":  # noqa: PLR2004
        raise syntax(s[at].text)
    field = parts[0][0]
    name = (field.name or field.text.strip("'")).upper()
    known = _PARTS.get(name) or _FIELDS.get(name) or name.lower()
    s[at].text = "pg_redshift.date_part"
    field.text = f"'{known}'"
    parts[0][1].text = ","


def _truncated(s: list[Token], at: int) -> None:
    _date_part(s, at)


_CALLS: dict[str, Callable[[list[Token], int], None]] = {
    "CAST": _call_cast,
    "TRY_CAST": _only_here("TRY_CAST"),
    "CONVERT": _only_here("CONVERT(type, value)"),
    "DATEADD": _date_part,
    "DATE_ADD": _dated("dateadd"),
    "DATEDIFF": _date_part,
    "DATE_DIFF": _dated("datediff"),
    "DATE_PART": _date_part,
    "DATEPART": _dated("date_part"),
    "DATE_TRUNC": _truncated,
    "EXTRACT": _extract,
    "NVL": _as("coalesce"),
    "IFNULL": _as("coalesce"),
    "NVL2": _nvl2,
    "DECODE": _decode,
    "LISTAGG": _listagg,
    "MEDIAN": _median,
    "AVG": _own,
    "SUM": _own,
    "CONCAT": _own,
    "REGEXP_REPLACE": _own,
    "VERSION": _own,
    "RATIO_TO_REPORT": _only_here("RATIO_TO_REPORT"),
    "OBJECT": _only_here("OBJECT(...)"),
    "ARRAY": _only_here("ARRAY(...)"),
    "SPLIT_TO_ARRAY": _only_here("SPLIT_TO_ARRAY"),
    "MONTHS_BETWEEN": _only_here("MONTHS_BETWEEN"),
    "NEXT_DAY": _only_here("NEXT_DAY"),
    "GETUTCDATE": _only_here("GETUTCDATE"),
    "JSON_SIZE": _only_here("JSON_SIZE"),
}


def _sysdate(s: list[Token], at: int) -> None:
    s[at].text = "sysdate()"


def _minus(s: list[Token], at: int) -> None:
    if at + 1 < len(s) and s[at + 1].key in ("SELECT", "("):
        s[at].text = "except"


def _approximate(s: list[Token], at: int) -> None:
    s[at].text = ""


def _top(s: list[Token], at: int) -> None:
    """SELECT TOP 5 ... is SELECT ... LIMIT 5."""
    if not (at and s[at - 1].key in ("SELECT", "DISTINCT") and at + 1 < len(s) and s[at + 1].kind == "number"):
        return
    depth, end = 0, len(s)
    for i in range(at, len(s)):
        depth += {"(": 1, ")": -1}.get(s[i].key, 0)
        if depth < 0:
            end = i
            break
        if not depth and s[i].key in ("UNION", "EXCEPT", "INTERSECT", "MINUS", "LIMIT", "OFFSET"):
            raise not_here(f"SELECT TOP with {s[i].key}")
    number = s[at + 1].text
    s[at].text = s[at + 1].text = ""
    s[end - 1].text += f" limit {number}"


def _clause(s: list[Token], at: int) -> None:
    following = s[at + 1].key if at + 1 < len(s) else ""
    if following == "(" or (s[at].key == "QUALIFY" and at and s[at - 1].key not in (",", "SELECT", ".")):
        raise not_here(s[at].key)


_WORDS: dict[str, Callable[[list[Token], int], None]] = {
    "SYSDATE": _sysdate,
    "MINUS": _minus,
    "APPROXIMATE": _approximate,
    "TOP": _top,
    "QUALIFY": _clause,
    "PIVOT": _clause,
    "UNPIVOT": _clause,
}
