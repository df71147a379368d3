"""
A small HTTP/1.1 server on loopback that the stand-ins for Slack, Sentry and the front door are made of.

It is ready when entered, serves each connection in a thread, keeps connections alive, and can misbehave on demand: see
``LoopbackServer.fault``. It binds to 127.0.0.1 only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import struct
import threading
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from typing_extensions import Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
FOREVER = -1


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
    """

    NAME = "server"

    def __init__(self, *, port: int = 0, max_body: int = 64 << 20) -> None:
        self.max_body = max_body
        self._wanted_port = port
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._http: ThreadingHTTPServer | None = None
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


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, stand_in: LoopbackServer, address: tuple[str, int]) -> None:
        self.stand_in = stand_in
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (socketserver's signature)
        log.debug("A connection from %s ended early", client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener
    disable_nagle_algorithm = True
    timeout = 120

    def handle(self) -> None:
        with self.server.stand_in._connected(self.connection), contextlib.suppress(ConnectionError, TimeoutError):  # noqa: SLF001 (one module)
            super().handle()

    def _serve(self) -> None:
        stand_in = self.server.stand_in
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body, whole = self._body(headers, stand_in.max_body)
        if not whole:
            self.close_connection = True
            self._send(stand_in.too_large(), half=False)
            return
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        request = Request(method=self.command, path=parts.path, query=query, headers=headers, body=body)
        try:
            response, half = stand_in.respond(request)
        except Exception:
            log.exception("%s failed on %s %s", stand_in.NAME, self.command, parts.path)
            response, half = Response.of_json({"error": "the stand-in failed; see its log"}, 500), False
        if response is None:
            self.close_connection = True
            _abort(self.connection)
            return
        self._send(response, half=half)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = _serve  # noqa: N815 (http.server's names)

    def _body(self, headers: Mapping[str, str], limit: int) -> tuple[bytes, bool]:
        """Return the body and True; b"" and False where it is over the limit (what comes is read off, so that the answer arrives)."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked_body(limit)
        try:
            length = max(int(headers.get("content-length", "0")), 0)
        except ValueError:
            length = 0
        if length <= limit:
            return self.rfile.read(length), True
        left = min(length, 4 * limit)
        while left > 0 and (chunk := self.rfile.read(min(left, 1 << 20))):
            left -= len(chunk)
        return b"", False

    def _chunked_body(self, limit: int) -> tuple[bytes, bool]:
        taken = bytearray()
        while size := int(self.rfile.readline(100).split(b";")[0].strip() or b"0", 16):
            if len(taken) + size > limit:
                return b"", False
            taken += self.rfile.read(size)
            self.rfile.readline(100)
        while self.rfile.readline(1000).strip():
            pass
        return bytes(taken), True

    def _send(self, response: Response, *, half: bool) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[: len(response.body) // 2] if half else response.body)
        if half:
            self.close_connection = True

    def version_string(self) -> str:
        return "polku-local"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
        log.debug(format, *args)


def _abort(connection: socket.socket) -> None:
    """Reset a connection: the other side sees ECONNRESET, not an orderly end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        connection.close()


def _inflate(data: bytes, limit: int) -> bytes:
    """Inflate gzip (members one after another) or zlib data, never making more than ``limit`` bytes."""
    whole = bytearray()
    while True:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            whole += inflater.decompress(data, limit + 1 - len(whole))
        except zlib.error as error:
            raise ValueError(f"the compressed body is damaged: {error}") from error
        if len(whole) > limit:
            raise OverflowError(f"the body inflates to more than {limit} bytes")
        if not inflater.eof:
            raise ValueError("the compressed body ends in the middle")
        if not inflater.unused_data:
            return bytes(whole)
        data = inflater.unused_data
