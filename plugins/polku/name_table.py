"""
Names of users from a table of the owner's own PostgreSQL.

The query is the owner's (parameter ``names.query``). It takes a list of ids as text and returns rows of (id, name):
``select user_id, user_name from users where user_id = any(%(ids)s)``; where the column is no text, ``user_id::text = any(%(ids)s)``.

A directory that cannot be reached, or that does not answer in time, is a TransientError: an unknown id would get a generated
name, and keep it for ever.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from polku import quotes
from polku.errors import PolkuError, SettingsError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PLACEHOLDER = "%(ids)s"
CHUNK = 1_000
"""Ids a query: a plan with an index stays a plan with an index."""

LOGIN_SECONDS = 30
"""For libpq: a host that takes the connection and says nothing is given up. ``connect_timeout`` in the extras comes first."""

TIMEOUT_SECONDS = 30
"""Statement timeout of each query."""

_PERSON_CLASSES = ("0A", "22", "25006", "28", "2F", "38", "39", "3D", "3F", "42")
"""SQLSTATE classes that stay wrong when tried again: data, writing, login, database, schema, syntax or access rule, function."""


def lookup(connect: Callable[[], Any], query: str, user_ids: Sequence[str]) -> dict[str, str]:
    """
    Return the names that the table has for these ids.

    Args:
        connect: Opens a DB-API connection of psycopg2 or psycopg (3), e.g. PostgresHook's ``get_conn``.
        query: The owner's query, with ``%(ids)s`` in it.
        user_ids: Any number of ids; one that is there twice is asked for once.

    Returns:
        By id; an id that is missing, or whose name is null or blank, is left out. Of several names of one id the smallest, so that every
        try comes to the same.

    Raises:
        SettingsError: The query is wrong, or it may not be run; a person must change it.
        TransientError: The directory could not be reached, or was too slow.
    """
    if PLACEHOLDER not in query:
        raise SettingsError(f"names.query lacks {PLACEHOLDER}, where the list of ids goes, e.g. ... where user_id = any({PLACEHOLDER})")
    wanted = sorted({user_id for user_id in user_ids if "\x00" not in user_id})  # PostgreSQL's text cannot hold a NUL, so it has no such id
    if not wanted:
        return {}
    names: dict[str, str] = {}
    connection = None
    try:
        connection = connect()
        with connection.cursor() as cursor:
            cursor.execute("set transaction read only")
            cursor.execute(f"set local statement_timeout = {TIMEOUT_SECONDS * 1000}")
            for start in range(0, len(wanted), CHUNK):
                cursor.execute(query, {"ids": wanted[start : start + CHUNK]})
                _take(cursor, set(wanted[start : start + CHUNK]), names)
        connection.rollback()
    except PolkuError:
        raise
    except Exception as error:
        meaning = _meaning(error)
        if meaning is None:
            raise
        raise meaning from error
    finally:
        if connection is not None:
            connection.close()
    return names


def _take(cursor: Any, wanted: set[str], names: dict[str, str]) -> None:
    """Add a query's rows to the names; raises SettingsError where they are not of two columns."""
    if cursor.description is None or len(cursor.description) != 2:  # noqa: PLR2004 (id and name)
        raise SettingsError("names.query must return two columns, the user's id and the user's name")
    for user_id, name in cursor.fetchall():
        key, text = str(user_id), "" if name is None else str(name).strip()
        if text and key in wanted:
            names[key] = min(names.get(key, text), text)


def _meaning(error: Exception) -> PolkuError | None:
    """Return the error of ours for one of the driver's; None where it is no driver's."""
    if isinstance(error, KeyError | IndexError | TypeError | ValueError):
        return SettingsError(f"names.query cannot be run: {_text(error)}. Its only placeholder is {PLACEHOLDER}; write % as %%")
    if isinstance(error, OSError):
        return TransientError(f"The directory of names could not be reached: {_text(error)}")
    drivers = [sys.modules[name] for name in ("psycopg2", "psycopg") if name in sys.modules]
    if not any(isinstance(error, driver.Error) for driver in drivers):
        return None
    code = str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
    text = quotes.clean(f"{code or type(error).__name__} {_text(error)}")
    error.args = (text,)  # it stays the cause, and a task's log shows it: its later lines hold the query with the ids
    wrong = code.startswith(_PERSON_CLASSES) if code else any(isinstance(error, driver.ProgrammingError) for driver in drivers)
    if wrong:
        return SettingsError(f"names.query was refused by the directory: {text}")
    return TransientError(f"The directory of names did not answer: {text}")


def _text(error: Exception) -> str:
    """Return the first line of what a driver says: later ones can quote data."""
    return str(error).strip().partition("\n")[0][:200]
