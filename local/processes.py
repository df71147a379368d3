"""
Processes that belong together: started side by side, ended together, none left behind.

Each is a session of its own with a log file. On Linux whatever they leave behind (a worker that outlived its scheduler, a
database that went into the background) becomes a child of this process, and is ended with the rest.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 10.0

_MARK = "POLKU_LOCAL_GROUP"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """A process that is needed ended, or was not ready in time; the message says which and shows the end of its log."""


@dataclass
class Process:
    """
    One process of the group.

    Args:
        name: As messages call it.
        log: Where its output goes.
        popen: Its handle.
        start: Starts it as it was started.
    """

    name: str
    log: Path
    popen: subprocess.Popen[bytes]
    start: Callable[[], Process]

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.popen.poll() is not None

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 8192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    def said(self, word: str) -> str | None:
        """Return what follows this word at the beginning of a line of its log, None where no line begins with it yet."""
        match = re.search(rf"^{re.escape(word)} (\S+)", self.log.read_text(errors="replace"), re.MULTILINE)
        return match[1] if match else None


class Group:
    """
    Processes that start side by side and end together; a context manager.

    Args:
        logs: The folder of their log files.

    Whatever descends from them carries a mark of the group in its environment, so that nothing else is ended with them.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.processes: dict[str, Process] = {}
        self._mark = uuid.uuid4().hex

    def __enter__(self) -> Group:
        self.logs.mkdir(parents=True, exist_ok=True)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(*reversed(self.processes))
        _end(self._left(), GRACE_SECONDS / 2)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> Process:
        """Start a process and return at once."""
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                list(command),
                cwd=cwd,
                env={**env, _MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- no threads are running here that could hold a lock
            )
        self.processes[name] = Process(name, log, popen, lambda: self.start(name, command, env, cwd))
        return self.processes[name]

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        return {name: process.popen.pid for name, process in self.processes.items()}

    def check(self) -> None:
        """Raise Failed where a process has ended."""
        for process in self.processes.values():
            if process.ended:
                raise Failed(f"{process.name} ended with {process.popen.returncode}. The end of {process.log}:\n{process.tail()}")

    def wait_for_urls(self, names: Iterable[str], seconds: float) -> dict[str, str]:
        """Wait until all of these have printed their address, and return the addresses; raises Failed where one does not."""
        deadline = time.monotonic() + seconds
        waiting = list(names)
        urls: dict[str, str] = {}
        while waiting:
            for name in list(waiting):
                if url := self.processes[name].said("ready"):
                    urls[name] = url
                    waiting.remove(name)
            self.check()
            if waiting and time.monotonic() > deadline:
                process = self.processes[waiting[0]]
                raise Failed(f"{process.name} was not ready after {seconds:.0f} s. The end of {process.log}:\n{process.tail()}")
            time.sleep(0.05)
        return urls

    def wait_for_end(self, name: str, seconds: float) -> None:
        """Wait until a process has done its work, and forget it; raises Failed where it fails or takes longer."""
        process = self.processes.pop(name)
        try:
            code = process.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            _end([psutil.Process(process.popen.pid)], 1)
            raise Failed(f"{name} was not done after {seconds:.0f} s. The end of {process.log}:\n{process.tail()}") from None
        if code:
            raise Failed(f"{name} ended with {code}. The end of {process.log}:\n{process.tail()}")

    def stop(self, *names: str) -> None:
        """End these processes and all that they have started, side by side."""
        ended = [self.processes.pop(name) for name in names if name in self.processes]
        trees: list[psutil.Process] = []
        for process in ended:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(process.popen.pid)
                trees += [*root.children(recursive=True), root]
        for process in ended:
            with contextlib.suppress(ProcessLookupError):
                process.popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
        _end(trees, 1)
        for process in ended:
            process.popen.wait()

    def _left(self) -> Iterator[psutil.Process]:
        """Yield the descendants of this process that carry the group's mark."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark:
                    yield process


def free_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """Return a port of loopback for each name: the wanted one where it is free, else any that is; no two are the same."""
    found = {}
    with contextlib.ExitStack() as probes:
        for name, port in wanted.items():
            probe = probes.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                probe.bind((LOOPBACK, 0))
            found[name] = int(probe.getsockname()[1])
    return found


def _end(processes: Iterable[psutil.Process], grace: float) -> None:
    """End these processes: politely, then by force."""
    processes = list(processes)
    for send in ("terminate", "kill"):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(process, send)()
        _, processes = psutil.wait_procs(processes, grace)
    psutil.wait_procs(processes, 1)


def _die_with_parent() -> None:
    """In a child before its program starts: let the kernel end it with its parent, however that one ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() == 1:
            os._exit(1)
