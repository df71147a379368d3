"""
Errors, one type for each reaction.

PolkuError
├── SettingsError     a person must change something: fail at once, do not retry
│   ├── LostObject    what a batch is made of has gone from the bucket: hold the batch back
│   └── UnreadableState   an object below state/ is none of this release: nothing is written over it
├── TransientError    the world may be better in a minute: Airflow retries
│   └── FailedLoad    Redshift failed in a statement of a load: if it does again, each batch is tried by itself
├── LostRace          somebody else wrote first: read again and decide
├── StaleLoad         a newer transform of the batch is in the books: this try is a zombie and must stop
├── RefusedLoad       Redshift refused the load for what is in it: hold the batch at fault back
└── InvalidRecord     one event cannot be read: it goes to quarantine, its neighbours go on
"""

from __future__ import annotations

from dataclasses import dataclass


class PolkuError(Exception):
    """Base of all errors that Polku raises on purpose."""


class SettingsError(PolkuError):
    """A parameter, an environment variable or a connection is missing or wrong; the message says which and what is allowed."""


class LostObject(SettingsError):
    """An object that a batch is made of is no longer in the bucket; without it the batch cannot be delivered."""


class UnreadableState(SettingsError):
    """A state object cannot be read; it is left as it is until a person has looked at it."""


class TransientError(PolkuError):
    """Something outside did not answer as it should; the same step may work when it is tried again."""


class FailedLoad(TransientError):
    """Redshift failed inside a statement; it may pass, or one of the batches is more than it can do."""


class LostRace(PolkuError):
    """A conditional write found that the object is no longer what was read (HTTP 412)."""


class StaleLoad(PolkuError):
    """The books hold a newer transform of a batch than this load carries; nothing was written."""


class RefusedLoad(PolkuError):
    """Redshift refused a load for its contents; nothing was written."""


@dataclass
class InvalidRecord(PolkuError):
    """
    One event that cannot become a row.

    Args:
        reason: A code from ``events.REASONS``, the key by which quarantine is counted.
        detail: What was found and what was expected, at most some 200 characters, without the event itself.
    """

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
