"""
What Redshift's errors mean to a load: try again, hold a batch back, or call a person.

Sorted by SQLSTATE, as the server sends it (PostgreSQL manual, "Error Codes"; Redshift keeps the classes), and by the
text only where Redshift gives XX000 for everything.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from polku import quotes
from polku.errors import FailedLoad, PolkuError, RefusedLoad, SettingsError, StaleLoad, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = {
    "StaleLoad": StaleLoad,
    "CountMismatch": RefusedLoad,
    "BatchMismatch": RefusedLoad,
    "ArrivalMismatch": RefusedLoad,
    "PositionMismatch": RefusedLoad,
    "BooksUnbalanced": RefusedLoad,
}
"""Words that the SQL of a load raises with, by a cast that cannot work."""

_OUR_WORDS = re.compile(rf"(?:^|['\"]|\bcontext:\s*)(({'|'.join(_OURS)}): [\w ,.:/+-]*)")
"""One of them with its text, which is made of names, counts and times; it begins the value that the cast could not read."""

_CONTENT_CLASSES = ("22", "23")
"""Data exceptions and integrity violations."""

_PERSON_CLASSES = ("28", "3D", "3F", "42", "0A")
"""Wrong login, no such database or schema, no such table or right, not supported."""

_FAILED_CODES = ("54", "57014", "58", "XX")
"""More than the server can do, cancelled at a limit, an error of its system, one that it has no code for: maybe for what is loaded."""

_LOAD_FAILED = "load into table"
"""How Redshift begins when COPY refuses a row: "Load into table 'staged' failed.  Check 'stl_load_errors' ..."."""

_HINTS = {
    "s3serviceexception:access denied": "Let the role in `iam_role` read staged/ and load/ of the bucket.",
    "not authorized to assume iam role": "Attach the role in `iam_role` to the cluster.",
    "server refuses ssl": "Set `sslmode` in the extras of redshift_default (or REDSHIFT_SSLMODE), or the host and port of a Redshift.",
    "communication error": "Check host and port of redshift_default (or REDSHIFT_HOST and REDSHIFT_PORT), and that Redshift is not paused.",
    "connection time out": "Check host and port of redshift_default (or REDSHIFT_HOST and REDSHIFT_PORT), and that Redshift lets us in.",
}
"""What a person can do about errors that may also pass by themselves; by words of the server or of redshift_connector, in lower case."""


@contextmanager
def sorted_errors() -> Iterator[None]:
    """
    Turn what redshift_connector raises inside into the type of error that says what to do.

    The driver's own error stays its cause, so that a task's log shows both, without what the server's answer quotes of an event.
    """
    from redshift_connector.error import Error

    try:
        yield
    except Error as error:
        ours = meaning(error)
        if error.args and isinstance(error.args[0], dict):
            error.args = (quotes.clean_answer(error.args[0]),)
        raise ours from error
    except TimeoutError as error:  # at login; or where the connection has a ``timeout``, at any statement
        raise TransientError(f"Redshift did not answer in time: {error}. {_HINTS['connection time out']}") from error
    except OSError as error:  # the connection broke: redshift_connector lets some of these through
        raise TransientError(
            f"The connection to Redshift broke: {error}. Whether it committed shows when the load is tried again."
        ) from error


def meaning(error: Exception) -> PolkuError:
    """
    Return the error of ours for one of redshift_connector's.

    Args:
        error: Its first argument is the server's answer (a dict of fields by their letter) or a text.

    What the text quotes of an event is left out: it ends up in logs, in ``state/`` and in Slack.
    """
    fields: dict[str, Any] = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    code, text = str(fields.get("C", "")), str(fields.get("M", "")) or ": ".join(map(str, error.args))
    told = f"{text}\n{fields.get('D', '')}"  # compute nodes put the value that a cast could not read into the detail
    raised = _OUR_WORDS.search(told)
    if raised:
        return _OURS[raised[2]](raised[1].strip())
    clean = quotes.clean(f"{code} {text}".strip())
    if text.lower().startswith(_LOAD_FAILED) or code.startswith(_CONTENT_CLASSES):
        return RefusedLoad(clean)
    if code.startswith(_PERSON_CLASSES):
        return SettingsError(f"Redshift refused: {clean}. Check redshift_default (or REDSHIFT_*), and that polku_migrate has run.")
    if code.startswith(_FAILED_CODES) and "1023" not in text and not any(words in text.lower() for words in _HINTS):
        return FailedLoad(f"Redshift: {clean}")
    hint = next((hint for words, hint in _HINTS.items() if words in text.lower()), "")
    return TransientError(" ".join(filter(None, ("Redshift:", clean.strip(), hint))))
