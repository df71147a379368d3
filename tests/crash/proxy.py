"""
A proxy that counts the requests of one worker, shows each to a judge, and does what the judge says.

Between every worker and every server stands a ``Door``: a listener of its own, so that whoever connects is known. A door
reads a request whole, asks the judge ("before"), forwards it, reads the answer whole, asks again ("after"), and passes the
answer on. So whatever a worker writes has two points at which it can die, be cut off, be held or be lied to, and a new write
has them the day it is written.

HTTP: requests and answers with Content-Length, chunked or without a body, on connections that are kept alive.
Redshift and the directory of names: PostgreSQL's wire protocol; a request is what the client sends up to a message that makes
the server answer.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable  # noqa: TC003 -- a field's type
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from local.redshift import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.crash.workers import Worker

LOOPBACK = "127.0.0.1"

Side = Literal["before", "after"]


class Cut:
    """The judge's verdict that the connection is to be reset."""


CUT = Cut()


@dataclass(frozen=True)
class Warped:
    """The judge's verdict that the server's answer is changed on its way, and the connection closed behind it."""

    change: Callable[[bytes], bytes]


Verdict = None | Cut | bytes | Warped
"""None: go on; CUT: reset the connection, which after the answer is there loses it; bytes: this answer in place of the server's."""


@dataclass(frozen=True)
class Request:
    """
    One request of a worker.

    Args:
        worker: Who makes it, e.g. "load".
        server: "s3", "kinesis", "redshift", "slack", "sentry", "names" (the directory of names).
        label: What it is, without anything that differs from run to run: ``PUT state/server/checkpoint.json``.
        number: How often this worker has made a request with this label, this one included.
        write: Whether it may change something.
        by: The worker itself.
    """

    worker: str
    server: str
    label: str
    number: int
    write: bool
    by: Worker = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.worker}: {self.server} {self.label}" + (f" #{self.number}" if self.number > 1 else "")


if TYPE_CHECKING:
    Judge = Callable[[Side, Request], Verdict]


class Doors:
    """
    The doors of one worker: one a server.

    Args:
        worker: Who comes in by them.
        servers: Where the servers are, by name.
        judge: Asked about each request, in the thread of its connection; may wait as long as it likes.
    """

    def __init__(self, worker: Worker, servers: Mapping[str, tuple[str, int]], judge: Judge) -> None:
        self.worker = worker
        self._judge = judge
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self._listeners = {name: socket.create_server((LOOPBACK, 0), backlog=64) for name in servers}
        self.ports = {name: listener.getsockname()[1] for name, listener in self._listeners.items()}
        for name, listener in self._listeners.items():
            threading.Thread(target=self._accept, args=(name, listener, servers[name]), name=f"door-{name}", daemon=True).start()

    def close(self) -> None:
        """Cut what is open; held requests are let go by whoever holds them."""
        with self._lock:
            self._closed = True
            left = list(self._sockets)
        for listener in self._listeners.values():
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for one in left:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, name: str, listener: socket.socket, server: tuple[str, int]) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(name, client, server), name=f"door-{name}", daemon=True).start()

    def _serve(self, name: str, client: socket.socket, server: tuple[str, int]) -> None:
        with self.tracked(client):
            relay = _Postgres if name in {"redshift", "names"} else _Http
            try:
                relay(self, name, client, server).run()
            except _Reset:
                reset(client)
            except _Last as last:
                with contextlib.suppress(OSError):
                    client.sendall(last.answer)
            except (OSError, EOFError, ValueError, wire.ProtocolError):
                pass

    @contextlib.contextmanager
    def tracked(self, one: socket.socket) -> Iterator[None]:
        """Close a socket at the end of the block, or with the doors."""
        with self._lock:
            self._sockets.add(one)
        if self._closed:
            one.close()
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(one)
            with contextlib.suppress(OSError):
                one.close()

    def request(self, server: str, label: str, *, write: bool) -> Request:
        """Count a request and return it."""
        with self._lock:
            self._counts[server, label] += 1
            number = self._counts[server, label]
        return Request(self.worker.name, server, label, number, write, self.worker)

    def ask(self, side: Side, request: Request, answer: bytes = b"") -> bytes | None:
        """Return an answer to give in place of the server's, None to go on; raises where the connection is to end."""
        verdict = self._judge(side, request)
        if isinstance(verdict, Cut):
            raise _Reset
        if isinstance(verdict, Warped):
            raise _Last(verdict.change(answer))
        return verdict


class _Reset(Exception):
    """The connection is to be reset."""


class _Last(Exception):
    """The connection is to be closed behind this answer."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(len(answer))
        self.answer = answer


def reset(connection: socket.socket) -> None:
    """Reset a connection: the other side sees ECONNRESET."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


class _Reader:
    """Reads lines and sizes from a socket, and keeps what it read."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._ahead = bytearray()

    def line(self) -> bytes:
        """Return what comes up to and with a newline; raises EOFError at the end."""
        while (end := self._ahead.find(b"\n")) < 0:
            self._more()
        return self._take(end + 1)

    def exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        while len(self._ahead) < size:
            self._more()
        return self._take(size)

    def rest(self) -> bytes:
        """Return everything up to the end."""
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        return self._take(len(self._ahead))

    def _more(self) -> None:
        data = self._socket.recv(1 << 18)
        if not data:
            raise EOFError
        self._ahead += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._ahead[:size])
        del self._ahead[:size]
        return taken


# -- HTTP ------------------------------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"\d+-[0-9a-f]{12}|\d{8}T\d{6}Z|\d{4}-\d\d-\d\d")
"""What differs in a key from run to run: the try, the batch, the date."""


class _Http:
    """One connection of a client that speaks HTTP/1.1."""

    def __init__(self, doors: Doors, name: str, client: socket.socket, server: tuple[str, int]) -> None:
        self._doors, self._name, self._client, self._address = doors, name, client, server
        self._reader = _Reader(client)
        self._server: socket.socket | None = None
        self._answers: _Reader | None = None

    def run(self) -> None:
        try:
            while True:
                self._exchange()
        finally:
            if self._server:
                self._server.close()

    def _exchange(self) -> None:
        head, headers = self._head(self._reader)
        if headers.get("expect", "").lower() == "100-continue":
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = re.sub(rb"(?i)\r\nexpect: 100-continue(?=\r\n)", b"", head)
        body, sent = self._body(self._reader, headers, otherwise=b"")
        method = head.split(b" ", 1)[0].decode()
        label, write = label_of(self._name, method, head.split(b" ", 2)[1].decode(), headers, body)
        request = self._doors.request(self._name, label, write=write)
        answer = self._doors.ask("before", request)
        if answer is None:
            answer = self._forward(head + sent, method)
            answer = self._doors.ask("after", request, answer) or answer
        self._client.sendall(answer)

    def _forward(self, request: bytes, method: str) -> bytes:
        """Send a request to the server and return its answer; on a new connection where the server has closed the old one."""
        for fresh in (False, True):
            if fresh or self._server is None:
                if self._server:
                    self._server.close()
                self._server = socket.create_connection(self._address)
                self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._answers = _Reader(self._server)
                fresh = True  # noqa: PLW2901 -- it is one
            assert self._answers
            try:
                self._server.sendall(request)
                head, headers = self._head(self._answers)
            except (OSError, EOFError):
                if fresh:
                    raise _Reset from None
                continue
            status = int(head.split(b" ", 2)[1])
            if method == "HEAD" or status in {204, 304}:
                return head
            return head + self._body(self._answers, headers, otherwise=None)[1]
        raise AssertionError

    @staticmethod
    def _head(reader: _Reader) -> tuple[bytes, dict[str, str]]:
        lines = [reader.line()]
        while lines[-1] not in {b"\r\n", b"\n"}:
            lines.append(reader.line())
        pairs = (line.decode("latin-1").partition(":") for line in lines[1:-1])
        return b"".join(lines), {name.strip().lower(): value.strip() for name, _, value in pairs}

    @staticmethod
    def _body(reader: _Reader, headers: Mapping[str, str], *, otherwise: bytes | None) -> tuple[bytes, bytes]:
        """Return a body as it is meant and as it was sent; ``otherwise`` where no length is given, None: up to the end."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            sent, meant = [], []
            while True:
                line = reader.line()
                size = int(line.split(b";")[0], 16)
                piece = reader.exactly(size + 2)
                sent += [line, piece]
                meant.append(piece[:-2])
                if not size:
                    return b"".join(meant), b"".join(sent)
        if "content-length" in headers:
            body = reader.exactly(int(headers["content-length"]))
            return body, body
        body = reader.rest() if otherwise is None else otherwise
        return body, body


def label_of(server: str, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[str, bool]:
    """Return what an HTTP request is, without what differs from run to run, and whether it may change something."""
    path, _, query = target.partition("?")
    if server == "kinesis":
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        return operation, not operation.startswith(("Get", "List", "Describe"))
    if server == "slack":
        operation = path.rpartition("/")[2]
        return operation, operation.startswith("chat.")
    if server != "s3":
        return f"{method} {path}", method != "GET"
    key = _VARIABLE.sub("*", unquote(path).strip("/").partition("/")[2])
    if "list-type=2" in query:
        return "LIST " + unquote((re.findall(r"(?:^|&)prefix=([^&]*)", query) or [""])[0]), False
    if "x-amz-copy-source" in headers:
        method = "COPY"
    return f"{method} {key}", method not in {"GET", "HEAD"}


def http_answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP answer; names of headers with underscores in place of dashes."""
    lines = [f"HTTP/1.1 {status} Fault", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def s3_error(status: int, code: str) -> bytes:
    """Return an error as S3 words it."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>on demand</Message></Error>'
    return http_answer(status, body.encode(), Content_Type="application/xml")


def kinesis_error(status: int, code: str) -> bytes:
    """Return an error as Kinesis words it."""
    return http_answer(status, f'{{"__type":"{code}","message":"on demand"}}'.encode(), Content_Type="application/x-amz-json-1.1")


# -- Redshift, PostgreSQL --------------------------------------------------------------------------------------------

_COMMENT = re.compile(r"\s*--\s*(\d+_\w+\.sql)")
_READS = ("select", "show", "set", "begin", "start")
_NEEDS_NOTHING = {struct.pack("!i", 0), struct.pack("!i", 12)}
"""AuthenticationOk and AuthenticationSASLFinal: what comes next is the server's to say."""
_ENDS = {ord("P"): b"1", ord("B"): b"2", ord("D"): b"Tn", ord("E"): b"CIs", ord("C"): b"3"}
"""The last message of the server's answer, by message."""


class _Postgres:
    """One connection of a client of Redshift or PostgreSQL, without TLS."""

    def __init__(self, doors: Doors, name: str, client: socket.socket, server: tuple[str, int]) -> None:
        self._doors, self._name, self._client, self._address = doors, name, client, server
        self._reader = _Reader(client)
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, bytes] = {}
        self._skipping = False  # after an error the server says nothing until Sync

    def run(self) -> None:
        start = self._reader.exactly(4)
        start += self._reader.exactly(struct.unpack("!i", start)[0] - 4)
        request = self._doors.request(self._name, "connect", write=False)
        if answer := self._doors.ask("before", request):
            self._client.sendall(answer)
            return
        try:
            server = socket.create_connection(self._address)
        except OSError:
            raise _Reset from None
        with self._doors.tracked(server):
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._server, self._answers = server, _Reader(server)
            self._log_in(start, request)
            while True:
                self._exchange()

    def _log_in(self, start: bytes, request: Request) -> None:
        self._server.sendall(start)
        while True:
            answer, kinds = self._until(lambda kind, body: kind in b"ZE" or (kind == b"R" and body[:4] not in _NEEDS_NOTHING))
            if b"Z" in kinds or b"E" in kinds:
                self._client.sendall(self._doors.ask("after", request, answer) or answer)
                if b"E" in kinds:
                    raise EOFError
                return
            self._client.sendall(answer)
            self._server.sendall(self._message(self._reader)[1])  # the password; a Flush behind it is a request of its own

    def _exchange(self) -> None:
        sent, expected, statement = self._burst()
        if sent[-5:-4] == b"X":
            self._server.sendall(sent)
            raise EOFError
        request = answer = None
        if statement:  # else it is parsed, bound or described, and nothing happens yet
            label, write = label_of_statement(statement)
            request = self._doors.request(self._name, label, write=write)
            answer = self._doors.ask("before", request)
        if answer is None:
            self._server.sendall(sent)
            answer = self._answer(expected)
            if request:
                answer = self._doors.ask("after", request, answer) or answer
        self._client.sendall(answer)

    def _burst(self) -> tuple[bytes, list[bytes], str]:
        """Read what the client sends until the server has to answer; return it, the answers due, and the statement that runs."""
        sent, expected, statement = bytearray(), [], ""
        while True:
            kind, raw = self._message(self._reader)
            sent += raw
            statement = self._look(kind, raw[5:]) or statement
            if kind[0] in _ENDS:
                expected.append(_ENDS[kind[0]])
            if kind in b"QS":
                return bytes(sent), [b"Z"], statement
            if kind in b"HX":
                return bytes(sent), expected, statement

    def _look(self, kind: bytes, body: bytes) -> str:
        """Remember what is prepared; return the statement that a message runs, "" where it runs none."""
        first, _, rest = body.partition(b"\0")
        if kind == b"P":
            self._statements[first] = rest.partition(b"\0")[0].decode()
        elif kind == b"B":
            self._portals[first] = rest.partition(b"\0")[0]
        elif kind == b"E":
            return self._statements.get(self._portals.get(first, b""), "?")
        return first.decode() if kind == b"Q" else ""

    def _answer(self, expected: list[bytes]) -> bytes:
        """Read what the server owes for one burst; after an error it owes nothing more until Sync."""
        left = list(expected)
        synced = left[-1:] == [b"Z"]
        if synced:
            self._skipping = False
        elif not left or self._skipping:
            return b""

        def over(kind: bytes, _: bytes) -> bool:
            if kind == b"E" and not synced:
                self._skipping = True
                return True
            if kind in left[0] or (kind == b"Z" and left[-1:] == [b"Z"]):
                left.pop(0)
            return not left

        return self._until(over)[0]

    def _until(self, over: Callable[[bytes, bytes], bool]) -> tuple[bytes, set[bytes]]:
        answer, kinds = bytearray(), set()
        while True:
            kind, raw = self._message(self._answers)
            answer += raw
            kinds.add(kind)
            if over(kind, raw[5:]):
                return bytes(answer), kinds

    @staticmethod
    def _message(reader: _Reader) -> tuple[bytes, bytes]:
        head = reader.exactly(5)
        return head[:1], head + reader.exactly(struct.unpack("!i", head[1:])[0] - 4)


def label_of_statement(sql: str) -> tuple[str, bool]:
    """Return the name of a statement's file, or its first words, and whether it may change something."""
    named = _COMMENT.match(sql)
    words = list(itertools.islice((w for line in sql.splitlines() if not line.lstrip().startswith("--") for w in line.split()), 3))
    write = bool(words) and words[0].lower() not in _READS
    return named[1] if named else " ".join(words).lower(), write


READY = wire.message(b"Z", b"E")
"""Follows an error where a statement is sent by itself: ready for the next, in a transaction that has failed."""


def redshift_error(code: str, text: str) -> bytes:
    """Return an error of the server's."""
    return wire.error({"S": "ERROR", "C": code, "M": text})
