"""
PostgreSQL's wire protocol, version 3: cutting a byte stream into messages, and making some.

Facts from https://www.postgresql.org/docs/16/protocol-message-formats.html
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
PROTOCOL = 196608

_INT = struct.Struct("!i")
_SHORT = struct.Struct("!h")
_HEAD = struct.Struct("!ci")

MAX_MESSAGE = 1 << 30


class ProtocolError(Exception):
    """The other side does not speak the protocol; the connection ends."""


class Inbox:
    """Bytes that came in, cut into messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what a read returned."""
        self._bytes += data

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (kind, body) of each message that is here in full; the rest waits for more bytes."""
        buffer, at = self._bytes, 0
        try:
            while at + 5 <= len(buffer):
                kind, length = _HEAD.unpack_from(buffer, at)
                if not 4 <= length <= MAX_MESSAGE:  # noqa: PLR2004
                    raise ProtocolError(f"a message of {length} bytes")
                end = at + 1 + length
                if end > len(buffer):
                    break
                body = bytes(buffer[at + 5 : end])
                at = end
                yield kind, body
        finally:
            del buffer[:at]


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Return one message."""
    return _HEAD.pack(kind, len(body) + 4) + body


def query(sql: str) -> bytes:
    """Return a simple Query."""
    return message(b"Q", sql.encode() + b"\0")


def text(body: bytes, at: int = 0) -> tuple[str, int]:
    """Return the zero-terminated string that begins here, and where the next field begins."""
    end = body.index(b"\0", at)
    return body[at:end].decode("utf-8", "replace"), end + 1


def int32(body: bytes, at: int = 0) -> int:
    """Return the 32-bit integer at this place."""
    value: int = _INT.unpack_from(body, at)[0]
    return value


def startup(parameters: Mapping[str, str]) -> bytes:
    """Return a StartupMessage."""
    pairs = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in parameters.items())
    body = _INT.pack(PROTOCOL) + pairs + b"\0"
    return _INT.pack(len(body) + 4) + body


def startup_parameters(body: bytes) -> dict[str, str]:
    """Return the parameters of a StartupMessage's body (after the protocol number)."""
    parts = body.split(b"\0")
    return {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in zip(parts[::2], parts[1::2], strict=False) if k}


def error_fields(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse or NoticeResponse, by their one-letter codes."""
    return {part[:1].decode(): part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}


def error(fields: Mapping[str, str], kind: bytes = b"E") -> bytes:
    """Return an ErrorResponse (or, with kind "N", a NoticeResponse) of these fields."""
    return message(kind, b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0")


def notice(severity: str, text_: str, code: str = "00000") -> bytes:
    """Return a NoticeResponse."""
    return error({"S": severity, "C": code, "M": text_}, b"N")


def parse(name: str, sql: str, types: Sequence[int] = ()) -> bytes:
    """Return a Parse message."""
    body = name.encode() + b"\0" + sql.encode() + b"\0" + _SHORT.pack(len(types)) + b"".join(map(_INT.pack, types))
    return message(b"P", body)


def run_named(name: str, sql: str) -> bytes:
    """Return the messages that run one statement in a portal of its own, which leaves the client's unnamed ones alone."""
    key = name.encode() + b"\0"
    return (
        parse(name, sql)
        + message(b"B", key + key + b"\0\0" * 3)
        + message(b"E", key + b"\0\0\0\0")
        + message(b"C", b"P" + key)
        + message(b"C", b"S" + key)
    )


def prepared(name: str, sql: str) -> bytes:
    """Return the messages that bind one statement to a portal of its own, in the place of an earlier one of that name."""
    key = name.encode() + b"\0"
    return message(b"C", b"S" + key) + parse(name, sql) + message(b"B", key + key + b"\0\0" * 3)


def data_row(body: bytes) -> list[str | None]:
    """Return the fields of a DataRow whose columns are in text format."""
    count = _SHORT.unpack_from(body, 0)[0]
    fields: list[str | None] = []
    at = 2
    for _ in range(count):
        length = _INT.unpack_from(body, at)[0]
        at += 4
        if length < 0:
            fields.append(None)
        else:
            fields.append(body[at : at + length].decode())
            at += length
    return fields
