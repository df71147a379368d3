"""What PostgreSQL can do and Redshift cannot: refused, so that nobody comes to lean on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RedshiftError, not_here, refused, syntax
from .tokens import groups, solid

if TYPE_CHECKING:
    from .tokens import Token

_STATEMENTS = {
    "SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "TRUNCATE", "COPY", "BEGIN", "START", "COMMIT", "END",
    "ROLLBACK",
    "ABORT", "LOCK", "SET", "RESET", "SHOW", "ANALYZE", "VACUUM", "EXPLAIN", "GRANT", "REVOKE", "COMMENT", "DECLARE", "FETCH", "CLOSE",
    "PREPARE", "EXECUTE", "DEALLOCATE", "VALUES", "CANCEL", "MERGE", "CALL", "UNLOAD", "USE", "(", "DISCARD", "SAVEPOINT", "RELEASE",
    "LISTEN",
    "NOTIFY", "UNLISTEN", "CLUSTER", "REINDEX", "CHECKPOINT", "LOAD", "DO", "REFRESH", "IMPORT", "SECURITY", "REASSIGN", "TABLE", "MOVE",
}  # fmt: skip
_UNKNOWN = {
    "SAVEPOINT",
    "RELEASE",
    "LISTEN",
    "NOTIFY",
    "UNLISTEN",
    "CLUSTER",
    "REINDEX",
    "CHECKPOINT",
    "LOAD",
    "DO",
    "IMPORT",
    "SECURITY",
    "REASSIGN",
    "DISCARD",
    "TABLE",
    "MOVE",
}
_LATER = {"UNLOAD", "CALL", "CANCEL", "USE", "REFRESH", "EXECUTE", "PREPARE"}
_OBJECTS = {
    "INDEX": 'SQL command "CREATE INDEX" not supported on Redshift tables.',
    "TRIGGER": "CREATE TRIGGER is not supported",
    "EXTENSION": "CREATE EXTENSION is not supported",
    "SEQUENCE": "CREATE SEQUENCE is not supported",
    "TYPE": "CREATE TYPE is not supported",
    "DOMAIN": "CREATE DOMAIN is not supported",
    "RULE": "CREATE RULE is not supported",
    "TABLESPACE": "CREATE TABLESPACE is not supported",
    "OPERATOR": "CREATE OPERATOR is not supported",
    "AGGREGATE": "CREATE AGGREGATE is not supported",
    "CAST": "CREATE CAST is not supported",
    "POLICY": "CREATE POLICY is not supported",
}  # fmt: skip
_OBJECTS_LATER = {"FUNCTION", "PROCEDURE", "EXTERNAL", "MATERIALIZED", "LIBRARY", "DATASHARE", "MODEL", "USER", "GROUP", "ROLE", "DATABASE"}
_FUNCTIONS = {  # PostgreSQL's, which Redshift lacks
    "ROW_TO_JSON", "TO_JSON", "TO_JSONB", "JSON_BUILD_OBJECT", "JSONB_BUILD_OBJECT", "JSON_AGG", "JSONB_AGG", "JSON_OBJECT_AGG",
    "JSONB_OBJECT_AGG",
    "JSONB_SET", "JSON_EACH", "JSONB_EACH", "JSONB_TYPEOF", "ARRAY_AGG", "UNNEST", "ARRAY_LENGTH", "STRING_AGG",
    "STRING_TO_ARRAY", "ARRAY_TO_STRING", "GEN_RANDOM_UUID", "CLOCK_TIMESTAMP", "STATEMENT_TIMESTAMP", "TRANSACTION_TIMESTAMP",
    "FORMAT", "REGEXP_MATCHES", "REGEXP_SPLIT_TO_TABLE", "REGEXP_SPLIT_TO_ARRAY", "MAKE_DATE", "MAKE_TIMESTAMP", "MAKE_INTERVAL",
    "DATE_BIN",
    "NUM_NONNULLS", "NEXTVAL", "CURRVAL", "SETVAL", "LASTVAL", "PG_ADVISORY_LOCK", "PG_ADVISORY_XACT_LOCK", "PG_TRY_ADVISORY_LOCK",
    "CONCAT_WS", "REGEXP_MATCH", "REGEXP_LIKE", "MODE", "JSON_OBJECT", "JSON_ARRAY", "SCALE", "DIV", "JSONB_PATH_QUERY", "LO_IMPORT",
    "LO_EXPORT", "PG_READ_FILE", "PG_LS_DIR", "DBLINK",
}  # fmt: skip


_AGGREGATES = {
    "SUM",
    "AVG",
    "COUNT",
    "MIN",
    "MAX",
    "FIRST_VALUE",
    "LAST_VALUE",
    "NTH_VALUE",
    "STDDEV",
    "STDDEV_SAMP",
    "STDDEV_POP",
    "VARIANCE",
    "VAR_SAMP",
    "VAR_POP",
}
_DROPS = {"TABLE", "VIEW", "SCHEMA"}
_SHOWS = {
    "TABLES",
    "SCHEMAS",
    "DATABASES",
    "COLUMNS",
    "TABLE",
    "VIEW",
    "PROCEDURE",
    "EXTERNAL",
    "GRANTS",
    "DATASHARES",
    "MODEL",
    "PARAMETERS",
}
_JSON = {
    "JSON_PARSE", "JSON_SERIALIZE", "JSON_SERIALIZE_TO_VARBYTE", "JSON_TYPEOF", "JSON_EXTRACT_PATH_TEXT", "JSON_EXTRACT_ARRAY_ELEMENT_TEXT",
    "JSON_ARRAY_LENGTH", "JSON_SIZE",
}  # fmt: skip


def check(tokens: list[Token]) -> None:  # noqa: C901
    """Raise RedshiftError where Redshift would refuse this statement, or where we cannot do it."""
    s = solid(tokens)
    first, second = s[0].key, s[1].key if len(s) > 1 else ""
    if first not in _STATEMENTS or first in _UNKNOWN:
        raise syntax(s[0].text)
    if first in _LATER:
        raise not_here(first)
    if first == "CREATE":
        _check_create(s)
    elif first == "DROP" and second not in _DROPS:
        raise refused(f"DROP {second} is not supported") if second in _OBJECTS else not_here(f"DROP {second}")
    elif first == "SHOW" and second in _SHOWS:
        raise not_here(f"SHOW {second}")
    elif first in ("GRANT", "REVOKE") and any(t.key in ("GROUP", "ROLE", "ASSUMEROLE", "DATASHARE", "MASKING", "RLS") for t in s):
        raise not_here(
            f"{first} on or to a {next(t.text for t in s if t.key in ('GROUP', 'ROLE', 'ASSUMEROLE', 'DATASHARE', 'MASKING', 'RLS'))}"
        )
    elif first == "DECLARE" and any(t.key in ("HOLD", "SCROLL", "BINARY") for t in s):
        raise syntax(next(t.text for t in s if t.key in ("HOLD", "SCROLL", "BINARY")))
    elif first == "MERGE":
        _check_merge(s)
    elif first == "VALUES":
        raise syntax(s[0].text)
    if first in ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "(", "EXPLAIN", "CREATE", "DECLARE", "MERGE"):
        _check_query(s)


def _check_create(s: list[Token]) -> None:
    at = 1
    while at < len(s) and s[at].key in ("OR", "REPLACE", "TEMP", "TEMPORARY", "LOCAL", "UNIQUE", "CONSTRAINT"):
        at += 1
    word = s[at].key if at < len(s) else ""
    if word in _OBJECTS:
        raise refused(_OBJECTS[word])
    if word in _OBJECTS_LATER:
        raise not_here(f"CREATE {word}")
    if word not in ("TABLE", "VIEW", "SCHEMA"):
        raise syntax(s[at].text if at < len(s) else s[-1].text)


def _check_merge(s: list[Token]) -> None:
    keys = [t.key for t in s]
    if "REMOVE" in keys:
        raise not_here("MERGE ... REMOVE DUPLICATES")
    whens = [i for i, key in enumerate(keys) if key == "WHEN" and keys[i + 1 : i + 2] in (["MATCHED"], ["NOT"])]
    heads = [" ".join(keys[i : keys.index("THEN", i) + 1]) for i in whens if "THEN" in keys[i:]]
    if sorted(heads) != ["WHEN MATCHED THEN", "WHEN NOT MATCHED THEN"]:
        raise refused("MERGE needs one WHEN MATCHED THEN and one WHEN NOT MATCHED THEN, without conditions")


def _check_query(s: list[Token]) -> None:
    first = s[0].key
    if any(token.name == "pg_catalog" for token in s):  # psql and its like ask PostgreSQL's catalog in PostgreSQL's words
        return
    depth = 0
    for i, token in enumerate(s):
        key = token.key
        depth += {"(": 1, ")": -1}.get(key, 0)
        if not key:
            continue
        following = s[i + 1].key if i + 1 < len(s) else ""
        before = s[i - 1].key if i else ""
        _check_clause(s, i, first, before, following)
        if key in ("INSERT", "UPDATE", "DELETE") and before in ("(", ")") and (depth or key == "INSERT") and following in ("INTO", "FROM"):
            raise syntax(token.text)
        if following == "(" and before != ".":
            _check_call(token, key, first)
        if key == "OVER" and following == "(":
            _check_window(s, i)


def _check_clause(s: list[Token], i: int, first: str, before: str, following: str) -> None:  # noqa: C901, PLR0912
    token = s[i]
    key = token.key
    if key == "ON" and following == "CONFLICT":
        raise syntax(s[i + 1].text)
    if key == "RETURNING" and first in ("INSERT", "UPDATE", "DELETE", "WITH"):
        raise syntax(token.text)
    if key == "DISTINCT" and following == "ON" and i + 2 < len(s) and s[i + 2].key == "(":
        raise refused("SELECT DISTINCT ON is not supported")
    if key == "FOR" and following in ("UPDATE", "SHARE", "NO"):
        raise refused("SELECT FOR UPDATE/SHARE is not supported")
    if key in ("LATERAL", "TABLESAMPLE", "ORDINALITY") or (key == "WINDOW" and i + 2 < len(s) and s[i + 2].key == "AS"):
        raise syntax(token.text)
    if key == "FILTER" and before == ")" and following == "(":
        raise syntax(following)
    if key in ("->>", "->", "#>", "#>>"):
        raise RedshiftError(f"operator does not exist: {token.text}", "42883")
    if key == "ARRAY" and following == "[":
        raise refused("ARRAY constructors are not supported")
    if key == "VALUES" and before in ("(", "AS") and first != "INSERT":
        raise syntax(token.text)
    if key == "FETCH" and following in ("FIRST", "NEXT") and first != "FETCH":
        raise syntax(token.text)
    if (
        key in ("ANY", "SOME", "ALL")
        and following == "("
        and before in ("=", "<>", "!=", "<", ">", "<=", ">=")
        and s[i + 2].key not in ("SELECT", "WITH", "(")
    ):
        raise refused(f"{key} over an array is not supported")
    if key == "IS" and "DISTINCT" in (following, s[i + 2].key if following == "NOT" and i + 2 < len(s) else ""):
        raise not_here("IS [NOT] DISTINCT FROM")
    if key in ("IGNORE", "RESPECT") and following == "NULLS":
        raise not_here(f"{key} NULLS")


def _check_call(token: Token, key: str, first: str) -> None:
    strange = key in _FUNCTIONS or key.startswith("JSONB_") or (key.startswith("JSON_") and key not in _JSON)
    if strange:
        raise RedshiftError(f"function {token.text.lower()} does not exist", "42883")
    if key == "GENERATE_SERIES" and first in ("INSERT", "CREATE"):
        raise RedshiftError(
            "Specified types or functions (one per INFO message) not supported on Redshift tables.",
            "0A000",
            detail='Function "generate_series" runs on the leader node only.',
        )


def _check_window(s: list[Token], at: int) -> None:
    """An aggregate OVER (... ORDER BY ...) needs its frame said, and frames go by ROWS."""
    parts, _ = groups(s, at + 1)
    inside = [t.key for part in parts for t in part]
    if any(word in inside for word in ("RANGE", "GROUPS", "EXCLUDE")):
        raise syntax(next(word for word in ("RANGE", "GROUPS", "EXCLUDE") if word in inside).lower())
    if "ORDER" not in inside or "ROWS" in inside:
        return
    depth, i = 0, at - 1
    while i >= 0:
        depth += {")": 1, "(": -1}.get(s[i].key, 0)
        if not depth:
            break
        i -= 1
    if i > 0 and s[i - 1].key in _AGGREGATES:
        raise refused("Aggregate window functions with an ORDER BY clause require a frame clause")
