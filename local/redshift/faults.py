"""Faults on demand: what a network, a busy cluster or a crash does to a client, at a chosen moment."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Literal

FaultKind = Literal["drop", "drop_after", "refuse_login", "too_many_connections", "refuse_connect", "hang", "error"]


@dataclass
class Fault:
    """
    One thing that will go wrong.

    Args:
        kind: "drop" cuts the connection when a statement comes, before PostgreSQL sees it; "drop_after" once PostgreSQL has done it and
            before the client hears of it; "error" fails the statement with ``message``. "refuse_login", "too_many_connections",
            "refuse_connect" (accepted and closed) and "hang" (accepted, never answered) meet those who connect.
        statement: Regular expression, searched in the statement without regard to case; for the three kinds about statements.
        nth: At the nth time from now, 1 is the next.
        times: How often from then on; 0 is for ever.
        message: Of "error".
        code: SQLSTATE of "error".
    """

    kind: FaultKind
    statement: str = ""
    nth: int = 1
    times: int = 1
    message: str = "fault on demand"
    code: str = "XX000"
    happened: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def due(self) -> bool:
        """Count one occasion; whether the fault happens now."""
        self._seen += 1
        if self._seen < self.nth or (self.times and self.happened >= self.times):
            return False
        self.happened += 1
        return True


class Faults:
    """The faults that wait for their moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Take a fault; it tells how often it happened."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._faults.clear()

    def on_connect(self) -> Fault | None:
        """Return the fault that meets the one who connects now."""
        return self._first({"refuse_login", "too_many_connections", "refuse_connect", "hang"}, None)

    def on_statement(self, sql: str) -> Fault | None:
        """Return the fault of this statement."""
        if not self._faults:
            return None
        return self._first({"drop", "drop_after", "error"}, sql)

    def _first(self, kinds: set[str], sql: str | None) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                fits = fault.kind in kinds and (sql is None or re.search(fault.statement, sql, re.IGNORECASE | re.DOTALL))
                if fits and fault.due():
                    return fault
        return None
