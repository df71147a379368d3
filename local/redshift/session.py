"""
One client's connection: its messages on their way to PostgreSQL and back.

The proxy holds no statement's result and decides as little as it can. A statement that is refused is sent on as one that PostgreSQL
cannot read: so PostgreSQL aborts the transaction and skips to the next Sync by its own rules, and only the text of its error is replaced.
A COPY from S3 is sent on as COPY FROM STDIN; when PostgreSQL asks for the rows, they come from the objects.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import wire
from .copy import CATALOG_QUERY, Load, is_fast, target_columns
from .dialect import Plan, plans, poison, wrapped_strings
from .errors import RedshiftError
from .load_errors import LoadFailed
from .messages import translated
from .tokens import literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .faults import Fault, Faults
    from .s3 import S3

_READ = 1 << 18
_FRAME = 1 << 18
_OWN = "redshift_own"
_OWN_COPY = "redshift_own_copy"
_SPECIAL = ("copy", "truncate", "table")
"""Kinds of plan that something of ours comes before or after."""

_NOTHING = "set local redshift.nothing = ''"


class Dropped(Exception):
    """The connection is over, by the client's wish, by its death or by a fault."""


class _Stopped(Exception):
    """PostgreSQL said something while it was given rows: it wants no more."""


@dataclass
class Step:
    """
    One answer that PostgreSQL owes us.

    Args:
        wants: The kinds of message that are this answer; "Z" ends a simple query or a Sync.
        plan: Of a statement that is being run.
        fault: What will go wrong with it.
        load: The COPY from S3 that it is.
        own: We asked, not the client: the answer is kept in ``got``.
        hidden: A ReadyForQuery that the client does not see.
        failed: PostgreSQL answered with an error, or skipped it after one.
    """

    wants: bytes
    plan: Plan | None = None
    fault: Fault | None = None
    load: Load | None = None
    own: bool = False
    hidden: bool = False
    failed: bool = False
    got: list[list[str | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Services:
    """What a session shares with the others."""

    s3: S3
    faults: Faults
    remember_load_error: Callable[[dict[str, Any]], None]
    supers: set[str]


class Session:
    """
    A client and its PostgreSQL backend.

    Args:
        client: The client's socket, logged in.
        backend: A fresh connection to PostgreSQL's socket.
        services: What it shares with the others.
        name: The client's application name.
    """

    def __init__(self, client: socket.socket, backend: socket.socket, services: Services, name: str = "") -> None:
        self._client, self._backend, self._services = client, backend, services
        self._modern = name.startswith(("psql", "pg_dump", "asyncpg"))
        self._from_client, self._from_backend = wire.Inbox(), wire.Inbox()
        self._out = bytearray()
        self._statements: dict[bytes, tuple[Plan, str]] = {}
        self._portals: dict[bytes, tuple[Plan, str]] = {}
        self._steps: deque[Step] = deque()
        self._refusals: dict[int, RedshiftError] = {}
        self._number = 0
        self._status = b"I"
        self._skipping = False
        self._load: Load | None = None
        self._load_error: RedshiftError | None = None

    # -- the loop

    def run(self, parameters: dict[str, str]) -> None:
        """Serve the client until one side ends."""
        try:
            self._steps.append(Step(b"Z"))
            self._backend.sendall(wire.startup(parameters))
            poller = select.poll()
            poller.register(self._client, select.POLLIN)
            poller.register(self._backend, select.POLLIN)
            client, backend = self._client.fileno(), self._backend.fileno()
            while True:
                waiting = self._pending()
                ready = {fd for fd, _ in poller.poll(0 if waiting else None)}
                if backend in ready:
                    self._read_backend()
                if client in ready or waiting:
                    self._read_client()
        except (Dropped, OSError, wire.ProtocolError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """End both connections; PostgreSQL rolls back what was open."""
        for side in (self._client, self._backend):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                side.close()

    def _pending(self) -> bool:
        return isinstance(self._client, ssl.SSLSocket) and self._client.pending() > 0

    def _read_client(self) -> None:
        data = self._client.recv(_READ)
        if not data:
            raise Dropped
        self._from_client.feed(data)
        for kind, body in self._from_client:
            self._on_client(kind, body)
        self._flush()

    def _read_backend(self) -> None:
        data = self._backend.recv(_READ)
        if not data:
            raise Dropped
        self._from_backend.feed(data)
        out = bytearray()
        for kind, body in self._from_backend:
            out += self._on_backend(kind, body)
        if out:
            self._client.sendall(out)

    def _send(self, data: bytes) -> None:
        self._out += data

    def _flush(self) -> None:
        data, self._out = memoryview(bytes(self._out)), bytearray()
        while data:
            readable, writable, _ = select.select([self._backend], [self._backend], [])
            if readable:  # it may wait for us to read before it reads on
                self._read_backend()
            if writable:
                with contextlib.suppress(BlockingIOError):
                    data = data[self._backend.send(data[:_FRAME], socket.MSG_DONTWAIT) :]

    def _until_done(self, step: Step) -> None:
        """Relay PostgreSQL's answers until this one has come, or never will."""
        self._flush()
        while any(waiting is step for waiting in self._steps):
            self._read_backend()

    # -- from the client

    def _on_client(self, kind: bytes, body: bytes) -> None:
        if kind == b"Q":
            self._on_query(wire.text(body)[0])
        elif kind == b"P":
            self._on_parse(body)
        elif kind == b"B":
            end = body.index(b"\0")
            portal, name = body[:end], body[end + 1 : body.index(b"\0", end + 1)]
            self._portals[portal] = self._statements.get(name, (Plan(""), ""))
            self._forward(kind, body, b"2")
        elif kind == b"E":
            self._on_execute(body)
        elif kind == b"S":
            self._skipping = False
            self._forward(kind, body, b"Z")
        elif kind == b"D":
            self._forward(kind, body, b"Tn")
        elif kind == b"C":
            self._forward(kind, body, b"3")
        elif kind == b"X":
            raise Dropped
        elif kind in b"Hdcf":
            self._send(wire.message(kind, body))
        else:
            raise wire.ProtocolError(f"message {kind!r}")

    def _forward(self, kind: bytes, body: bytes, wants: bytes, **step: Any) -> Step:
        made = Step(wants, **step)
        if not self._skipping:
            self._steps.append(made)
            self._send(wire.message(kind, body))
        return made

    def _poison(self, refusal: RedshiftError) -> str:
        self._number += 1
        self._refusals[self._number] = refusal
        return poison(self._number)

    def _fault(self, sql: str) -> Fault | None:
        fault = self._services.faults.on_statement(sql)
        if fault and fault.kind == "drop":
            raise Dropped
        return fault

    def _on_query(self, sql: str) -> None:
        found = plans(sql, self._services.supers)
        fault = self._fault(sql)
        if fault and fault.kind == "error":
            found, fault = [Plan("", refusal=RedshiftError(fault.message, fault.code))], None
        if len(found) == 1:
            self._run_simple(found[0], fault)
        elif any(plan.kind in (*_SPECIAL, "none") or plan.refusal or plan.strings_into for plan in found):
            self._on_several(found, fault)
        else:
            for plan in found:
                self._steps.append(Step(b"C", plan, fault if plan is found[-1] else None))
            if not found:
                self._steps.append(Step(b"I"))
            self._forward(b"Q", "; ".join(plan.sql for plan in found).encode() + b"\0", b"Z")

    def _run_simple(self, plan: Plan, fault: Fault | None, *, one_of_many: bool = False) -> bool:
        """Run one statement as a query of its own; return whether it came to its end, where that is waited for."""
        special = plan.kind in _SPECIAL
        if plan.strings_into:
            plan = self._with_strings(plan, simple=True)
        sql = self._poison(plan.refusal) if plan.refusal else plan.sql
        step = Step(b"C", plan, fault)
        if plan.kind == "copy":
            sql = self._prepare_copy(step, sql, simple=True)
        self._steps.append(step)
        mark = self._forward(b"Q", sql.encode() + b"\0", b"Z", hidden=special or one_of_many)
        if special or one_of_many:
            self._until_done(mark)
            if special and not step.failed:
                self._run_after(step, simple=True)
            if not one_of_many:
                self._client.sendall(wire.message(b"Z", self._status))
        return not step.failed

    def _on_several(self, found: list[Plan], fault: Fault | None) -> None:
        """Run the statements of one message one by one, in the transaction that PostgreSQL would have put around them all."""
        inside = self._status != b"I"
        opened = False
        for plan in found:
            if plan.kind == "begin" and opened:  # it takes over the transaction that is there
                opened, inside = False, True
                plan = replace(plan, sql=_NOTHING, tag="BEGIN")  # noqa: PLW2901
            elif plan.kind == "begin":
                inside = True
            elif not inside and not opened:
                self._own_query("begin")
                opened = True
            done = self._run_simple(plan, fault if plan is found[-1] else None, one_of_many=True)
            if plan.kind in ("end", "truncate"):
                inside = opened = False
            if not done:
                break
        if opened:
            self._own_query("rollback" if self._status == b"E" else "commit")
        self._client.sendall(wire.message(b"Z", self._status))

    def _on_parse(self, body: bytes) -> None:
        end = body.index(b"\0")
        name = body[:end]
        sql, at = wire.text(body, end + 1)
        found = plans(sql, self._services.supers)
        if len(found) > 1:
            plan = Plan("", refusal=RedshiftError("cannot insert multiple commands into a prepared statement", "42601"))
        else:
            plan = found[0] if found else Plan("")
        if plan.strings_into and not self._skipping:
            self._settle()
            plan = plan if self._skipping else self._with_strings(plan, simple=False)
        text = self._poison(plan.refusal) if plan.refusal else plan.sql
        self._statements[name] = (plan, sql)
        self._forward(b"P", name + b"\0" + text.encode() + b"\0" + body[at:], b"1")

    def _on_execute(self, body: bytes) -> None:
        plan, sql = self._portals.get(body[: body.index(b"\0")], (Plan(""), ""))
        fault = self._fault(sql)
        if fault and fault.kind == "error":
            text = self._poison(RedshiftError(fault.message, fault.code))
            self._forward(b"P", b"\0" + text.encode() + b"\0\0\0", b"1")
            return
        step = Step(b"CIs", plan, fault)
        if plan.kind in _SPECIAL:
            self._settle()
            if self._skipping:
                return
            if plan.kind == "copy":
                text = self._prepare_copy(step, plan.sql, simple=False)
                if text != plan.sql:  # only now are the columns known: it runs in a portal of ours
                    self._steps.extend([Step(b"3", own=True), Step(b"1", own=True), Step(b"2", own=True)])
                    self._send(wire.prepared(_OWN_COPY, text))
                    body = _OWN_COPY.encode() + b"\0\0\0\0\0"
        if self._skipping:
            return
        self._steps.append(step)
        self._send(wire.message(b"E", body))
        if plan.kind in _SPECIAL:
            self._send(wire.message(b"H"))
            self._until_done(step)
            if not step.failed:
                self._run_after(step, simple=False)

    def _settle(self) -> None:
        """Wait for what PostgreSQL owes us, so that we know whether it skips."""
        self._send(wire.message(b"H"))
        self._flush()
        while self._steps:
            self._read_backend()

    # -- statements of our own

    def _own_query(self, sql: str) -> None:
        self._steps.append(Step(b"C", own=True))
        self._until_done(self._forward(b"Q", sql.encode() + b"\0", b"Z", own=True, hidden=True))

    def _own_rows(self, sql: str, *, simple: bool) -> list[list[str | None]]:
        """Run a statement of our own where the client's next one will run, and return its rows; none where it fails."""
        rows = Step(b"C", own=True)
        last = Step(b"3", own=True)
        self._steps.extend([Step(b"1", own=True), Step(b"2", own=True), rows, Step(b"3", own=True), last])
        self._send(wire.run_named(_OWN, sql))
        if simple:
            last = self._forward(b"S", b"", b"Z", own=True, hidden=True)
        else:
            self._send(wire.message(b"H"))
        self._until_done(last)
        return rows.got

    def _with_strings(self, plan: Plan, *, simple: bool) -> Plan:
        """Look up which columns are SUPER: a string for one is a string in it."""
        if self._status == b"E":
            return plan
        rows = self._own_rows(CATALOG_QUERY.format(name=literal(plan.strings_into)), simple=simple)
        columns = [(str(row[0]), str(row[1])) for row in rows]
        if not any(kind == "super" for _, kind in columns):
            return plan
        return replace(plan, sql=wrapped_strings(plan.sql, columns))

    def _run_after(self, step: Step, *, simple: bool) -> None:
        plan = step.plan
        if plan is not None and plan.kind == "truncate" and self._status == b"T":
            self._own_rows("commit", simple=simple)
        for sql in plan.after if plan is not None else ():
            self._own_rows(sql, simple=simple)
        if step.load is not None:
            self._own_rows(f"select set_config('redshift.copy_count', '{step.load.rows}', false)", simple=simple)

    # -- COPY

    def _prepare_copy(self, step: Step, sql: str, *, simple: bool) -> str:
        """Look the target's columns up, in the client's own transaction; a table that is not there is left to PostgreSQL."""
        command = step.plan.copy if step.plan else None
        self._load = self._load_error = None
        if command is None:
            return sql
        rows = self._own_rows(CATALOG_QUERY.format(name=literal(command.table)), simple=simple)
        if not rows:
            return sql
        try:
            columns = target_columns(rows, command)
        except RedshiftError as error:
            self._load_error = error
            columns = []
        step.load = Load(command, columns, self._services.s3)
        if not command.columns and 0 < len(columns) < len(rows):
            return command.target_sql(as_it_is=is_fast(command), columns=[c.name for c in columns])
        return sql

    def _pump(self, step: Step) -> None:
        """Give PostgreSQL the rows that it asks for."""
        load = self._load = step.load
        if load is None:
            self._backend.sendall(wire.message(b"f", b"no target\0") + wire.message(b"H"))
            return
        if self._load_error is None:
            try:
                load.run(self._send_rows)
            except RedshiftError as error:
                self._load_error = error
            except _Stopped:
                return
        end = wire.message(b"f", b"load failed\0") if self._load_error else wire.message(b"c")
        self._backend.sendall(end + wire.message(b"H"))  # a Flush that came before this one was skipped with the rows

    def _send_rows(self, piece: bytes) -> None:
        for at in range(0, len(piece), _FRAME):
            self._backend.sendall(wire.message(b"d", piece[at : at + _FRAME]))
        readable, _, _ = select.select([self._backend, self._client], [], [], 0)
        if self._backend in readable:
            raise _Stopped
        if self._client in readable and self._gone():
            raise Dropped

    def _gone(self) -> bool:
        """Whether the client has hung up: the end of the stream is all there is to read. Not seen through TLS, which gets by without."""
        if isinstance(self._client, ssl.SSLSocket):
            return False
        return not self._client.recv(1, socket.MSG_PEEK)

    # -- from PostgreSQL

    def _on_backend(self, kind: bytes, body: bytes) -> bytes:  # noqa: C901, PLR0911
        head = self._steps[0] if self._steps else None
        if kind == b"D":
            if head is not None and head.own:
                head.got.append(wire.data_row(body))
                return b""
            return wire.message(kind, body)
        if kind == b"E":
            return self._error(body)
        if kind == b"Z":
            self._status = body
            mark = self._steps.popleft() if self._steps else Step(b"Z")
            return b"" if mark.hidden else wire.message(kind, body)
        if kind == b"G" and head is not None and head.plan is not None and head.plan.kind == "copy":
            self._pump(head)
            return b""
        if kind == b"S":
            return self._parameter(body)
        if head is None or kind not in b"12Tn3CIs":
            return b"" if head is not None and head.own and kind == b"N" else wire.message(kind, body)
        if kind in head.wants or (kind == b"I" and b"C" in head.wants):
            self._steps.popleft()
            if head.fault and head.fault.kind == "drop_after":
                raise Dropped
            if head.own:
                return b""
            if kind == b"C" and head.plan is not None:
                return self._completed(head, head.plan, body)
        return b"" if head.own else wire.message(kind, body)

    def _completed(self, step: Step, plan: Plan, body: bytes) -> bytes:
        before = b""
        if step.load is not None:
            text = f"Load into table '{step.load.table}' completed, {step.load.rows} record(s) loaded successfully."
            before = wire.notice("INFO", text)
        return before + wire.message(b"C", plan.tag.encode() + b"\0" if plan.tag else body)

    def _error(self, body: bytes) -> bytes:
        fields = wire.error_fields(body)
        while self._steps and self._steps[0].wants != b"Z":
            self._steps.popleft().failed = True
        self._skipping = not self._steps
        if self._steps and self._steps[0].own:
            return b""
        match = re.search(r'redshift_refusal_(\d+)"', fields.get("M", ""))
        if match and int(match[1]) in self._refusals:
            return wire.error(self._refusals.pop(int(match[1])).fields())
        load, error = self._load, self._load_error
        self._load = self._load_error = None
        if error is None and load is not None:
            error = load.explain(fields)
        if error is None:
            return wire.error(translated(fields))
        if isinstance(error, LoadFailed) and error.bad is not None:
            self._services.remember_load_error(error.bad.row())
        return wire.error(error.fields())

    def _parameter(self, body: bytes) -> bytes:
        name, _ = wire.text(body)
        if name == "server_version" and not self._modern:
            return wire.message(b"S", b"server_version\x008.0.2\0")
        return wire.message(b"S", body)
