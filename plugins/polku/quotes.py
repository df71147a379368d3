"""
What the text of an error quotes, and the text without it.

A database names the value that it could not read, and a value is a piece of an event: personal data, and whatever a sender wrote there.
Its text goes to logs, to ``state/``, to Slack and to Sentry, so it is cleaned where it comes in (``redshift``) and where it leaves
(``sentry``).
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TEXT = 1_000
HIDDEN = "'…'"

_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_NAME_LIKE = re.compile(r"['\"][\w./:<>*=+-]{0,100}['\"]")
_DATA_ERROR = re.compile(r"\W*(?:22|23|XX)[0-9A-Z]{3}\b")
"""SQLSTATE classes whose messages quote values: data exceptions, integrity violations, and what Redshift has no code for."""
_NAMED = re.compile(
    r"(?i)(?:\b(?:table|relation|column|constraint|index|type|encoding|function|check) (?:'[\w.$]+'|\"[\w.$]+\")"
    r"|['\"](?:s3://[\w.-]+/)?(?:staged|load)/[\w./=-]+['\"]"
    r"|[^'\"])*"
)
"""A beginning that quotes nothing but names of what is ours: tables, columns, staged objects."""


def clean(text: str) -> str:
    """
    Return an error's message without the data that it may quote.

    Of a driver's dict of fields only code and message stay. A quoted literal stays where it looks like a name ("polku_poc.server");
    in an error whose literals may be values (its SQLSTATE leads the text) only names of tables, columns and the like do, by the word before
    them; all from the first other quote to the last is gone, since a value may hold quotes and line ends. At most ``MAX_TEXT`` characters.
    """
    fields = _driver_fields(text)
    if fields is not None:
        text = f"{fields.get('C', '')} {fields.get('M', '')}".strip()
    text = _without_values(text) if _DATA_ERROR.match(text) else _QUOTED.sub(lambda m: m[0] if _NAME_LIKE.fullmatch(m[0]) else HIDDEN, text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def clean_answer(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return severity, code and message of a server's answer, cleaned; its detail and its context, which quote rows, are gone."""
    code = str(fields.get("C", ""))
    return {"S": str(fields.get("S", "")), "C": code, "M": clean(f"{code} {fields.get('M', '')}").removeprefix(code).strip()}


def _without_values(text: str) -> str:
    begin = _NAMED.match(text)
    start = begin.end() if begin else 0
    if start == len(text):
        return text.partition("\n")[0]
    end = text.rfind(text[start])
    rest = text[end + 1 :].partition("\n")[0] if end > start else ""
    return text[:start].replace("\n", " ") + HIDDEN + rest


def _driver_fields(text: str) -> dict[str, Any] | None:
    """Return the server's answer that redshift_connector's errors show as a dict, None where the text is none."""
    if not text.startswith("{'S':"):
        return None
    try:
        fields = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {"M": "an error of the database"}
    return fields if isinstance(fields, dict) else None
