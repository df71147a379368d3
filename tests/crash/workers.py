"""
Workers: real processes that run one step of a run each, with the real code, and can be killed.

Airflow's import takes seconds, so a nursery process imports everything once and forks a worker for each step, as Airflow's
own supervisor does. Run as a program this module is the nursery; ``Nursery`` is how the harness speaks to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 100.0
"""Seconds after which a step counts as hanging."""


class Hangs(Exception):
    """A worker did not end; the message has the end of its log."""


@dataclass(frozen=True)
class Call:
    """
    One try of one step.

    Args:
        step: "plan", "drain", "commit", "transform", "load", "notify" or "migrate".
        source: "server" or "client"; "" for notify and migrate.
        at: The run's logical date, ISO 8601.
        number: Airflow's try number.
        given: What XCom hands the step: a lane, the parts, a part.
        params: The run's params.
    """

    step: str
    source: str = ""
    at: str = ""
    number: int = 1
    given: Any = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class Worker:
    """
    A worker, living or dead.

    Args:
        name: Its step, with what tells it from its like: "drain shards-0".
        number: Grows with every worker.
        log: What it logged.

    ``actor`` is the thread that plays Airflow for it. ``given_up`` is set by who decides that Airflow has lost this try, which lives on.
    """

    name: str
    number: int
    log: Path
    pid: int = 0
    born: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)
    status: int = 0
    killed: bool = False
    actor: int = 0

    def kill(self) -> None:
        """SIGKILL it; returns once it is dead."""
        self.born.wait(PATIENCE)
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.gone.wait(PATIENCE)

    def result(self) -> dict[str, Any]:
        """
        Wait for its end and say how it ended.

        Returns: ``state`` is "success", "skipped", "failed" (a person must act), "up_for_retry" or "killed"; ``value`` what the step
            returned, ``error`` the text of what it raised.
        """
        if not self.gone.wait(PATIENCE):
            self.kill()
            raise Hangs(f"{self.name} did not end. Its log ends with:\n{self.tail()}")
        file = self.log.with_suffix(".json")
        if file.exists():
            found: dict[str, Any] = json.loads(file.read_bytes())
            return found
        if os.WIFSIGNALED(self.status) and self.killed:
            return {"state": "killed"}
        raise RuntimeError(f"{self.name} ended with status {self.status} and no result:\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


class Nursery:
    """
    The process that workers are forked from; a context manager.

    Args:
        folder: For AIRFLOW_HOME, logs and results.
        env: What all workers have in their environment.
    """

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self._env = env
        self._workers: dict[int, Worker] = {}
        self._lock = threading.Lock()
        self._count = 0

    def __enter__(self) -> Nursery:
        home = self.folder / "airflow"
        home.mkdir(parents=True)
        ours, theirs = socket.socketpair()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "REDSHIFT_", "SLACK_", "AIRFLOW"))}
        with (self.folder / "nursery.log").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(Path(__file__)), str(theirs.fileno())],
                env={
                    **inherited,
                    "AIRFLOW_HOME": str(home),
                    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
                    "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "plugins", ROOT, ROOT / "dags"))),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **self._env,
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        theirs.close()
        self._control = ours
        self._lines = ours.makefile("r", encoding="utf-8")
        if not self._lines.readline():
            raise RuntimeError("the nursery did not start:\n" + (self.folder / "nursery.log").read_text()[-4000:])
        threading.Thread(target=self._listen, name="nursery", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._control.shutdown(socket.SHUT_WR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._lines.close()
        self._control.close()

    def worker(self, name: str) -> Worker:
        """Return a worker that is not born yet."""
        with self._lock:
            self._count += 1
            number = self._count
        return Worker(name=name, number=number, log=self.folder / f"{number:06d}-{name.replace(' ', '-')}.log")

    def fork(self, worker: Worker, call: Call, env: dict[str, str]) -> Worker:
        """Start a worker."""
        order = {"id": worker.number, "log": str(worker.log), "env": env, "call": call.__dict__}
        with self._lock:
            self._workers[worker.number] = worker
            self._control.sendall(json.dumps(order).encode() + b"\n")
        return worker

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._lines:
                told = json.loads(line)
                worker = self._workers[told["id"]]
                if "pid" in told:
                    worker.pid = told["pid"]
                    worker.born.set()
                else:
                    worker.status = told["status"]
                    worker.gone.set()
                    del self._workers[told["id"]]
        for worker in list(self._workers.values()):
            worker.gone.set()


# -- the nursery -----------------------------------------------------------------------------------------------------


def _context(call: Call, task: Any = None) -> dict[str, Any]:
    """Return what a task sees of Airflow: the run, the try, its params."""
    at = datetime.fromisoformat(call.at) if call.at else None
    instance = SimpleNamespace(try_number=call.number, task_id=call.step, dag_id=f"polku_{call.source}", map_index=-1, task=task)
    return {"dag_run": SimpleNamespace(logical_date=at, run_after=at), "ti": instance, "params": call.params, "task": task}


def _operator(call: Call) -> Any:
    """Return the operator of a step, with the callbacks that its DAG gives it."""
    import polku_events
    import polku_migrate
    import polku_notify

    if call.step == "migrate":
        return polku_migrate.polku_migrate().get_task("migrate")
    dag = polku_notify.polku_notify() if call.step == "notify" else getattr(polku_events, f"polku_{call.source}")
    return dag.get_task(call.step)


def _perform(call: Call, operator: Any) -> Any:
    """Run a step as Airflow would."""
    from polku import tasks

    if call.step in {"load", "migrate"}:
        operator.resolve_template_files()
        return operator.execute(_context(call, operator))
    function = getattr(tasks, call.step).function
    if call.step == "notify":
        return function()
    arguments = [call.source] if call.step == "plan" else [call.source, call.given]
    return function(*arguments, **_context(call))


def _outcome(call: Call) -> dict[str, Any]:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    operator = _operator(call)
    try:
        return {"state": "success", "value": _perform(call, operator)}
    except AirflowSkipException as skip:
        return {"state": "skipped", "error": str(skip)}
    except AirflowFailException as error:
        _call_back(operator.on_failure_callback, call, error)
        return {"state": "failed", "error": str(error)}
    except Exception as error:  # noqa: BLE001 -- as Airflow does: whatever it is, the task is tried again
        traceback.print_exc()
        _call_back(operator.on_retry_callback, call, error)
        return {"state": "up_for_retry", "error": f"{type(error).__name__}: {error}"}


def _call_back(callbacks: Any, call: Call, error: Exception) -> None:
    """Tell of a failed try, as Airflow does."""
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        if callback:
            callback({**_context(call), "exception": error})


def _live(order: dict[str, Any]) -> None:
    """Be a worker: run the step, leave its result in a file, and end."""
    log = Path(order["log"])
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(order["env"])
    outcome = _outcome(Call(**order["call"]))
    sys.stdout.flush()
    sys.stderr.flush()
    new = log.with_suffix(".new")
    new.write_text(json.dumps(outcome, default=str))
    new.replace(log.with_suffix(".json"))
    os._exit(0)


def _warm_up() -> None:
    """Import all that a step imports, without talking to anybody: no server has been asked for yet."""
    import functools
    import gc

    import polku_events
    import polku_migrate  # noqa: F401
    import polku_notify  # noqa: F401
    import psycopg2  # noqa: F401
    import redshift_connector  # noqa: F401
    import zstandard  # noqa: F401
    from botocore.loaders import JSONFileLoader

    from polku import connections
    from polku.settings import Settings

    # botocore reads its descriptions of services anew in every session: half of what a step costs. They are read once here.
    JSONFileLoader.load_file = functools.lru_cache(maxsize=None)(JSONFileLoader.load_file)
    JSONFileLoader.__hash__, JSONFileLoader.__eq__ = (lambda _: 0), (lambda _, __: True)
    __import__("sentry_sdk")
    settings = Settings.from_env(os.environ)
    client = connections.s3(settings)
    connections.streams(settings)
    connections.slack(settings)
    connections.provide_redshift(settings)
    for source in settings.sources:
        operator = getattr(polku_events, f"polku_{source}").get_task("load")
        operator.get_db_hook()
    del client
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        del os.environ[name]  # they hold the addresses of now; each worker has its own
    gc.collect()
    gc.freeze()


def main(control: int) -> None:
    """Fork a worker for each order that comes in, tell of its birth and end; end with the other side."""
    _warm_up()
    channel = socket.socket(fileno=control)
    alarm, ring = socket.socketpair()
    for one in (alarm, ring):
        one.setblocking(False)  # noqa: FBT003 -- socket's signature
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ring.fileno())
    channel.sendall(b"{}\n")
    children: dict[int, int] = {}
    inbox = b""
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        selector.register(alarm, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if alarm in ready:
                alarm.recv(4096)
                _bury(children, channel)
            if channel in ready:
                data = channel.recv(1 << 20)
                if not data:
                    break
                *lines, inbox = (inbox + data).split(b"\n")
                for line in lines:
                    _bear(json.loads(line), children, channel, (alarm, ring))
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _bury(children: dict[int, int], channel: socket.socket) -> None:
    """Tell of the children that have ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        channel.sendall(json.dumps({"id": children.pop(pid), "status": status}).encode() + b"\n")


def _bear(order: dict[str, Any], children: dict[int, int], channel: socket.socket, bells: tuple[socket.socket, ...]) -> None:
    """Fork a worker."""
    pid = os.fork()
    if pid:
        children[pid] = order["id"]
        channel.sendall(json.dumps({"id": order["id"], "pid": pid}).encode() + b"\n")
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for one in (channel, *bells):
        one.close()
    try:
        _live(order)
    finally:
        traceback.print_exc()
        os._exit(70)


if __name__ == "__main__":
    main(int(sys.argv[1]))
