"""Errors as the client sees them: SQLSTATE, message, detail."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RedshiftError(Exception):
    """
    What an ErrorResponse says.

    Args:
        message: Redshift's words where we know them.
        code: SQLSTATE.
        detail: A second paragraph, "" where there is none.
        hint: What to do, "" where there is nothing to say.
    """

    message: str
    code: str = "XX000"
    detail: str = field(default="", kw_only=True)
    hint: str = field(default="", kw_only=True)

    def fields(self) -> dict[str, str]:
        """Return the fields of an ErrorResponse."""
        found = {"S": "ERROR", "C": self.code, "M": self.message}
        if self.detail:
            found["D"] = self.detail
        if self.hint:
            found["H"] = self.hint
        return found


def refused(message: str) -> RedshiftError:
    """Return the error of a statement that Redshift knows and refuses."""
    return RedshiftError(message, "0A000")


def syntax(near: str) -> RedshiftError:
    """Return the error of a statement that Redshift's grammar does not have."""
    return RedshiftError(f'syntax error at or near "{near}"', "42601")


def not_here(what: str) -> RedshiftError:
    """Return the error of a statement that Redshift can do and that this stand-in cannot."""
    return RedshiftError(
        f"{what} is not supported by the local Redshift", "0A000", hint="Redshift itself may know it; see docs/local-redshift.md."
    )
