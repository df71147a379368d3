"""The local Redshift: a listener in front of an embedded PostgreSQL, one thread a connection."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import socket
import struct
import threading
from importlib import resources
from typing import TYPE_CHECKING, Any

from . import wire
from .faults import Fault, FaultKind, Faults
from .postgres import Postgres
from .s3 import S3
from .session import Dropped, Services, Session
from .tls import Authority

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_LOGIN_SECONDS = 60
_ROLE_SETTINGS = {
    "default_transaction_isolation": "repeatable read",  # the nearest to Redshift's snapshot isolation
    "standard_conforming_strings": "off",  # a backslash in a string is an escape, as in PostgreSQL 8
    "backslash_quote": "on",
    "escape_string_warning": "off",
    "timezone": "UTC",
    "search_path": '"$user", public',
    "client_min_messages": "notice",
}


class RedshiftServer:
    """
    A server that a Redshift client takes for Redshift.

    Args:
        port: On loopback; 0 takes a free one.
        data: Folder that keeps its databases from one start to the next; None keeps nothing.
        s3_endpoint: Where COPY reads; None asks the AWS environment.
        user: The one user, who may do everything that Redshift's admin user may.
        password: Checked at login.
        database: The one database of the Redshift side.
    """

    def __init__(
        self, *, port: int = 0, data: Path | None = None, s3_endpoint: str | None = None,
        user: str = "polku", password: str = "polku-local-Passw0rd", database: str = "polku",  # noqa: S107
    ) -> None:  # fmt: skip
        self.host, self.port = "127.0.0.1", port
        self.user, self.password, self.database = user, password, database
        self.faults = Faults()
        self._postgres = Postgres(data)
        self._s3 = S3(s3_endpoint)
        self._listener: socket.socket | None = None
        self._threads: set[threading.Thread] = set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._admin: Any = None
        self._supers: set[str] = set()
        self._closing = threading.Event()

    def __enter__(self) -> RedshiftServer:
        try:
            self._postgres.start()
            self._prepare()
            self._authority = Authority(self._postgres.folder / "tls")
            self._tls = self._authority.context()
            self._listener = socket.create_server((self.host, self.port), backlog=128)
            self.port = self._listener.getsockname()[1]
            self._acceptor = threading.Thread(target=self._accept, name="redshift-accept", daemon=True)
            self._acceptor.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and PostgreSQL; safe to call twice."""
        self._closing.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._acceptor.join(10)
            self._listener = None
        with self._lock:
            open_now, threads = list(self._sockets), list(self._threads)
        for side in open_now:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        self._postgres.stop()

    @property
    def url(self) -> str:
        """Address for psql and libpq, with the password."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority that signed the server's."""
        return self._authority.file

    @property
    def ca_folder(self) -> Path:
        """A folder for OpenSSL's SSL_CERT_DIR, in which it finds the authority."""
        return self._authority.folder

    def postgres_dsn(self, database: str) -> str:
        """Return the address of a database of the PostgreSQL underneath, for those who want a plain one; made if it is not there."""
        if database == self.database:
            raise ValueError(f"{database} is the Redshift side's database; connect to it through {self.host}:{self.port}")
        return self._postgres.dsn(database)

    def fault(
        self, kind: FaultKind, statement: str = "", *, nth: int = 1, times: int = 1, message: str = "fault on demand", code: str = "XX000"
    ) -> Fault:
        """Ask for something to go wrong; see ``faults.Fault``. ``clear_faults`` ends it."""
        return self.faults.add(Fault(kind, statement, nth, times, message, code))

    def clear_faults(self) -> None:
        """Let everything go right again."""
        self.faults.clear()

    # -- the database

    def _prepare(self) -> None:
        """Make the Redshift side's database; one that another version of ``sql/`` has made is made anew."""
        from psycopg import sql

        layout = "layout " + hashlib.sha256("".join(_bootstrap_files()).encode()).hexdigest()[:16]

        with self._postgres.connect("postgres") as admin:
            found = admin.execute(
                "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", (self.database,)
            ).fetchone()
            there = found is not None and found[0] == layout
            if not there:
                name, user = sql.Identifier(self.database), sql.Identifier(self.user)
                admin.execute(sql.SQL("drop database if exists {}").format(name))
                if not admin.execute("select 1 from pg_roles where rolname = %s", (self.user,)).fetchone():
                    admin.execute(sql.SQL("create role {} login").format(user))
                for key, value in _ROLE_SETTINGS.items():
                    admin.execute(
                        sql.SQL("alter role {} set {} = {}").format(
                            user, sql.SQL(key), sql.SQL(value) if key == "search_path" else sql.Literal(value)
                        )
                    )
                admin.execute(sql.SQL("create database {} owner {}").format(name, user))
                with self._postgres.connect(self.database) as inside:
                    self._bootstrap(inside)
                admin.execute(sql.SQL("comment on database {} is {}").format(name, sql.Literal(layout)))
        self._admin = self._postgres.connect(self.database)
        found = self._admin.execute("select distinct attname from pg_attribute where atttypid = 4000 and attnum > 0 and not attisdropped")
        self._supers = {str(row[0]) for row in found.fetchall()}

    def _bootstrap(self, inside: Any) -> None:
        inside.execute("set allow_system_table_mods = on")
        inside.execute("set check_function_bodies = off")
        for text in _bootstrap_files():
            inside.execute(text)

    def _remember_load_error(self, row: dict[str, Any]) -> None:
        names = ", ".join(row)
        marks = ", ".join(f"%({name})s" for name in row)
        with self._lock:
            self._admin.execute(
                f"insert into stl_load_errors (userid, slice, tbl, starttime, session, query, is_partial, start_offset, {names}) "  # noqa: S608
                f"values (100, 0, 0, timezone('UTC', now()), 0, 0, 0, 0, {marks})",
                row,
            )

    # -- connections

    def _accept(self) -> None:
        listener = self._listener
        while listener is not None and not self._closing.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="redshift-session", daemon=True)
            with self._lock:
                self._threads.add(thread)
                self._sockets.add(client)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(_LOGIN_SECONDS)
            self._login(client)
        except (Dropped, OSError, wire.ProtocolError, struct.error, ValueError):
            pass
        finally:
            with contextlib.suppress(OSError):
                client.close()
            with self._lock:
                self._threads.discard(threading.current_thread())
                self._sockets.discard(client)

    def _login(self, client: socket.socket) -> None:
        fault = self.faults.on_connect()
        if fault and fault.kind == "refuse_connect":
            return
        if fault and fault.kind == "hang":
            client.settimeout(None)
            while client.recv(4096):
                pass
            return
        body = _read_startup(client)
        code = wire.int32(body)
        while code in (wire.SSL_REQUEST, wire.GSS_REQUEST):
            if code == wire.SSL_REQUEST:
                client.sendall(b"S")
                with self._lock:
                    self._sockets.discard(client)
                client = self._tls.wrap_socket(client, server_side=True)
                with self._lock:
                    self._sockets.add(client)
            else:
                client.sendall(b"N")
            body = _read_startup(client)
            code = wire.int32(body)
        try:
            if code == wire.CANCEL_REQUEST:
                self._cancel(body)
            elif code >> 16 == wire.PROTOCOL >> 16:
                self._converse(client, wire.startup_parameters(body[4:]), fault)
        finally:
            with self._lock:
                self._sockets.discard(client)
            with contextlib.suppress(OSError):
                client.close()

    def _cancel(self, body: bytes) -> None:
        with self._backend() as backend:
            backend.sendall(struct.pack("!i", len(body) + 4) + body)
            backend.recv(1)

    def _backend(self) -> socket.socket:
        backend = socket.socket(socket.AF_UNIX)
        backend.connect(self._postgres.socket_path)
        return backend

    def _converse(self, client: socket.socket, parameters: dict[str, str], fault: Fault | None) -> None:
        user, database = parameters.get("user", ""), parameters.get("database", "") or parameters.get("user", "")
        right = self._password_is_right(client, user)
        if fault and fault.kind == "too_many_connections":
            return _fail(client, "53300", f'too many connections for database "{database}"')
        if not right or user != self.user or (fault and fault.kind == "refuse_login"):
            return _fail(client, "28000", f'password authentication failed for user "{user}"')
        if database != self.database:
            return _fail(client, "3D000", f'database "{database}" does not exist')
        client.settimeout(None)
        name = parameters.get("application_name", "")
        kept = {"user": user, "database": database, "application_name": name[:60]}
        if parameters.get("client_encoding"):
            kept["client_encoding"] = parameters["client_encoding"]
        backend = self._backend()
        with self._lock:
            self._sockets.add(backend)
        try:
            Session(client, backend, Services(self._s3, self.faults, self._remember_load_error, self._supers), name).run(kept)
        finally:
            with self._lock:
                self._sockets.discard(backend)
        return None

    def _password_is_right(self, client: socket.socket, user: str) -> bool:
        salt = secrets.token_bytes(4)
        client.sendall(wire.message(b"R", struct.pack("!i", 5) + salt))
        answer = b""
        inbox = wire.Inbox()
        while True:
            data = client.recv(4096)
            if not data:
                raise Dropped
            inbox.feed(data)
            for kind, body in inbox:
                if kind == b"p":
                    answer = body.rstrip(b"\0")
                elif kind != b"H":  # redshift_connector sends a Flush after each message
                    raise wire.ProtocolError(f"message {kind!r} at login")
            if answer:
                break
        inner = hashlib.md5((self.password + user).encode(), usedforsecurity=False).hexdigest().encode()
        expected = b"md5" + hashlib.md5(inner + salt, usedforsecurity=False).hexdigest().encode()
        return hmac.compare_digest(answer, expected)


def _bootstrap_files() -> list[str]:
    folder = resources.files(__package__) / "sql"
    return [file.read_text(encoding="utf-8") for file in sorted(folder.iterdir(), key=lambda f: f.name) if file.name.endswith(".sql")]


def _read_startup(client: socket.socket) -> bytes:
    head = _read(client, 4)
    length = wire.int32(head)
    if not 8 <= length <= 10_000:  # noqa: PLR2004
        raise wire.ProtocolError(f"a start-up message of {length} bytes")
    return _read(client, length - 4)


def _read(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = client.recv(size - len(found))
        if not piece:
            raise Dropped
        found += piece
    return found


def _fail(client: socket.socket, code: str, message: str) -> None:
    client.sendall(wire.error({"S": "FATAL", "C": code, "M": message}))
