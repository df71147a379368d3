"""What the local servers are made of holds every request to RFC 9112, and nobody can keep one busy."""

from __future__ import annotations

import gzip
import json
import select
import socket
import zlib

import pytest
import requests

from local.http_server import BadRequest, LoopbackServer, Request, Response

LIMIT = 1000


class Echo(LoopbackServer):
    """Tells what it was sent."""

    def __init__(self, max_body=LIMIT, **bounds):
        super().__init__(max_body=max_body, **bounds)
        self.taken = []

    def handle(self, request):
        """Count it, and give its body back."""
        self.taken.append((request.method, request.path, request.body))
        if request.path == "/refuse":
            raise BadRequest(Response(status=409))
        return Response(body=request.body)


@pytest.fixture(scope="module")
def shared():
    with Echo() as server:
        yield server


@pytest.fixture
def echo(shared):
    shared.taken.clear()
    return shared


def connect(server):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def until_closed(connection):
    answers = b""
    while chunk := connection.recv(65536):
        answers += chunk
    return answers


def say(server, request, *, end=False):
    """Send bytes as they are; return all that comes back until the server closes the connection."""
    with connect(server) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return until_closed(connection)


def post(*headers, body=b""):
    return b"\r\n".join([b"POST /first HTTP/1.1", b"Host: local", *headers, b"", b""]) + body


NEXT = b"GET /second HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(post(b"Content-Length: -5", body=NEXT), id="negative length"),
        pytest.param(post(b"Content-Length: five", body=NEXT), id="length of letters"),
        pytest.param(post(b"Content-Length: +5", body=NEXT), id="length with a sign"),
        pytest.param(post(b"Content-Length: 1_0", body=NEXT), id="length with an underscore"),
        pytest.param(post(b"Content-Length: 0x10", body=NEXT), id="length in hexadecimal"),
        pytest.param(post("Content-Length: \u0665".encode(), body=NEXT), id="length in Arabic digits"),
        pytest.param(post(b"Content-Length:", body=NEXT), id="empty length"),
        pytest.param(post(b"Content-Length: " + b"9" * 5000, body=NEXT), id="length of 5000 digits"),
        pytest.param(post(b"Content-Length: 0", b"Content-Length: 5", body=NEXT), id="two lengths"),
        pytest.param(post(b"Content-Length: 0, 5", body=NEXT), id="two lengths in one header"),
        pytest.param(post(b"Content-Length : 5", body=NEXT), id="space before the colon"),
        pytest.param(post(b"no header", b"Content-Length: 5", body=NEXT), id="line without a colon"),
        pytest.param(post(b"X-A: b\rContent-Length: 5", body=NEXT), id="bare CR in a header"),
        pytest.param(post(b"X-A: b\x00", body=NEXT), id="NUL in a header"),
        pytest.param(post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + NEXT), id="length beside chunked"),
        pytest.param(post(b"Transfer-Encoding: gzip", body=NEXT), id="coding that is not chunked"),
        pytest.param(post(b"Transfer-Encoding: identity", body=NEXT), id="identity"),
        pytest.param(post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + NEXT), id="two codings"),
        pytest.param(post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + NEXT), id="coding that ends as chunked"),
        pytest.param(post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", body=NEXT), id="two Transfer-Encodings"),
        *(
            pytest.param(
                post(b"Transfer-Encoding: chunked", body=size + b"\r\n12345\r\n0\r\n\r\n" + NEXT), id=f"chunk size {size.decode()!r}"
            )
            for size in (b"-5", b"+5", b"0x5", b"0_5", b" 5", b"", b"five", b"5 5", b"0" * 30 + b"5")
        ),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"5\r\n1234567890\r\n0\r\n\r\n" + NEXT), id="chunk longer than its size"),
        pytest.param(b"POST /first HTTP/1.1\r\n\r\n" + NEXT, id="no Host"),
        pytest.param(b"POST http://[local/first HTTP/1.1\r\nHost: local\r\n\r\n" + NEXT, id="half an address"),
        pytest.param(b"POST /first\r\n\r\n" + NEXT, id="HTTP/0.9"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
    ],
)
def test_a_request_whose_end_is_in_doubt_is_refused_with_all_that_follows(echo, request_):
    """What one reader takes for a body is the next request to another (RFC 9112, 6.3 and 11.2)."""
    answers = say(echo, request_)

    assert answers.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in answers.lower()
    assert answers.count(b"HTTP/1.1 ") == 1
    assert echo.taken == []


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(post(b"Content-Length: 10", body=b"12345"), id="body"),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"5\r\n12345\r\n"), id="before the last chunk"),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"5\r\n123"), id="in a chunk"),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"5\r\n12345\r\n0\r\n"), id="before the trailers' end"),
        pytest.param(post(b"Content-Length: 0")[:-2], id="headers"),
    ],
)
def test_a_request_that_breaks_off_is_never_taken_for_whole(echo, request_):
    """Half a body must not be acknowledged."""
    answers = say(echo, request_, end=True)

    assert answers.startswith(b"HTTP/1.1 400 ")
    assert echo.taken == []


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(post(b"Content-Length: 5", body=b"12345"), id="length"),
        pytest.param(post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345"), id="the same length twice"),
        pytest.param(post(b"Transfer-Encoding: Chunked", body=b"3;a=b\r\n123\r\n0002\r\n45\r\n0\r\nX-Sum: 1\r\n\r\n"), id="chunks"),
    ],
)
def test_requests_sent_at_once_are_answered_in_turn(echo, first):
    """Each ends where it says so."""
    answers = say(echo, first + NEXT)

    assert echo.taken == [("POST", "/first", b"12345"), ("GET", "/second", b"")]
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert b"\r\n\r\n12345HTTP/1.1 200 " in answers


def test_an_answer_to_head_has_no_body(echo):
    """But its length; what would be one is the next answer to the client."""
    answers = say(echo, post(b"Content-Length: 5", body=b"12345").replace(b"POST", b"HEAD") + NEXT)

    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert b"\r\nContent-Length: 5\r\n" in answers
    assert b"12345" not in answers


def test_a_request_may_come_byte_by_byte(echo):
    """A connection cuts wherever it likes."""
    with connect(echo) as connection:
        for byte in post(b"Transfer-Encoding: chunked", body=b"5\r\n12345\r\n0\r\n\r\n") + NEXT:
            connection.send(bytes([byte]))
        answers = until_closed(connection)

    assert echo.taken == [("POST", "/first", b"12345"), ("GET", "/second", b"")]
    assert answers.count(b"HTTP/1.1 200 ") == 2


def test_a_client_that_waits_before_its_body_is_told_to_go_on(echo):
    """Expect: 100-continue, which curl and boto3 send."""
    with connect(echo) as connection:
        connection.sendall(post(b"Content-Length: 5", b"Expect: 100-continue", b"Connection: close"))
        asked = connection.recv(100)
        connection.sendall(b"12345")
        answer = until_closed(connection)

    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.endswith(b"\r\n\r\n12345")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(post(b"Content-Length: 1001", body=b"x" * 1001), 413, id="length over the limit"),
        pytest.param(post(b"Content-Length: 1001", b"Expect: 100-continue"), 413, id="and asks first"),
        pytest.param(post(b"Content-Length: 9000000", body=b"x" * 9_000_000), 413, id="thousands of times the limit"),
        pytest.param(post(b"Content-Length: 99999999999999999999", body=b"x" * 5000), 413, id="endless"),
        pytest.param(
            post(b"Transfer-Encoding: chunked", body=b"1f4\r\n" + b"x" * 500 + b"\r\n" + b"1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n"),
            413,
            id="chunks over the limit",
        ),
        pytest.param(
            post(b"Transfer-Encoding: chunked", body=b"1f4\r\n" + b"x" * 500 + b"\r\n" + b"fffffffffff\r\n" + b"x" * 5000),
            413,
            id="an endless chunk",
        ),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"1;" + b"x" * 100_000), 431, id="an endless chunk header"),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"X-A: b\r\n" * 20_000), 431, id="trailers without end"),
        pytest.param(post(b"X-A: " + b"x" * 100_000), 431, id="a header without end"),
        pytest.param(post(*[b"X-A: b"] * 20_000)[:-2], 431, id="headers without end"),
        pytest.param(post(*[b"X-A: b"] * 100), 431, id="a hundred and one headers"),
        pytest.param(b"GET /" + b"x" * 100_000, 431, id="an address without end"),
        pytest.param(b"BREW /first HTTP/1.1\r\nHost: local\r\n\r\n", 501, id="unknown method"),
        pytest.param(b"CONNECT local:80 HTTP/1.1\r\nHost: local\r\n\r\n", 501, id="CONNECT"),
    ],
)
def test_what_is_too_much_is_refused_before_it_is_held(echo, request_, status):
    """The answer reaches who is still sending."""
    answers = say(echo, request_)

    assert answers.startswith(f"HTTP/1.1 {status} ".encode())
    assert echo.taken == []


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        pytest.param(b"POST /first HT", b"", id="silent in its head"),
        pytest.param(b"POST /first HTTP/1.1\r\nX-A: ", b"x", id="slow in its head"),
        pytest.param(post(b"Content-Length: 900"), b"", id="silent in its body"),
        pytest.param(post(b"Content-Length: 900"), b"x", id="slow in its body"),
        pytest.param(post(b"Transfer-Encoding: chunked"), b"1\r\nx\r\n", id="slow in its chunks"),
    ],
)
def test_a_request_has_its_time_as_a_whole(start, drip):
    """A client that sends a byte now and then holds a thread no longer than one that sends none."""
    with Echo(deadline=0.3) as server, connect(server) as connection:
        connection.sendall(start)
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(drip)
        answer = connection.recv(100)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert server.taken == []


def test_a_connection_that_is_idle_is_closed_without_a_word():
    """Its client may have thought of a request at the same moment, and must not take 408 for its answer."""
    with Echo(idle=0.1) as server, connect(server) as connection:
        connection.sendall(post(b"Content-Length: 5", body=b"12345"))

        assert until_closed(connection).count(b"HTTP/1.1 ") == 1


def test_who_does_not_read_its_answer_is_given_up():
    """An answer that nobody takes holds a thread for the same time."""

    class Talking(Echo):
        def handle(self, request):
            self.taken.append(request.path)
            return Response(body=bytes(64 << 20))

    with Talking(deadline=0.3, max_connections=1) as server, connect(server) as deaf:
        deaf.sendall(NEXT)
        while True:
            with connect(server) as connection:
                connection.sendall(NEXT)
                if connection.recv(12) == b"HTTP/1.1 200":
                    break

    assert server.taken == ["/second", "/second"]


def test_more_connections_than_threads_are_turned_away():
    """With 503, which every client tries again; whoever is in stays in, and who leaves makes room."""
    with Echo(max_connections=2) as server:
        inside = [connect(server) for _ in range(2)]
        for connection in inside:
            connection.sendall(post(b"Content-Length: 1", body=b"1"))
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")

        with connect(server) as outside:
            refused = until_closed(outside)
        inside[0].sendall(NEXT)
        still = until_closed(inside[0])
        inside[0].close()
        while not say(server, NEXT).startswith(b"HTTP/1.1 200 "):
            pass
        inside[1].close()

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in refused
    assert b"HTTP/1.1 200 " in still


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no type"),
        pytest.param({"Content-Type": "text/plain"}, id="as a page may post anywhere"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, id="a form"),
        pytest.param({"Content-Type": "text/plain; application/json"}, id="hides the type"),
        pytest.param({"Content-Type": "application/json", "Origin": "https://example.com"}, id="from a page"),
        pytest.param({"Content-Type": "application/json", "Origin": "null"}, id="from a page that hides"),
    ],
)
def test_a_web_page_cannot_switch_faults_on(echo, headers):
    """A browser sends what any page asks it to, but not without an Origin."""
    answer = requests.post(f"{echo.url}/fault", data=json.dumps({"kind": "500", "times": -1}).encode(), headers=headers)

    assert answer.status_code == 403
    assert requests.get(f"{echo.url}/first").status_code == 200


def test_faults_are_switched_by_json(echo):
    """From another process; no kind lifts them."""
    requests.post(f"{echo.url}/fault", json={"kind": "500", "times": -1}).raise_for_status()
    faulty = requests.get(f"{echo.url}/first").status_code
    requests.post(f"{echo.url}/fault", json={}).raise_for_status()

    assert (faulty, requests.get(f"{echo.url}/first").status_code) == (500, 200)
    assert requests.post(f"{echo.url}/fault", json={"kind": "unknown"}).status_code == 400


def test_a_body_of_very_many_chunks_is_refused():
    """Ten million of a byte each fit into 10 MB."""
    request = post(b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * 100_001)

    with Echo(max_body=1 << 20) as server:
        answers = say(server, request)

    assert answers.startswith(b"HTTP/1.1 413 ")
    assert server.taken == []


def inflated(body, limit=LIMIT, encoding="gzip"):
    return Request(method="POST", path="/", query={}, headers={"content-encoding": encoding}, body=body).inflated(limit)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 300_000], ids=str)
def test_members_of_any_size_are_opened_one_after_another(size):
    """What `cat a.gz b.gz` gives; the pieces in which they are read leave no trace."""
    text = bytes(number * number % 251 for number in range(size))

    for level in (0, 9):
        assert inflated(gzip.compress(text, level) + gzip.compress(b"end"), size + 3) == text + b"end"
    assert inflated(zlib.compress(text), size, "deflate") == text


def test_a_body_of_very_many_members_is_refused():
    """500,000 empty ones fit into 10 MB, and each costs a decompressor of its own."""
    with pytest.raises(ValueError, match="more than 10000 gzip members"):
        inflated(gzip.compress(b"") * 20_000)


@pytest.mark.timeout(20)
def test_the_rest_of_a_body_is_not_copied_for_each_member():
    """The most members that are taken, before 40 MB of one that is over the limit: 400 GB of copies, or some milliseconds."""
    body = gzip.compress(b"") * 9_999 + gzip.compress(bytes(40 << 20), 0)

    with pytest.raises(OverflowError, match="more than 1000 bytes"):
        inflated(body)


@pytest.mark.parametrize("cut", [1, 8, 9, 20], ids=str)
def test_a_compressed_body_that_breaks_off_is_refused(cut):
    """Also in its second member."""
    with pytest.raises(ValueError, match="ends in the middle"):
        inflated(gzip.compress(b"first") + gzip.compress(b"second")[:-cut])
