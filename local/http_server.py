"""
A small HTTP/1.1 server on loopback that the stand-ins for Slack, Sentry and the front door are made of.

It is ready when entered, serves each connection in a thread, keeps connections alive, and can misbehave on demand: see
``LoopbackServer.fault``. It binds to 127.0.0.1 only.

h11 reads the requests, and is strict where Python's http.server guesses: one whose end is in doubt (RFC 9112, 6.3) is answered 400,
and nothing that follows on its connection is read. Body, head, trailers, connections and the time of a whole request are bounded.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import socketserver
import struct
import threading
import time
import zlib
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import h11
from typing_extensions import Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
FOREVER = -1

MAX_HEADERS = 100
"""Headers of one request, as in http.server."""

MAX_HEAD = 16 * 1024
"""Bytes of a request line with its headers, of a chunk's header, or of all trailers (API Gateway takes 10,240 of headers)."""

MAX_CHUNKS = 100_000
"""Chunks of one body: each costs some microseconds, be it of a single byte."""

MAX_MEMBERS = 10_000
"""Gzip members of one body; each costs a decompressor, and an empty one is 20 bytes."""


class BadRequest(Exception):
    """A request that cannot be served; carries the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


@dataclass(frozen=True, kw_only=True)
class Request:
    """
    One request, read whole.

    Args:
        method: E.g. "POST".
        path: Decoded path without the query.
        query: Last value of each query parameter.
        headers: By lower-case name.
        body: As it was sent: still compressed.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def inflated(self, limit: int) -> bytes:
        """Return the body decompressed; raises ValueError where it is damaged, OverflowError where it has more than ``limit`` bytes."""
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding in {"", "identity"}:
            if len(self.body) > limit:
                raise OverflowError(f"the body has {len(self.body)} bytes; at most {limit} are taken")
            return self.body
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise ValueError(f"Content-Encoding {encoding!r:.40} is not supported; send gzip, deflate or none")
        return _inflate(self.body, limit)


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer; ``headers`` need not have Content-Length."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """Return an answer with a JSON body."""
        return cls(
            status=status, body=json.dumps(value).encode(), headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        )

    @classmethod
    def of_html(cls, page: str, status: int = 200) -> Response:
        """Return an answer with an HTML page that may load nothing from anywhere."""
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return cls(status=status, body=page.encode(), headers=headers)


@dataclass
class Fault:
    """One misbehaviour that is still to come; see ``LoopbackServer.fault``."""

    kind: str
    times: int
    path: str


S = TypeVar("S", bound="LoopbackServer")


class LoopbackServer:
    """
    Base of the stand-ins: a context manager that listens from ``__enter__`` to ``__exit__``.

    Args:
        port: 0 takes any free port.
        max_body: Larger bodies are answered with ``too_large()``.
        max_connections: How many are served at once, idle ones counted; one more is answered 503 and closed.
        deadline: Seconds from a request's first byte to its last (408), and again for its answer to be taken.
        idle: Seconds that a connection may wait for a request.
    """

    NAME = "server"

    def __init__(
        self, *, port: int = 0, max_body: int = 64 << 20, max_connections: int = 256, deadline: float = 60, idle: float = 120
    ) -> None:
        self.max_body = max_body
        self.max_connections = max_connections
        self.deadline = deadline
        self.idle = idle
        self._wanted_port = port
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._http: _Listener | None = None
        self._thread: threading.Thread | None = None

    # what a stand-in says

    def handle(self, request: Request) -> Response:
        """Answer one request; may run in many threads at once."""
        raise NotImplementedError

    def faulty(self, kind: str) -> Response | None:
        """Return the answer that a fault of this kind gives in place of the right one, None where the kind is unknown."""
        return Response.of_json({"error": f"fault {kind}"}, int(kind)) if kind.isdecimal() and len(kind) == 3 else None  # noqa: PLR2004 (an HTTP status)

    def too_large(self) -> Response:
        """Return the answer to a body over ``max_body``."""
        return Response.of_json({"error": f"the body is larger than {self.max_body} bytes"}, 413)

    # life

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._http is None:
            raise RuntimeError(f"{self.NAME} is not running; enter it first")
        return int(self._http.server_address[1])

    @property
    def address(self) -> str:
        """``http://127.0.0.1:<port>``, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """What clients are configured with."""
        return self.address

    def __enter__(self) -> Self:
        self._stopping.clear()
        self._http = _Listener(self, (LOOPBACK, self._wanted_port))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name=self.NAME, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        http, thread = self._http, self._thread
        self._http = self._thread = None
        if http and thread:
            http.shutdown()
            http.server_close()
            thread.join()
        with self._lock:
            left = list(self._connections)
        for connection in left:
            _abort(connection)

    # misbehaviour

    def fault(self, kind: str, times: int = 1, *, path: str = "") -> None:
        """
        Misbehave on the next requests.

        Args:
            kind: An HTTP status ("500"), "cut_before" and "cut_after" (the connection is reset before or after the request takes
                effect), "timeout_before" and "timeout_after" (no answer comes), "half" (half an answer, after it took effect), or
                what the stand-in knows more.
            times: How many requests; FOREVER until ``clear_faults``.
            path: Only requests whose path ends so.
        """
        if kind not in _GENERIC_FAULTS and self.faulty(kind) is None:
            raise ValueError(f"fault {kind!r} is not known to {self.NAME}")
        with self._lock:
            self._faults.append(Fault(kind, times, path))

    def clear_faults(self) -> None:
        """Behave again."""
        with self._lock:
            self._faults.clear()

    def _next_fault(self, path: str) -> str:
        with self._lock:
            for fault in self._faults:
                if path.endswith(fault.path):
                    if fault.times != FOREVER:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._faults.remove(fault)
                    return fault.kind
        return ""

    def respond(self, request: Request) -> tuple[Response | None, bool]:
        """Return the answer (None: reset the connection) and whether it is to be cut in half."""
        if request.path == "/fault" and request.method == "POST":
            return self._switch(request), False
        kind = "" if request.method in {"GET", "OPTIONS"} and request.path == "/" else self._next_fault(request.path)
        if kind in {"cut_before", "timeout_before"}:
            self._stall(kind)
            return None, False
        if kind and kind not in _GENERIC_FAULTS:
            return self.faulty(kind), False
        try:
            response = self.handle(request)
        except BadRequest as refusal:
            response = refusal.response
        if kind in {"cut_after", "timeout_after"}:
            self._stall(kind)
            return None, False
        return response, kind == "half"

    def _stall(self, kind: str) -> None:
        if kind.startswith("timeout"):
            self._stopping.wait(60)

    def _switch(self, request: Request) -> Response:
        """Turn faults on or off for another process; not for a web page, which cannot send JSON elsewhere, nor POST without an Origin."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" or "origin" in request.headers:
            return Response.of_json({"ok": False, "error": "faults are switched by application/json, and not by a web page"}, 403)
        try:
            wanted = json.loads(request.body)
            if wanted.get("kind"):
                self.fault(str(wanted["kind"]), int(wanted.get("times", 1)), path=str(wanted.get("path", "")))
            else:
                self.clear_faults()
        except (ValueError, AttributeError, TypeError) as error:
            return Response.of_json({"ok": False, "error": str(error)}, 400)
        return Response.of_json({"ok": True})

    @contextlib.contextmanager
    def _connected(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)


def serve(server: LoopbackServer) -> None:
    """Run a stand-in as a process: print one line ``ready <url>``, end on SIGTERM or ctrl-C."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with server:
        print(f"ready {server.url}", flush=True)
        over.wait()


_GENERIC_FAULTS = frozenset({"cut_before", "cut_after", "timeout_before", "timeout_after", "half"})


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, stand_in: LoopbackServer, address: tuple[str, int]) -> None:
        self.stand_in = stand_in
        self._slots = threading.BoundedSemaphore(stand_in.max_connections)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or turn it away."""
        if not self._slots.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve it; the next may come when this one has left."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (socketserver's signature)
        log.debug("A connection from %s ended early", client_address)


_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_METHODS = frozenset({b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD"})
_REASONS = {int(status): status.phrase for status in HTTPStatus}
_CHUNK = 1 << 16
_LINGER = 2.0
"""Seconds that who is refused may go on sending, so that the answer is not lost to a reset."""


class _Refused(Exception):
    """A request that is not read on: the answer, after which the connection is closed."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class _Handler(socketserver.BaseRequestHandler):
    """One connection: h11 reads its requests, ``LoopbackServer.respond`` answers them."""

    request: socket.socket
    server: _Listener

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)  # noqa: FBT003 (socket's signature)
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.until: float | None = None  # when the request that is being read must be whole; None before its first byte
        self.method = b""  # its method, once it is known

    def handle(self) -> None:
        with self.server.stand_in._connected(self.request), contextlib.suppress(OSError):  # noqa: SLF001 (one module)
            while self._serve():
                self.http.start_next_cycle()

    def _serve(self) -> bool:
        """Answer one request; return whether another may follow."""
        stand_in = self.server.stand_in
        try:
            request = self._read(stand_in.max_body)
        except _Refused as refusal:
            return self._refuse(refusal.response)
        except h11.RemoteProtocolError as error:
            status = 431 if error.error_status_hint == 431 else 400  # noqa: PLR2004 (HTTP statuses)
            return self._refuse(Response.of_json({"error": str(error)}, status))
        if request is None:
            return False
        try:
            response, half = stand_in.respond(request)
        except Exception:
            log.exception("%s failed on %s %s", stand_in.NAME, request.method, request.path)
            response, half = Response.of_json({"error": "the stand-in failed; see its log"}, 500), False
        if response is None:
            _abort(self.request)
            return False
        self._send(response, half=half)
        return self.http.our_state is h11.DONE

    def _read(self, limit: int) -> Request | None:
        """
        Return the next request, None where the client has left.

        Raises:
            _Refused: It is more than is taken, or took too long.
            h11.RemoteProtocolError: It is none.
            TimeoutError: None came.
        """
        self.until, self.method = None, b""
        head = self._event()
        if not isinstance(head, h11.Request):
            return None
        self.method = head.method
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        if len(head.headers) > MAX_HEADERS:
            raise _Refused(Response.of_json({"error": f"more than {MAX_HEADERS} headers"}, 431))
        if head.method not in _METHODS:
            raise _Refused(Response.of_json({"error": "the method is not supported"}, 501))
        if int(headers.get("content-length", 0)) > limit and self.http.they_are_waiting_for_100_continue:
            raise _Refused(self.server.stand_in.too_large())
        if "content-length" in headers and "transfer-encoding" in headers:
            raise _Refused(Response.of_json({"error": "Content-Length beside Transfer-Encoding"}, 400))
        target = head.target.decode("latin-1")
        try:
            parts = urlsplit("/" + target.lstrip("/") if target.startswith("//") else target)
        except ValueError as error:
            raise _Refused(Response.of_json({"error": str(error)}, 400)) from None
        return Request(
            method=head.method.decode("latin-1"),
            path=parts.path,
            query={name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()},
            headers=headers,
            body=self._body(limit),
        )

    def _body(self, limit: int) -> bytes:
        """Return the body; what is over the limit is read off for a while, so that the answer arrives."""
        body, size, chunks = bytearray(), 0, 0
        if self.http.they_are_waiting_for_100_continue:
            self.request.sendall(self.http.send(h11.InformationalResponse(status_code=100, reason="Continue", headers=[])) or b"")
        while isinstance(event := self._event(), h11.Data):
            size, chunks = size + len(event.data), chunks + event.chunk_end
            if size <= limit:
                body += event.data
            if size > 4 * limit or chunks > MAX_CHUNKS:
                break
        if size > limit or chunks > MAX_CHUNKS:
            raise _Refused(self.server.stand_in.too_large())
        return bytes(body)

    def _event(self) -> object:
        """Return h11's next event."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(self._receive())
        return event

    def _receive(self) -> bytes:
        """Return what comes next, b"" at the end; raises TimeoutError where no request comes, _Refused where one is not whole in time."""
        stand_in = self.server.stand_in
        left = stand_in.idle if self.until is None else self.until - time.monotonic()
        try:
            self.request.settimeout(max(left, 0.001))
            data = self.request.recv(MAX_HEAD if self.http.their_state is h11.IDLE else _CHUNK)
        except TimeoutError:
            if self.until is None:
                raise
            left = 0
        if left <= 0:
            raise _Refused(Response.of_json({"error": f"the request was not whole after {stand_in.deadline:g} s"}, 408))
        if self.until is None:
            self.until = time.monotonic() + stand_in.deadline
        return data

    def _send(self, response: Response, *, half: bool = False, close: bool = False) -> None:
        headers = {"Server": "polku-local", "Date": formatdate(usegmt=True), **response.headers}
        if response.status != HTTPStatus.NO_CONTENT:
            headers["Content-Length"] = str(len(response.body))
        if close:
            headers["Connection"] = "close"
        head = h11.Response(
            status_code=response.status,
            reason=_REASONS.get(response.status, ""),
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        )
        events: list[h11.Event] = [head]
        if self.method != b"HEAD":
            events.append(h11.Data(data=response.body[: len(response.body) // 2] if half else response.body))
        if not half:
            events.append(h11.EndOfMessage())
        self.request.settimeout(self.server.stand_in.deadline)
        self.request.sendall(b"".join(self.http.send(event) or b"" for event in events))

    def _refuse(self, response: Response) -> bool:
        """Answer, and read off for a moment what is still coming: closed with that unread, the connection would be reset."""
        self._send(response, close=True)
        self.request.shutdown(socket.SHUT_WR)
        over = time.monotonic() + _LINGER
        while (left := over - time.monotonic()) > 0:
            self.request.settimeout(left)
            if not self.request.recv(_CHUNK):
                break
        return False


def _abort(connection: socket.socket) -> None:
    """Reset a connection: the other side sees ECONNRESET, not an orderly end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        connection.close()


def _inflate(data: bytes, limit: int) -> bytes:
    """
    Inflate gzip (members one after another) or zlib data, never making more than ``limit`` bytes.

    Each member is fed in pieces that double: what is copied behind its end is no longer than itself.
    """
    whole, given = bytearray(), memoryview(data)
    for _ in range(MAX_MEMBERS):
        inflater, piece = zlib.decompressobj(zlib.MAX_WBITS | 32), 1024
        while not inflater.eof:
            if not given:
                raise ValueError("the compressed body ends in the middle")
            try:
                whole += inflater.decompress(given[:piece], limit + 1 - len(whole))
            except zlib.error as error:
                raise ValueError(f"the compressed body is damaged: {error}") from error
            if len(whole) > limit:
                raise OverflowError(f"the body inflates to more than {limit} bytes")
            given = given[min(piece, len(given)) - len(inflater.unused_data) :]
            piece *= 2
        if not given:
            return bytes(whole)
    raise ValueError(f"the compressed body has more than {MAX_MEMBERS} gzip members")
