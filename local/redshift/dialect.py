"""From Redshift's SQL to PostgreSQL's: what one statement becomes, and what has to happen around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import ddl, expressions, refusals
from .copy import is_fast
from .copy_command import CopyCommand, parse_copy
from .errors import RedshiftError, not_here, refused, syntax
from .tokens import groups, join, solid, statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tokens import Token


@dataclass(frozen=True)
class Plan:
    """
    What to do for one statement.

    Args:
        sql: What PostgreSQL gets; "" means nothing (an empty statement).
        kind: "plain", "copy", "truncate" (commits), "table" (a CREATE TABLE), "begin", "end",
            or "none" (a statement that changes nothing here).
        tag: CommandComplete's tag, where it is not PostgreSQL's own.
        copy: The COPY from S3.
        after: Statements of our own to run once it is done, in the same transaction.
        strings_into: The table that strings among its VALUES go to: those for SUPER columns need care.
        refusal: Why it is not run; PostgreSQL is made to fail in its place.
    """

    sql: str
    kind: str = "plain"
    tag: str = ""
    copy: CopyCommand | None = None
    refusal: RedshiftError | None = None
    after: tuple[str, ...] = ()
    strings_into: str = ""


def plans(sql: str, supers: set[str]) -> list[Plan]:
    """
    Return a plan for each statement of a text; refusals are in the plans, nothing is raised.

    Args:
        sql: One message's text.
        supers: Names of SUPER columns, which paths may navigate into; those of a CREATE TABLE are added.
    """
    return [_plan(tokens, supers) for tokens in statements(sql)]


def _plan(tokens: list[Token], supers: set[str]) -> Plan:
    try:
        refusals.check(tokens)
        return _rewritten(tokens, supers)
    except RedshiftError as error:
        return Plan("", refusal=error)
    except IndexError:
        return Plan("", refusal=RedshiftError("syntax error at end of input", "42601"))


def _rewritten(tokens: list[Token], supers: set[str]) -> Plan:  # noqa: C901, PLR0911, PLR0912
    s = solid(tokens)
    first, second = s[0].key, s[1].key if len(s) > 1 else ""
    ours = not any(token.name == "pg_catalog" for token in s)
    for token in s:
        if token.kind == "word" and token.text.startswith("#"):
            token.text = f'"{token.text.lower()}"'
        elif token.kind == "quoted" and ours:  # names are lower case even in quotes
            token.text = token.text.lower()
    if first == "COPY":
        command = parse_copy(tokens)
        return Plan(command.target_sql(as_it_is=is_fast(command)), "copy", "COPY", copy=command)
    if first == "CREATE":
        return _create(tokens, s, supers)
    if first == "ALTER":
        if second != "TABLE":
            return _alter_other(tokens, s)
        text = ddl.alter_table(tokens)
        return Plan(text) if text else _nothing("ALTER TABLE")
    if first == "TRUNCATE":
        name = s[2:] if second == "TABLE" else s[1:]
        if any(t.key in (",", "CASCADE", "RESTRICT", "RESTART", "CONTINUE", "ONLY") for t in name):
            raise syntax(next(t.text for t in name if t.key in (",", "CASCADE", "RESTRICT", "RESTART", "CONTINUE", "ONLY")))
        return Plan("truncate " + join(name), "truncate", "TRUNCATE TABLE")
    if first in ("BEGIN", "START"):
        return Plan("begin read only" if "ONLY" in [t.key for t in s] else "begin", "begin")
    if first in ("COMMIT", "END"):
        return Plan("commit", "end")
    if first in ("ROLLBACK", "ABORT"):
        if "TO" in [t.key for t in s]:
            raise syntax("TO")
        return Plan("rollback", "end")
    if first == "LOCK":
        return Plan(_lock(s))
    if first in ("VACUUM", "ANALYZE"):
        return _nothing(first)
    if first == "SET":
        return _set(tokens, s)
    if first == "EXPLAIN":
        if second in ("ANALYZE", "("):
            raise syntax(s[1].text)
        expressions.rewrite(tokens, supers)
        return Plan(join(tokens))
    if first == "DELETE":
        _check_delete(s)
    target = literals_into(s) if supers and first == "INSERT" else ""
    expressions.rewrite(tokens, supers)
    return Plan(join(tokens), strings_into=target)


def _nothing(tag: str) -> Plan:
    """A statement that needs no work here: PostgreSQL runs one that does nothing, and the client sees the tag."""
    return Plan("set local redshift.nothing = ''", "none", tag)


def _create(tokens: list[Token], s: list[Token], supers: set[str]) -> Plan:
    keys = [t.key for t in s[:5]]
    if "TABLE" in keys[:4]:
        query = _query_of(tokens)
        expressions.rewrite(query, supers)
        text, storage = ddl.create_table(tokens)
        supers |= storage.supers
        return Plan(text, "table", after=storage.after())
    expressions.rewrite(tokens, supers)
    if "VIEW" in keys:
        if [t.key for t in s[-4:]] == ["WITH", "NO", "SCHEMA", "BINDING"]:
            raise not_here("WITH NO SCHEMA BINDING")
        return Plan(join(tokens))
    if "SCHEMA" in keys:
        if "QUOTA" in [t.key for t in s]:
            raise not_here("CREATE SCHEMA QUOTA")
        return Plan(join(tokens))
    raise refused(" ".join(t.text for t in s[:3]))


def _query_of(tokens: list[Token]) -> list[Token]:
    """The tokens of CREATE TABLE ... AS after the AS; none where there is no query."""
    depth = 0
    for i, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token.key, 0)
        if token.key == "AS" and not depth:
            return tokens[i + 1 :]
    return []


def _alter_other(tokens: list[Token], s: list[Token]) -> Plan:
    if s[1].key == "SCHEMA":
        return Plan(join(tokens))
    raise not_here(f"ALTER {s[1].text.upper()}")


def _check_delete(s: list[Token]) -> None:
    """DELETE takes no alias for its table, and may leave FROM out."""
    at = 2 if s[1].key == "FROM" else 1
    if at == 1:
        s[0].text += " from"
    while at + 1 < len(s) and s[at + 1].key == ".":
        at += 2
    if at + 1 < len(s) and s[at + 1].key not in ("WHERE", "USING"):
        raise syntax(s[at + 1].text)


def literals_into(s: list[Token]) -> str:
    """Return the target of an INSERT ... VALUES that has strings among its values; "" of any other statement."""
    if [t.key for t in s[:2]] != ["INSERT", "INTO"] or not any(t.kind == "string" for t in s) or not any(t.key == "VALUES" for t in s):
        return ""
    at = 3
    while at < len(s) and s[at].key == ".":
        at += 2
    return "".join(t.text for t in s[2:at])


def wrapped_strings(sql: str, columns: Sequence[tuple[str, str]]) -> str:
    """
    Return an INSERT ... VALUES whose strings for SUPER columns are strings there, also where they read like JSON.

    Args:
        sql: The statement, as it was.
        columns: Name and type of each column of its target.
    """
    tokens = statements(sql)[0]
    s = solid(tokens)
    supers = {name for name, kind in columns if kind == "super"}
    at = 3
    while at < len(s) and s[at].key == ".":
        at += 2
    names = [name for name, _ in columns]
    if at < len(s) and s[at].key == "(":
        listed, end = groups(s, at)
        names, at = [part[0].name for part in listed if part], end + 1
    places = [i for i, name in enumerate(names) if name in supers]
    at += 1
    while places and at < len(s) and s[at].key == "(":
        values, end = groups(s, at)
        for i in places:
            if i < len(values) and len(values[i]) == 1 and values[i][0].kind == "string":
                values[i][0].text = f"to_super({values[i][0].text}::text)"
        at = end + 2
    return join(tokens)


def _lock(s: list[Token]) -> str:
    """Redshift has one kind of LOCK: ACCESS EXCLUSIVE, of one or more tables, without NOWAIT or a mode."""
    names = s[2:] if s[1].key == "TABLE" else s[1:]
    for token in names:
        if token.key in ("IN", "NOWAIT", "ONLY", "MODE"):
            raise syntax(token.text)
    return "lock table " + "".join(t.text for t in names) + " in access exclusive mode"


_SETTINGS_HERE = {
    "SEARCH_PATH", "APPLICATION_NAME", "CLIENT_ENCODING", "DATESTYLE", "EXTRA_FLOAT_DIGITS", "STATEMENT_TIMEOUT", "TIMEZONE",
    "INTERVALSTYLE",
    "CLIENT_MIN_MESSAGES", "STANDARD_CONFORMING_STRINGS",
}  # fmt: skip
_SETTINGS_IGNORED = {
    "QUERY_GROUP", "ENABLE_RESULT_CACHE_FOR_SESSION", "WLM_QUERY_SLOT_COUNT", "ANALYZE_THRESHOLD_PERCENT",
    "DESCRIBE_FIELD_NAME_IN_UPPERCASE",
    "MAX_CURSOR_RESULT_SET_SIZE", "JSON_SERIALIZATION_ENABLE", "JSON_SERIALIZATION_PARSE_NESTED_STRINGS", "NAVIGATE_SUPER_NULL_ON_ERROR",
    "CAST_SUPER_NULL_ON_ERROR", "PARSE_SUPER_NULL_ON_ERROR", "ENABLE_CASE_SENSITIVE_SUPER_ATTRIBUTE", "DATASHARE_BREAK_GLASS_SESSION_VAR",
    "METADATA_TOKEN", "AUTO_MV", "MV_ENABLE_AQMV_FOR_SESSION", "ENABLE_NUMERIC_ROUNDING", "STATEMENT_MEM",
}  # fmt: skip


def _set(tokens: list[Token], s: list[Token]) -> Plan:
    keys = [t.key for t in s]
    if keys[1:2] in (["SESSION"], ["LOCAL"]) and keys[2:3] not in (["CHARACTERISTICS"], ["AUTHORIZATION"]):
        name = keys[2] if len(keys) > 2 else ""  # noqa: PLR2004
    else:
        name = keys[1] if len(keys) > 1 else ""
    if name == "TIME":
        name = "TIMEZONE"
    if "TRANSACTION" in keys[1:4]:  # all four levels are Redshift's one
        return _nothing("SET")
    if name == "SESSION" and "AUTHORIZATION" in keys:
        raise not_here("SET SESSION AUTHORIZATION")
    if name == "ENABLE_CASE_SENSITIVE_IDENTIFIER":
        if keys[-1] in ("TRUE", "ON"):
            raise not_here("SET enable_case_sensitive_identifier TO TRUE")
        return _nothing("SET")
    if name in _SETTINGS_IGNORED:
        return _nothing("SET")
    if name not in _SETTINGS_HERE:
        raise RedshiftError(f'unrecognized configuration parameter "{name.lower()}"', "42704")
    return Plan(join(tokens))


def poison(number: int) -> str:
    """Return SQL that PostgreSQL refuses in a way that we know again: in its place the client sees our refusal."""
    return f"redshift_refusal_{number}"
