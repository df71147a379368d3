"""PostgreSQL's errors in Redshift's words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .load_errors import internal

if TYPE_CHECKING:
    from collections.abc import Mapping


def translated(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of the ErrorResponse that Redshift would send."""
    state, message = fields.get("C", ""), fields.get("M", "")
    kept = {k: v for k, v in fields.items() if k in "SVCMDH"}
    if state == "40001":
        detail = "Serializable isolation violation on table - 0, transactions forming the cycle are: 0, 0 (pid:0)"
        return {**_plain(kept), "C": "XX000", "M": "1023", "D": detail}
    if state == "23514" and (match := re.match(r"redshift_bytes_\d+_(\d+)(_char)?", fields.get("n", ""))):
        kind = "character" if match[2] else "character varying"
        return {**_plain(kept), "C": "22001", "M": f"value too long for type {kind}({match[1]})"}
    if state == "23502":
        return {**_plain(kept), "C": "XX000", "M": f"Cannot insert a NULL value into column {fields.get('c', '')}"}
    if state == "22P02" and (match := re.fullmatch(r'invalid input syntax for type (\w+(?: \w+)*): "(.*)"', message, re.DOTALL)):
        return {**_plain(kept), **_digit(match[1], match[2])}
    if state == "428C9":
        return {**_plain(kept), "C": "XX000", "M": "cannot set an identity column to a value"}
    if "redshift_" in message or "redshift_" in kept.get("D", ""):
        kept["M"] = message.replace("redshift_", "")
    return kept


def _plain(fields: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in fields.items() if k in "SV"}


_DIGITS = {"integer": "Integer", "bigint": "Long", "smallint": "Short", "numeric": "Decimal", "double precision": "Float", "real": "Float"}


def _digit(kind: str, value: str) -> dict[str, str]:
    """A cast that cannot work: in Redshift's compute nodes an error of their own, with the value in its detail."""
    if kind not in _DIGITS:
        return {"C": "22P02", "M": f'invalid input syntax for type {kind}: "{value}"'}
    at = next((i for i, letter in enumerate(value) if not letter.isdigit() and not (i == 0 and letter in "+-")), 0)
    found = internal(f"Invalid digit, Value '{value[at : at + 1]}', Pos {at}, Type: {_DIGITS[kind]}", 1207, ":0", value)
    return {"C": "XX000", "M": found.message, "D": found.detail}
