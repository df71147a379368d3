"""What PostgreSQL can do and Redshift cannot: refused, so that nobody comes to lean on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RedshiftError, not_here, refused, syntax
from .tokens import solid

if TYPE_CHECKING:
    from .tokens import Token

_STATEMENTS = {
    "SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "TRUNCATE", "COPY", "BEGIN", "START", "COMMIT", "END", "ROLLBACK",
    "ABORT", "LOCK", "SET", "RESET", "SHOW", "ANALYZE", "VACUUM", "EXPLAIN", "GRANT", "REVOKE", "COMMENT", "DECLARE", "FETCH", "CLOSE",
    "PREPARE", "EXECUTE", "DEALLOCATE", "VALUES", "CANCEL", "MERGE", "CALL", "UNLOAD", "USE", "(", "DISCARD", "SAVEPOINT", "RELEASE", "LISTEN",
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
_LATER = {"UNLOAD", "CALL", "MERGE", "CANCEL", "USE", "REFRESH", "GRANT", "REVOKE", "EXECUTE", "PREPARE", "DEALLOCATE"}
_OBJECTS = {
    "INDEX": "SQL command \"CREATE INDEX\" not supported on Redshift tables.",
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
    "ROW_TO_JSON", "TO_JSON", "TO_JSONB", "JSON_BUILD_OBJECT", "JSONB_BUILD_OBJECT", "JSON_AGG", "JSONB_AGG", "JSON_OBJECT_AGG", "JSONB_OBJECT_AGG",
    "JSONB_SET", "JSON_EACH", "JSONB_EACH", "JSON_TYPEOF_", "JSONB_TYPEOF", "ARRAY_AGG", "UNNEST", "ARRAY_LENGTH", "STRING_AGG",
    "STRING_TO_ARRAY", "ARRAY_TO_STRING", "GEN_RANDOM_UUID", "CLOCK_TIMESTAMP", "STATEMENT_TIMESTAMP", "TRANSACTION_TIMESTAMP",
    "FORMAT", "REGEXP_MATCHES", "REGEXP_SPLIT_TO_TABLE", "REGEXP_SPLIT_TO_ARRAY", "MAKE_DATE", "MAKE_TIMESTAMP", "MAKE_INTERVAL", "DATE_BIN",
    "NUM_NONNULLS", "NEXTVAL", "CURRVAL", "SETVAL", "LASTVAL", "PG_ADVISORY_LOCK", "PG_ADVISORY_XACT_LOCK", "PG_TRY_ADVISORY_LOCK",
    "CONCAT_WS", "SCALE", "DIV", "JSONB_PATH_QUERY", "LO_IMPORT", "LO_EXPORT", "PG_READ_FILE", "PG_LS_DIR", "DBLINK",
}  # fmt: skip


def check(tokens: list[Token]) -> None:
    """Raise RedshiftError where Redshift would refuse this statement, or where we cannot do it."""
    s = solid(tokens)
    first = s[0].key
    if first not in _STATEMENTS or first in _UNKNOWN:
        raise syntax(s[0].text)
    if first in _LATER:
        raise not_here(first)
    if first == "CREATE":
        _check_create(s)
    if first in ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "(", "VALUES", "EXPLAIN", "CREATE", "DECLARE"):
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


def _check_query(s: list[Token]) -> None:  # noqa: C901, PLR0912
    first = s[0].key
    if any(token.name == "pg_catalog" for token in s):  # psql and its like ask PostgreSQL's catalog in PostgreSQL's words
        return
    for i, token in enumerate(s):
        key = token.key
        if not key:
            continue
        following = s[i + 1].key if i + 1 < len(s) else ""
        before = s[i - 1].key if i else ""
        if key == "ON" and following == "CONFLICT":
            raise syntax(s[i + 1].text)
        if key == "RETURNING" and first in ("INSERT", "UPDATE", "DELETE", "WITH"):
            raise syntax(token.text)
        if key == "DISTINCT" and following == "ON" and i + 2 < len(s) and s[i + 2].key == "(":
            raise refused("SELECT DISTINCT ON is not supported")
        if key == "FOR" and following in ("UPDATE", "SHARE"):
            raise refused("SELECT FOR UPDATE/SHARE is not supported")
        if key == "LATERAL":
            raise syntax(token.text)
        if key == "FILTER" and before == ")" and following == "(":
            raise syntax(following)
        if key in ("TABLESAMPLE", "ORDINALITY"):
            raise syntax(token.text)
        if key in ("->>", "->", "#>", "#>>"):
            raise RedshiftError(f"operator does not exist: {token.text}", "42883")
        if key == "ARRAY" and following == "[":
            raise refused("ARRAY constructors are not supported")
        if key == "WITHIN" and before == ")":
            continue
        if following == "(" and key in _FUNCTIONS and before != ".":
            raise RedshiftError(f"function {token.text.lower()} does not exist", "42883")
        if key == "GENERATE_SERIES" and following == "(" and (first == "INSERT" or first == "CREATE"):
            raise RedshiftError(
                "Specified types or functions (one per INFO message) not supported on Redshift tables.",
                "0A000",
                detail='Function "generate_series" runs on the leader node only.',
            )
        if key in ("GROUPING", "CUBE", "ROLLUP") and following in ("SETS", "("):
            continue
