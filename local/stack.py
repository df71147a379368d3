"""
The local stack: ``python -m local.stack up|down|status``.

A supervisor process starts the servers and Airflow, migrates the warehouse, watches over them, and ends them all when it
is told to (``down``), when its owner is gone (``make demo``, tests), or when one of them fails to start. An address that
is in the environment already is used instead of starting that server.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

from local import airflow
from local.processes import LOOPBACK, Failed, Group, free_ports
from polku.errors import SettingsError
from polku.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".local"
SHARDS = 2
REDSHIFT_PASSWORD = "polku-local-Passw0rd"  # noqa: S105 -- the stand-in's
PORTS = {"airflow": 8080, "api": 8081, "slack": 8082, "sentry": 8083, "aws": 4566, "kinesis": 4567, "redshift": 5439}
PATIENCE = 180.0
"""Seconds that one step of the start may take; a machine under load is slow."""

# What stands in the environment for which server.
_GIVEN = {
    "aws": ("AWS_ENDPOINT_URL",),
    "kinesis": ("AWS_ENDPOINT_URL_KINESIS",),
    "redshift": ("REDSHIFT_HOST",),
    "slack": ("SLACK_API_URL", "SLACK_TOKEN"),
    "sentry": ("SENTRY_DSN",),
    "api": ("POLKU_API_URL",),
}
# What stack.env holds, in this order.
_LISTED = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"),
    *("REDSHIFT_HOST", "REDSHIFT_PORT", "REDSHIFT_DB", "REDSHIFT_USER", "REDSHIFT_PWD", "REDSHIFT_SSLMODE", "REDSHIFT_IAM_ROLE"),
    *("SLACK_TOKEN", "SLACK_CHANNEL", "SLACK_API_URL", "SENTRY_DSN"),
    *("POLKU_STAGE", "POLKU_BUCKET", "POLKU_API_URL", "POLKU_API_KEY"),
    *("AIRFLOW_URL", "AIRFLOW_USER", "AIRFLOW_PASSWORD"),
)


class NotUp(Exception):
    """The stack could not be started, or is not there; the message says why."""


@dataclass(frozen=True)
class Place:
    """
    Where a stack keeps what it knows.

    Args:
        folder: ``.local`` of the repository, or any other: each is a stack of its own.
    """

    folder: Path = FOLDER

    @property
    def env_file(self) -> Path:
        """What a shell can source: addresses and credentials."""
        return self.folder / "stack.env"

    @property
    def airflow_file(self) -> Path:
        """What a shell can source besides, to call the ``airflow`` command."""
        return self.folder / "airflow.env"

    @property
    def state_file(self) -> Path:
        """The supervisor's process id, the services' and whether all is healthy."""
        return self.folder / "stack.json"

    @property
    def lock_file(self) -> Path:
        """Locked as long as a supervisor lives."""
        return self.folder / "stack.lock"

    @property
    def logs(self) -> Path:
        """One file for each process; the supervisor's own is ``stack.log``."""
        return self.folder / "logs"

    @property
    def log(self) -> Path:
        """What the supervisor says."""
        return self.logs / "stack.log"

    def is_supervised(self) -> bool:
        """Tell whether a supervisor lives here."""
        if not self.lock_file.exists():
            return False
        with self.lock_file.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def state(self) -> dict[str, Any]:
        """Return what the supervisor wrote last."""
        try:
            found: dict[str, Any] = json.loads(self.state_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def env(self) -> dict[str, str]:
        """Return what ``stack.env`` holds."""
        return _read_env(self.env_file)

    def airflow(self) -> airflow.Airflow:
        """Return a client of the stack's Airflow."""
        env = self.env()
        return airflow.Airflow(env["AIRFLOW_URL"], env["AIRFLOW_USER"], env["AIRFLOW_PASSWORD"])


# -- commands ----------------------------------------------------------------------------------------


def up(place: Place, *, say: Callable[[str], None] = print) -> dict[str, str]:
    """
    Start the stack, or what has ended of it, or join one that is starting; return its environment once all is healthy.

    Args:
        place: Where it keeps its state.
        say: Told of each step.

    Raises:
        NotUp: It could not be started; everything that had been is ended again.
    """
    if place.is_supervised():
        if status(place)[1]:
            say("The stack is already up.")
            return place.env()
        if place.state().get("ready"):
            _mend(place, say)
            return place.env()
        say("The stack is starting already.")
        _follow(place, None, say)
        return place.env()
    child = _launch(place)
    try:
        _follow(place, child, say)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    return place.env()


def down(place: Place, *, say: Callable[[str], None] = print) -> None:
    """End the stack and wait until all of it is gone."""
    pid = place.state().get("pid")
    if not place.is_supervised() or not pid:
        say("The stack is not up.")
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(pid)
        supervisor.terminate()
        try:
            supervisor.wait(PATIENCE)
        except psutil.TimeoutExpired:
            raise NotUp(f"the supervisor {pid} did not end; see {place.logs}") from None
    say("The stack is down.")


@contextlib.contextmanager
def running(place: Place, *, say: Callable[[str], None] = print) -> Iterator[dict[str, str]]:
    """
    Have a stack for as long as the block runs, or this process lives.

    Raises:
        NotUp: It could not be started.
    """
    reading, writing = os.pipe()
    child = _launch(place, owner=reading)
    try:
        _follow(place, child, say)
        yield place.env()
    finally:
        os.close(writing)  # the supervisor sees this end, however it comes
        os.close(reading)
        child.wait()


def addresses(env: Mapping[str, str], place: Place) -> str:
    """Return what a person wants to know about a stack that is up."""
    slack = urlsplit(env["SLACK_API_URL"])
    rows = [
        ("Airflow", f"{env['AIRFLOW_URL']}   user {env['AIRFLOW_USER']}, password {env['AIRFLOW_PASSWORD']}"),
        ("Front door", f"{env['POLKU_API_URL']}/server and /client   key {env.get('POLKU_API_KEY', '')}"),
        ("Slack", f"{slack.scheme}://{slack.netloc}"),
        ("Sentry", env["SENTRY_DSN"]),
        (
            "AWS",
            " and ".join(env[name] for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS") if env.get(name))
            + f"   bucket {env['POLKU_BUCKET']}",
        ),
        ("Redshift", f"{env['REDSHIFT_HOST']}:{env['REDSHIFT_PORT']}   database {env['REDSHIFT_DB']}, user {env['REDSHIFT_USER']}"),
    ]
    shown = os.path.relpath(place.env_file)
    return "\n".join(f"{name:11} {text}" for name, text in rows) + f"\nIn a shell: set -a; . {shown}; set +a"


def status(place: Place) -> tuple[str, bool]:
    """Return what is running, as text, and whether all of it is."""
    state = place.state()
    if not place.is_supervised():
        return "The stack is not up.", False
    services = state.get("services", {})
    alive = {name: _alive(pid) for name, pid in services.items()}
    lines = [f"{name:14} {'running' if alive[name] else 'ENDED'}   pid {pid}   {place.logs / name}.log" for name, pid in services.items()]
    if not state.get("ready"):
        lines.append("The stack is still starting.")
    return "\n".join(lines), bool(state.get("ready")) and all(alive.values())


def given(environ: Mapping[str, str], previous: Mapping[str, str]) -> dict[str, str]:
    """
    Return the addresses in the environment that win over a server of ours, by variable.

    What an earlier stack wrote into ``stack.env`` is no such address: a shell that sourced it may start the next one.
    """
    names = [name for names in _GIVEN.values() for name in names]
    return {name: environ[name] for name in names if environ.get(name) and environ[name] != previous.get(name)}


# -- the supervisor ----------------------------------------------------------------------------------


class _Stop(BaseException):
    """A signal, or the owner's end: leave everything and clean up."""


def supervise(place: Place, owner: int | None) -> int:
    """Start everything, watch over it until told to stop, and end it. Runs as a process of its own; speaks to its log."""
    place.folder.mkdir(parents=True, exist_ok=True)
    with place.lock_file.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another supervisor was faster.")
            return 1
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _stop)
        wanted = threading.Event()
        signal.signal(signal.SIGUSR1, lambda *_: wanted.set())
        code = 0
        with Group(place.logs) as group:
            state: dict[str, Any] = {"pid": os.getpid(), "ready": False, "services": {}}
            _write(place.state_file, json.dumps(state))
            try:
                env = _start(place, group, owner)
                state |= {"ready": True, "env": str(place.env_file), "services": group.pids()}
                _write(place.state_file, json.dumps(state))
                print(f"Ready.\n{addresses(env, place)}")
                while True:
                    _watch(group, owner, wanted)
                    _start_again(group, env)
                    state["services"] = group.pids()
                    _write(place.state_file, json.dumps(state))
            except _Stop:
                print("Stopping.")
            except (Failed, SettingsError, airflow.Unreachable) as error:
                print(f"Failed: {error}")
                code = 1
            finally:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # what the killed left behind has become ours, and nobody else's to bury
                pass
        place.state_file.unlink(missing_ok=True)
        print("Everything has ended.")
    return code


def _start(place: Place, group: Group, owner: int | None) -> dict[str, str]:
    """Start servers, then Airflow, then migrate; return the environment of all."""
    began = time.monotonic()
    theirs = given(os.environ, place.env())
    # A stack that somebody owns lives for minutes: it leaves the default ports to the one that stays.
    env, servers = _plan(place, theirs, PORTS if owner is None else dict.fromkeys(PORTS, 0))
    base = {**os.environ, **env, "PYTHONPATH": _python_path(os.environ), "PYTHONUNBUFFERED": "1", "REDSHIFT_PASSWORD": REDSHIFT_PASSWORD}
    for name, command in servers.items():
        group.start(name, [sys.executable, "-m", *command], base, ROOT)
    print(f"Starting {', '.join(servers)}" + (f"; from the environment: {', '.join(theirs)}" if theirs else ""))
    group.start("metadata", [sys.executable, "-m", "local.metadata", "--data", str(place.folder / "metadata")], base, ROOT)
    urls = group.wait_for_urls([*servers, "metadata"], PATIENCE)
    if "sentry" in urls:
        env["SENTRY_DSN"] = urls["sentry"]
    _make_buffers(env)
    print(f"Servers are ready after {time.monotonic() - began:.0f} s; preparing Airflow's database")

    port = urlsplit(env["AIRFLOW_URL"]).port or 0
    password = env["AIRFLOW_PASSWORD"]
    metadata = urls["metadata"].replace("postgresql://", "postgresql+psycopg2://")
    configured = airflow.configuration(place.folder / "airflow", port=port, metadata=metadata, password=password)
    configured["PYTHONPATH"] = _python_path(os.environ)
    _write(place.env_file, _shell({name: env[name] for name in _LISTED if name in env}))
    _write(place.airflow_file, _shell(configured))
    base = {**base, **env, **configured}
    group.start("db-migrate", [sys.executable, "-m", "airflow", "db", "migrate"], base, ROOT)
    group.wait_for_end("db-migrate", PATIENCE)
    print(f"Starting Airflow after {time.monotonic() - began:.0f} s")
    for service in airflow.SERVICES:
        group.start(service, [sys.executable, "-m", "airflow", *airflow.arguments(service)], base, ROOT)
    client = airflow.Airflow(env["AIRFLOW_URL"], env["AIRFLOW_USER"], password)
    _wait_for(group, owner, "Airflow to be healthy", lambda: all(client.healthy().values()))
    files = {path.name for path in (ROOT / "dags").glob("*.py")}
    _wait_for(group, owner, "a DAG in each file of dags/", lambda: _found(client, files))
    print(f"Airflow is healthy after {time.monotonic() - began:.0f} s; migrating the warehouse")
    client.unpause("polku_migrate")
    if client.wait("polku_migrate", client.trigger("polku_migrate"), PATIENCE) != "success":
        raise Failed(f"polku_migrate failed: {airflow.task_error(place.folder / 'airflow', 'polku_migrate')}")
    for dag in client.dags():
        client.unpause(dag)
    print(f"All is well after {time.monotonic() - began:.0f} s")
    return env


def _plan(place: Place, theirs: Mapping[str, str], ports: Mapping[str, int] = PORTS) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the environment as it will be, and the commands (after ``python -m``) of the servers that are to be started."""
    ours = {server for server, names in _GIVEN.items() if not any(name in theirs for name in names)}
    if importlib.util.find_spec("local.kinesis") is None or "aws" not in ours:
        ours.discard("kinesis")
    port = free_ports(ports)
    url = {name: f"http://{LOOPBACK}:{number}" for name, number in port.items()}
    stage = os.environ.get("POLKU_STAGE") or "DEV"
    region = os.environ.get("AWS_DEFAULT_REGION") or "eu-west-1"
    env = {
        "AWS_DEFAULT_REGION": region,
        "HUMILIS_AWS_REGION": region,
        "POLKU_STAGE": stage,
        "POLKU_BUCKET": os.environ.get("POLKU_BUCKET") or f"polku-{stage.lower()}",
    }
    env |= {"AIRFLOW_USER": airflow.USER, "AIRFLOW_PASSWORD": _password(place), "AIRFLOW_URL": url["airflow"]}
    env |= {"SLACK_CHANNEL": "polku", "SLACK_API_URL": "https://slack.com/api/"}
    if "aws" in ours:
        env |= {"AWS_ENDPOINT_URL": url["aws"], "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    if "kinesis" in ours:
        env["AWS_ENDPOINT_URL_KINESIS"] = url["kinesis"]
    if "redshift" in ours:
        env |= {"REDSHIFT_HOST": LOOPBACK, "REDSHIFT_PORT": str(port["redshift"]), "REDSHIFT_DB": "polku", "REDSHIFT_USER": "polku"}
        env |= {
            "REDSHIFT_PWD": REDSHIFT_PASSWORD,
            "REDSHIFT_SSLMODE": "disable",
            "REDSHIFT_IAM_ROLE": "arn:aws:iam::123456789012:role/polku-redshift",
        }
    if "slack" in ours:
        env |= {"SLACK_TOKEN": "xoxb-local", "SLACK_API_URL": f"{url['slack']}/api/"}
    if "api" in ours:
        env |= {"POLKU_API_URL": url["api"], "POLKU_API_KEY": "polku-local"}
    passed_on = {name: os.environ[name] for name in _LISTED if os.environ.get(name) and name not in env}
    env = {**env, **passed_on, **theirs}

    settings = Settings.from_env({**os.environ, **env})
    streams = [(source, found.stream) for source, found in settings.sources.items() if found.stream]
    kinesis = env.get("AWS_ENDPOINT_URL_KINESIS") or env.get("AWS_ENDPOINT_URL", "")
    commands = {
        "aws": ["local.aws", "--port", str(port["aws"]), "--region", region],
        "kinesis": ["local.kinesis", "--port", str(port["kinesis"]), "--region", region],
        "redshift": [
            *("local.redshift", "--port", str(port["redshift"]), "--data", str(place.folder / "redshift")),
            *("--s3-endpoint", env.get("AWS_ENDPOINT_URL", "")),
        ],
        "slack": ["local.slack", "--port", str(port["slack"]), "--token", "xoxb-local", "--channel", env["SLACK_CHANNEL"]],
        "sentry": ["local.sentry", "--port", str(port["sentry"])],
        "api": [
            *("local.api", "--port", str(port["api"]), "--kinesis-url", kinesis, "--region", region, "--key", env.get("POLKU_API_KEY", "")),
            *(part for source, stream in streams for part in ("--stream", f"{source}={stream}")),
        ],
    }
    return env, {name: command for name, command in commands.items() if name in ours}


def _make_buffers(env: Mapping[str, str]) -> None:
    """Make bucket and streams that are not there yet."""
    import boto3

    settings = Settings.from_env({**os.environ, **env})
    session = boto3.Session(env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY"), region_name=settings.region)
    s3 = session.client("s3", endpoint_url=env.get("AWS_ENDPOINT_URL"))
    kinesis = session.client("kinesis", endpoint_url=env.get("AWS_ENDPOINT_URL_KINESIS") or env.get("AWS_ENDPOINT_URL"))
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
        if settings.region == "us-east-1":  # the one region that is not named
            s3.create_bucket(Bucket=settings.bucket)
        else:
            s3.create_bucket(Bucket=settings.bucket, CreateBucketConfiguration={"LocationConstraint": settings.region})  # type: ignore[typeddict-item]
    streams = {source.stream for source in settings.sources.values() if source.stream}
    for stream in streams:
        with contextlib.suppress(kinesis.exceptions.ResourceInUseException):
            kinesis.create_stream(StreamName=stream, ShardCount=SHARDS)
    for stream in streams:
        kinesis.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def _found(client: airflow.Airflow, files: set[str]) -> bool:
    """Tell whether each of these files has given a DAG; raises Failed where one cannot be imported."""
    if errors := client.import_errors():
        raise Failed("Airflow cannot import the DAGs:\n" + "\n".join(errors))
    return files <= set(client.dags().values())


def _wait_for(group: Group, owner: int | None, what: str, done: Callable[[], bool]) -> None:
    """Wait for a condition; raises Failed where it takes too long or a process ends meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        group.check()
        _look_at(owner)
        if time.monotonic() > deadline:
            raise Failed(f"gave up waiting for {what} after {PATIENCE:.0f} s; see {group.logs}")
        time.sleep(0.3)


def _watch(group: Group, owner: int | None, wanted: threading.Event) -> None:
    """Wait for the end of this process's errand, and tell of processes that end before; return where they are wanted again."""
    told: set[str] = set()
    wanted.clear()
    while not wanted.is_set():
        for process in list(group.processes.values()):
            if process.ended and process.name not in told:
                told.add(process.name)
                print(f"{process.name} has ended with {process.popen.returncode}. The end of {process.log}:\n{process.tail()}")
        _look_at(owner)
        time.sleep(0.5)


def _start_again(group: Group, env: Mapping[str, str]) -> None:
    """Start what has ended, as it was started."""
    ended = [process for process in group.processes.values() if process.ended]
    for process in ended:
        print(f"Starting {process.name} again")
        process.start()
    names = {process.name for process in ended}
    group.wait_for_urls(names.difference(airflow.SERVICES), PATIENCE)
    if names & {"aws", "kinesis"}:
        print("What the buckets and streams held is gone: the local AWS keeps it in memory")
        _make_buffers(env)


def _mend(place: Place, say: Callable[[str], None]) -> None:
    """Have the supervisor start what has ended, and wait until all is there; raises NotUp where it does not come to that."""
    ended = [name for name, pid in place.state().get("services", {}).items() if not _alive(pid)]
    if "metadata" in ended:  # it would come back at another address than Airflow knows
        raise NotUp(f"Airflow's database has ended; see {place.logs}. make down, then make up, begins anew with what is kept.")
    say(f"Starting what has ended: {', '.join(ended)}")
    os.kill(place.state()["pid"], signal.SIGUSR1)
    deadline = time.monotonic() + PATIENCE
    while not (status(place)[1] and all(place.airflow().healthy().values())):
        if not place.is_supervised() or time.monotonic() > deadline:
            raise NotUp(f"{', '.join(ended)} could not be started again; see {place.logs}. make down, then make up, begins anew.")
        time.sleep(0.3)


def _look_at(owner: int | None) -> None:
    """Stop where the other end of the owner's pipe is closed."""
    if owner is not None and select.select([owner], [], [], 0)[0]:
        raise _Stop


def _stop(*_: object) -> None:
    raise _Stop


# -- small things ------------------------------------------------------------------------------------


def _launch(place: Place, owner: int | None = None) -> subprocess.Popen[bytes]:
    """
    Start the supervisor; its words go to its log.

    Args:
        place: Where the stack keeps its state.
        owner: The reading end of a pipe: the stack ends when the other end is closed. None: it stays until it is told.
    """
    place.logs.mkdir(parents=True, exist_ok=True)
    place.state_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "local.stack", "--folder", str(place.folder), "supervise"]
    with place.log.open("wb") as output:
        return subprocess.Popen(
            command + ([] if owner is None else ["--owner", str(owner)]),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": _python_path(os.environ), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=() if owner is None else (owner,),
        )


def _follow(place: Place, child: subprocess.Popen[bytes] | None, say: Callable[[str], None]) -> None:
    """Pass the supervisor's words on until the stack is ready; raises NotUp where it fails."""
    position = 0
    rest = ""
    while True:
        ready = bool(place.state().get("ready"))
        ended = child.poll() is not None if child else not place.is_supervised()
        with place.log.open(encoding="utf-8", errors="replace") as file:
            file.seek(position)
            rest += file.read()
            position = file.tell()
        *lines, rest = rest.split("\n")
        for line in lines:
            say(line)
        if ended:
            raise NotUp(f"the stack did not start; see {place.logs}")
        if ready:
            return
        time.sleep(0.2)


def _password(place: Place) -> str:
    """Return the password of Airflow's user: the one of the last time, or a new one."""
    return place.env().get("AIRFLOW_PASSWORD") or secrets.token_urlsafe(9)


def _python_path(environ: Mapping[str, str]) -> str:
    """Return PYTHONPATH with the repository and its plugins in front."""
    paths = [str(ROOT), str(ROOT / "plugins"), *environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(path for path in paths if path))


def _shell(env: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items())


def _read_env(path: Path) -> dict[str, str]:
    """Return the variables of a file that ``_shell`` wrote; none where it is not there."""
    if not path.exists():
        return {}
    pairs = [part.partition("=") for part in shlex.split(path.read_text(encoding="utf-8"))]
    return {name: value for name, _, value in pairs}


def _write(path: Path, text: str) -> None:
    """Replace a file at once, readable for its owner alone."""
    new = path.with_suffix(path.suffix + ".new")
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m local.stack", description="The local stack.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where it keeps its state; each folder is a stack of its own")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start it, wait until all is healthy, print the addresses")
    commands.add_parser("down", help="end it")
    commands.add_parser("status", help="say what is running")
    commands.add_parser("supervise").add_argument("--owner", type=int)
    chosen = parser.parse_args(argv)
    place = Place(chosen.folder.resolve())
    try:
        if chosen.command == "up":
            already = place.is_supervised() and bool(place.state().get("ready"))
            env = up(place)
            if already:
                print(addresses(env, place))
        elif chosen.command == "down":
            down(place)
        elif chosen.command == "status":
            text, well = status(place)
            print(text)
            return 0 if well else 1
        else:
            return supervise(place, chosen.owner)
    except NotUp as error:
        print(f"{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything has ended.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
