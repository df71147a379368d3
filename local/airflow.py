"""
Airflow on loopback: its configuration, its services, and a client of its REST API.

Scheduler with LocalExecutor, DAG processor and API server run as in production, with the metadata in PostgreSQL.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[1]
USER = "polku"
SERVICES = ("api-server", "scheduler", "dag-processor")

_ARGUMENTS = {"scheduler": ("--skip-serve-logs",)}  # its log server would listen on all addresses; the API server reads the same folder


class Unreachable(Exception):
    """The REST API refused or did not answer; the message says what was asked and what came back."""


def configuration(home: Path, *, port: int, metadata: str, password: str) -> dict[str, str]:
    """
    Return Airflow's configuration as environment variables, and write the file of its user.

    Args:
        home: AIRFLOW_HOME; made if it is not there.
        port: Where the API server listens.
        metadata: The SQLAlchemy address of the metadata database.
        password: The password of ``USER``.
    """
    home.mkdir(parents=True, exist_ok=True)
    users = home / "users.json"
    users.write_text(json.dumps({USER: password}), encoding="utf-8")
    users.chmod(0o600)
    url = f"http://127.0.0.1:{port}"
    options: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": ROOT / "dags",
            "plugins_folder": ROOT / "plugins",
            "executor": "LocalExecutor",
            "load_examples": False,
            "dags_are_paused_at_creation": True,  # until polku_migrate has run
            "parallelism": 8,  # processes of the executor: they wait more than they work
            "execution_api_server_url": f"{url}/execution/",
            "hostname_callable": "socket.gethostname",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": users,
            "fernet_key": "",
            "min_serialized_dag_update_interval": 5,
        },
        "database": {"sql_alchemy_conn": metadata},
        "api": {"host": "127.0.0.1", "port": port, "base_url": url, "workers": 1, "secret_key": _kept(home / "secret_key")},
        "api_auth": {"jwt_secret": _kept(home / "jwt_secret")},
        "dag_processor": {"refresh_interval": 10, "min_file_process_interval": 20, "bundle_refresh_check_interval": 2},
        "scheduler": {"scheduler_idle_sleep_time": 0.5, "job_heartbeat_sec": 2},
        "logging": {
            "base_log_folder": home / "logs",
            "dag_processor_child_process_log_directory": home / "logs" / "dag_processor",
            "colored_console_log": False,
        },
    }
    env = {f"AIRFLOW__{section}__{key}".upper(): str(value) for section, keys in options.items() for key, value in keys.items()}
    return {"AIRFLOW_HOME": str(home), "NO_PROXY": "127.0.0.1,localhost", **env}


def arguments(service: str) -> list[str]:
    """Return the command line of a service, after ``python -m airflow``."""
    return [service, *_ARGUMENTS.get(service, ())]


class Airflow:
    """
    A client of the REST API.

    Args:
        url: The API server's address.
        user: The user's name.
        password: The user's password.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._user = user
        self._password = password
        self._token = ""
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def healthy(self) -> dict[str, bool]:
        """Return which of API server, database, scheduler and DAG processor are well."""
        try:
            answer = self._send("GET", "/api/v2/monitor/health", None, {})
        except Unreachable:
            return {"api-server": False}
        parts = {"metadatabase": "database", "scheduler": "scheduler", "dag_processor": "dag-processor"}
        return {"api-server": True, **{name: (answer.get(part) or {}).get("status") == "healthy" for part, name in parts.items()}}

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Return the answer to one request below ``/api/v2``; raises Unreachable where it is refused."""
        if not self._token:
            self._token = self._send("POST", "/auth/token", {"username": self._user, "password": self._password}, {})["access_token"]
        full = f"/api/v2{path}" + (f"?{urllib.parse.urlencode(query, doseq=True)}" if query else "")
        return self._send(method, full, body, {"Authorization": f"Bearer {self._token}"})

    def dags(self) -> dict[str, str]:
        """Return the DAGs that were found, each with the name of its file."""
        return {dag["dag_id"]: Path(dag["fileloc"]).name for dag in self.call("GET", "/dags", limit=100)["dags"]}

    def import_errors(self) -> list[str]:
        """Return what kept DAG files from being imported."""
        return [f"{e['filename']}: {e['stack_trace'].strip().splitlines()[-1]}" for e in self.call("GET", "/importErrors")["import_errors"]]

    def unpause(self, dag: str) -> None:
        """Let the scheduler run a DAG."""
        self.call("PATCH", f"/dags/{dag}", {"is_paused": False}, update_mask="is_paused")

    def trigger(self, dag: str, conf: Mapping[str, object] | None = None) -> str:
        """Start a run of a DAG; return its id."""
        return str(self.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": dict(conf or {})})["dag_run_id"])

    def state(self, dag: str, run: str) -> str:
        """Return the state of a run."""
        return str(self.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"])

    def runs(self, dag: str, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest runs of a DAG, the newest first."""
        found: list[dict[str, Any]] = self.call("GET", f"/dags/{dag}/dagRuns", limit=limit, order_by="-run_after")["dag_runs"]
        return found

    def wait(self, dag: str, run: str, seconds: float) -> str:
        """Wait until a run has ended, and return its state; raises Unreachable where it takes longer."""
        deadline = time.monotonic() + seconds
        while (state := self.state(dag, run)) not in {"success", "failed"}:
            if time.monotonic() > deadline:
                raise Unreachable(f"the run {run} of {dag} was still {state} after {seconds:.0f} s")
            time.sleep(0.3)
        return state

    def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(  # noqa: S310 -- an address of loopback
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        try:
            with self._direct.open(request, timeout=30) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                raise Unreachable(f"{method} {path}: {error.code} {error.read().decode(errors='replace')[:300]}") from error
        except (OSError, ValueError) as error:
            raise Unreachable(f"{method} {path}: {error}") from error


def task_error(home: Path, dag: str) -> str:
    """Return the last error in the task logs of a DAG, as the log of a task holds it."""
    found = f"see {home / 'logs'}"
    for log in sorted((home / "logs" / f"dag_id={dag}").rglob("*.log"), key=lambda path: path.stat().st_mtime):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, LookupError, TypeError):
                error = json.loads(line)["error_detail"][0]
                found = f"{error['exc_type']}: {error['exc_value']} ({log})"
    return found


def _kept(path: Path) -> str:
    """Return the secret in this file, made at the first time."""
    if not path.exists():
        path.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        path.chmod(0o600)
    return path.read_text(encoding="utf-8")
