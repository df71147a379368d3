"""
Interleavings of the real steps, request by request, as ``commit_model.py`` tries them on the model.

Runs, retries, zombies, cleared and backfilled runs are real processes whose requests wait at a gate. A tape of numbers says
what happens next: let this one's requests through, kill that one, lose an answer, give a try up, start a run, clear an old
one or a single task of it, backfill, split a shard, put an event, let an iterator expire. When the tape has ended everything
is let through; calm runs follow, every batch is replayed once, and the account must be right.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from tests.crash.proxy import CUT, Request
from tests.crash.world import Abandoned, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.crash.proxy import Side, Verdict
    from tests.crash.workers import Worker
    from tests.crash.world import Findings, Stack

LENGTH = 60
MOST = 1_000_000
"""Numbers on a tape lie below this."""

_ACTORS = 5
_SETTLE_SECONDS = 5.0
_BLOCKED_SECONDS = 0.3
_PATIENCE = 100.0


def tape(seed: object) -> list[int]:
    """Return a tape drawn at random."""
    dice = random.Random(str(seed))
    return [dice.randrange(MOST) for _ in range(LENGTH)]


def perform(stack: Stack, numbers: Sequence[int]) -> Findings:
    """Let the tape happen, then peace, then a replay of every batch; return what is wrong."""
    schedule = Schedule(stack)
    for number in numbers:
        schedule.step(number)
    schedule.finish()
    world = schedule.world
    world.calm(*world.sent)
    batches = [(source, key) for source in world.sent for key in world.keys(f"state/{source}/batches/")]
    random.Random(numbers[0] if numbers else 0).shuffle(batches)
    for source, key in batches:
        name = key.rpartition("/")[2].removesuffix(".json")
        outcome = world.run(source, datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).isoformat())
        assert outcome["state"] == "success", outcome
    world.calm(*world.sent)
    findings = world.findings(*world.sent)
    world.close()
    return findings


def _waits(request: Request) -> bool:
    """Tell whether the order of this request among those of others can matter: state, the buffers, what is locked and committed."""
    if request.server == "s3":
        return request.write or request.label.startswith(("GET state/", "LIST "))
    if request.server == "redshift":
        return request.label in {"10_lock.sql", "commit"}
    return request.label in {"GetRecords", "chat.postMessage"}


@dataclass
class _Held:
    """A request at the gate."""

    request: Request
    go: threading.Event = field(default_factory=threading.Event)
    verdict: Verdict = None


class Gate:
    """Where requests wait until they are let through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._held: list[_Held] = []
        self._owed: dict[int, dict[Request, float]] = {}
        self._allowance: dict[int, int] = {}
        self._lose: set[Request] = set()

    def judge(self, side: Side, request: Request) -> Verdict:
        """Hold a request, unless it may pass."""
        by = request.by.number
        with self._lock:
            owed = self._owed.setdefault(by, {})
            if side == "after":
                owed.pop(request, None)
                lost = request in self._lose
                self._lose.discard(request)
                return CUT if lost else None
            actor = request.by.actor
            if self._open or not _waits(request) or self._allowance.get(actor, 0) > 0:
                self._allowance[actor] = self._allowance.get(actor, 0) - _waits(request)
                owed[request] = time.monotonic()
                return None
            held = _Held(request)
            self._held.append(held)
        held.go.wait(_PATIENCE)
        with self._lock:
            self._held.remove(held)
            if held.verdict is None:
                owed[request] = time.monotonic()
        return held.verdict

    @property
    def held(self) -> list[_Held]:
        """What waits, in an order that does not depend on time."""
        with self._lock:
            return sorted(
                (h for h in self._held if not h.go.is_set()), key=lambda h: (h.request.by.number, h.request.label, h.request.number)
            )

    def let_through(self, held: _Held, more: int = 0, *, lose: bool = False) -> None:
        """Let a request through, and the next ones of the same actor; or let it through and lose its answer."""
        with self._lock:
            self._allowance[held.request.by.actor] = more
            if lose:
                self._lose.add(held.request)
        held.go.set()

    def cut(self, worker: Worker) -> None:
        """Reset what a dead worker was asking for."""
        for held in self.held:
            if held.request.by is worker:
                held.verdict = CUT
                held.go.set()

    def open(self) -> None:
        """Let everything through from now on."""
        with self._lock:
            self._open = True
        for held in self.held:
            held.go.set()

    def is_quiet(self, worker: Worker | None) -> bool:
        """Tell whether a worker waits here, or for a lock in Redshift."""
        if worker is None:
            return False
        with self._lock:
            owed = [since for request, since in self._owed.get(worker.number, {}).items() if request.server == "redshift"]
            waits = any(held.request.by is worker and not held.go.is_set() for held in self._held)
        return waits or any(time.monotonic() - since > _BLOCKED_SECONDS for since in owed)


class Schedule:
    """
    What a tape makes happen.

    Args:
        stack: The servers.
    """

    def __init__(self, stack: Stack) -> None:
        self.world = World(stack)
        self.gate = Gate()
        self.world.judge = self.gate.judge
        self.world.minutes = itertools.count(500)  # peace is later than all that the tape can start
        self.threads: list[threading.Thread] = []
        self.story: list[str] = []
        self._ids = 0
        self._minutes: list[int] = []
        self.world.sample("server")
        self.world.put("client", "k", "l")
        self.world.drop("client", "m")
        self._start_run("server")

    def step(self, number: int) -> None:
        """Do the next thing."""
        kind, who, how = number % 20, number // 20 % 97, number // 2000
        actions: dict[int, Callable[[int, int], str]] = {
            10: self._new_run,
            11: self._put,
            12: self._drop,
            13: self._kill,
            14: self._give_up,
            15: self._clear,
            16: self._backfill,
            17: self._reshard,
            18: self._lose_answer if how % 2 else self._expire,
            19: self._notify,
        }
        self.story.append(actions.get(kind, self._let_through)(who, how))
        self._settle()

    def finish(self) -> None:
        """Let everything through and wait for its end."""
        self.gate.open()
        for thread in self.threads:
            thread.join(_PATIENCE)
            assert not thread.is_alive(), "\n".join(self.story)
        for worker in list(self.world.living.values()):
            worker.result()
        self.world.judge = lambda _side, _request: None
        self.world.stack.kinesis.clear_faults()

    # what can happen

    def _let_through(self, who: int, how: int) -> str:
        held = self._one_of_held(who)
        if not held:
            return self._new_run(who, how)
        self.gate.let_through(held, how % 12)
        return f"let through {held.request} of {held.request.by.number} and {how % 12} more"

    def _lose_answer(self, who: int, _: int) -> str:
        held = self._one_of_held(who)
        if not held:
            return "nothing to lose"
        self.gate.let_through(held, lose=True)
        return f"lose the answer to {held.request} of {held.request.by.number}"

    def _kill(self, who: int, _: int) -> str:
        held = self._one_of_held(who)
        if not held:
            return "nobody to kill"
        held.request.by.kill()
        self.gate.cut(held.request.by)
        return f"kill {held.request.by.number} at {held.request}"

    def _give_up(self, who: int, _: int) -> str:
        held = self._one_of_held(who)
        if not held or held.request.by.given_up.is_set():
            return "nobody to give up"
        held.request.by.actor = -held.request.by.number
        held.request.by.given_up.set()
        return f"give {held.request.by.number} up at {held.request}; it lives on"

    def _new_run(self, who: int, how: int) -> str:
        return self._start_run("client" if who % 5 == 0 else "server", retry=bool(how % 4))

    def _clear(self, who: int, how: int) -> str:
        """Run a whole run again, or any single task of any run."""
        runs = sorted(self.world.xcom)
        if how % 3 and runs:
            source, at = runs[who % len(runs)]
            tasks = sorted(self.world.tasks_of(source, at))
            name = tasks[how // 3 % len(tasks)]
            return self._start(f"clear {name} of {source} {at}", lambda: self.world.clear(source, at, name))
        return self._start_run("server", self._minutes[who % len(self._minutes)])

    def _backfill(self, who: int, _: int) -> str:
        """Run minutes that had no run yet, before and between those that had, many at once."""
        before = [2 * (who % 3) + 1, 2 * (who % 5) + 1]
        return "backfill: " + ", ".join(self._start_run("server", minute) for minute in before)

    def _notify(self, _who: int, _how: int) -> str:
        return self._start("notify", self.world.notify)

    def _put(self, who: int, how: int) -> str:
        self._ids += 1
        id_ = "a" if how % 5 == 0 else f"e{self._ids}"
        source = "client" if who % 5 == 0 else "server"
        self.world.put(source, id_, user="u-a" if how % 3 == 0 else None)
        return f"put {id_} to {source}"

    def _drop(self, who: int, how: int) -> str:
        self._ids += 1
        ids = [f"f{self._ids}", "b"] if how % 3 == 0 else [f"f{self._ids}"]
        source = "client" if who % 5 == 0 else "server"
        return f"drop {self.world.drop(source, *ids)} with {ids}"

    def _reshard(self, who: int, how: int) -> str:
        streams, name = self.world.stack.streams, self.world.stream("server")
        shards = [s for s in streams.list_shards(StreamName=name)["Shards"] if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
        shards.sort(key=lambda s: int(s["HashKeyRange"]["StartingHashKey"]))
        if how % 2 and len(shards) > 1:
            at = who % (len(shards) - 1)
            streams.merge_shards(StreamName=name, ShardToMerge=shards[at]["ShardId"], AdjacentShardToMerge=shards[at + 1]["ShardId"])
            return "merge two shards"
        shard = shards[who % len(shards)]
        low, high = (int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
        streams.split_shard(StreamName=name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high + 1) // 2))
        return "split a shard"

    def _expire(self, _who: int, _how: int) -> str:
        self.world.stack.kinesis.fault("expired", 1, path="GetRecords")
        return "an iterator expires"

    # actors

    def _one_of_held(self, who: int) -> _Held | None:
        held = self.gate.held
        return held[who % len(held)] if held else None

    def _start_run(self, source: str, minute: int | None = None, *, retry: bool = True) -> str:
        if minute is None:
            minute = 10 + 2 * len(self._minutes)
            self._minutes.append(minute)
        return self._start(f"run {source} of minute {minute}", lambda: self.world.run(source, self.world.at(minute), retry=retry))

    def _start(self, what: str, do: Callable[[], object]) -> str:
        if sum(thread.is_alive() for thread in self.threads) >= _ACTORS:
            return f"too many to {what}"

        def act() -> None:
            with contextlib.suppress(Abandoned):
                do()

        thread = threading.Thread(target=act, name=what, daemon=True)
        self.threads.append(thread)
        thread.start()
        return what

    def _settle(self) -> None:
        """Wait until everybody waits: at the gate, for a lock, or for nothing any more."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            working = [self.world.working.get(thread.ident or 0) for thread in self.threads if thread.is_alive()]
            zombies = [worker for worker in list(self.world.living.values()) if worker.given_up.is_set()]
            if all(self.gate.is_quiet(worker) for worker in working + zombies):
                return
            time.sleep(0.005)
