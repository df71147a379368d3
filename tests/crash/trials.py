"""
One fault at one point of one run, and what came of it.

The points are not listed by hand: a run without faults is recorded, and each request that a worker makes in it is a point.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.crash.proxy import CUT, READY, Request, http_answer, kinesis_error, redshift_error, s3_error
from tests.crash.world import Abandoned, Findings, World

if TYPE_CHECKING:
    from tests.crash.proxy import Side, Verdict
    from tests.crash.workers import Worker
    from tests.crash.world import Stack

FAULTS = {
    "killed before, tried again": "the worker dies before its request goes out; Airflow tries the step again",
    "killed after, tried again": "the worker dies once its request was served and before it hears of it; Airflow tries the step again",
    "killed before, next run": "the same; nobody tries again, the next run goes on",
    "killed after, next run": "the same; nobody tries again, the next run goes on",
    "answer lost": "the request is served and the connection is reset before the answer",
    "cut": "the connection is reset before the request goes out",
    "refused": "503 SlowDown, 500 InternalFailure, 1023, HTTP 500, 57P03: by server",
    "lives on": "the request is held, the try is given up and another one made; the held one goes out when that is over",
}
_ERRORS = {
    "s3": s3_error(503, "SlowDown"),
    "kinesis": kinesis_error(500, "InternalFailure"),
    "redshift": redshift_error("XX000", "1023"),
    "slack": http_answer(500, b"<html>upstream error</html>", Content_Type="text/html"),
    "sentry": http_answer(500),
    "names": redshift_error("57P03", "the database system is shutting down") + READY,
}
_BLOCKED_SECONDS = 1.0
"""How long Redshift may owe an answer until we say that the one who waits is blocked by the one who is held."""


@dataclass(frozen=True)
class Trial:
    """A fault at a point of a run of a source, or of the notify run behind it."""

    source: str
    fault: str
    point: Request

    def __str__(self) -> str:
        return f"{self.source}: {self.fault}: {self.point}"


def record(stack: Stack, source: str) -> list[Request]:
    """Return every request of a run and of the notify run behind it, in order."""
    world = _world(stack)
    seen: list[Request] = []

    def judge(side: Side, request: Request) -> Verdict:
        if side == "before":
            seen.append(request)
        return None

    world.judge = judge
    world.sample(source)
    outcome = world.run(source)
    assert outcome["state"] == "success", outcome
    outcome = world.notify()
    assert outcome["state"] == "success", outcome
    world.judge = lambda _side, _request: None
    world.calm(source)
    findings = world.findings(source)
    assert not findings, findings
    world.close()
    return seen


def _world(stack: Stack) -> World:
    """Return a world in which every server is asked, the directory of names too."""
    world = World(stack)
    world.env["CRASH_NAMES"] = "table"
    return world


def matrix(source: str, points: list[Request]) -> list[Trial]:
    """Return every fault at every point."""
    return [Trial(source, fault, point) for point in points for fault in FAULTS]


def perform(stack: Stack, trial: Trial) -> Findings:
    """Let a run meet its fault, then let calm runs pass, and return what is wrong."""
    world = _world(stack)
    fault = _Fault(world, trial)
    world.judge = fault.judge
    world.sample(trial.source)
    retry = not trial.fault.endswith("next run")
    if trial.fault == "lives on":
        fault.give_up()
    else:
        for part in (lambda: world.run(trial.source, retry=retry), lambda: world.notify(retry=retry)):
            try:
                part()
            except Abandoned:
                continue
    if not fault.met:
        raise LookupError(f"{trial} was not met")
    world.judge = lambda _side, _request: None
    if not retry:
        world.put(trial.source, "late")  # producers go on
    world.calm(trial.source)
    findings = world.findings(trial.source)
    world.close()
    return findings


class _Fault:
    """Waits for its request and does what is to be done to it, once."""

    def __init__(self, world: World, trial: Trial) -> None:
        self.world, self.trial = world, trial
        self.met = False
        self._lock = threading.Lock()
        self._release = threading.Event()
        self.holding: Worker | None = None
        self._owed: dict[Request, float] = {}

    def judge(self, side: Side, request: Request) -> Verdict:
        if self.trial.fault == "lives on":
            return self._hold(side, request)
        wanted: Side = "after" if self.trial.fault.startswith(("killed after", "answer")) else "before"
        if side != wanted or not self._first(request):
            return None
        if self.trial.fault.startswith("killed"):
            request.by.kill()
            return CUT
        return _ERRORS[request.server] if self.trial.fault == "refused" else CUT

    def _first(self, request: Request) -> bool:
        with self._lock:
            if self.met or request != self.trial.point:
                return False
            self.met = True
            return True

    def _hold(self, side: Side, request: Request) -> Verdict:
        with self._lock:
            if side == "before":
                self._owed[request] = time.monotonic()
            else:
                self._owed.pop(request, None)
        if side == "before" and self._first(request):
            with self._lock:
                del self._owed[request]
            self.holding = request.by
            self.holding.given_up.set()
            self._release.wait(100)
        return None

    def give_up(self) -> None:
        """Run, with a try that is given up while its request is held, and let that one go once the run is over, or waits for it."""
        whole = threading.Thread(target=lambda: (self.world.run(self.trial.source), self.world.notify()), daemon=True)
        whole.start()
        while whole.is_alive() and not self._blocked():
            whole.join(0.02)
        self._release.set()
        whole.join(100)
        if self.holding:
            self.holding.result()

    def _blocked(self) -> bool:
        """Tell whether Redshift has owed somebody an answer for long while our request is held."""
        with self._lock:
            waiting = [since for request, since in self._owed.items() if request.server == "redshift"]
        return self.holding is not None and any(time.monotonic() - since > _BLOCKED_SECONDS for since in waiting)
