"""
Files of the S3 buffer, cut into the values that stand in them, in bounded memory.

A file is plain, gzip (of any number of members) or zstd (of any number of frames), told by its first bytes, never by its name.
In it stand JSON values: one a line, one after another with or without anything between (as Amazon Data Firehose writes), printed over
several lines, or as one array. What is cut out here need not be valid JSON; whoever reads it finds out.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 4 * 1024 * 1024
"""Bytes that cannot be read go aside in pieces of at most this size."""

SIZE_LIMIT = 16 * 1024 * 1024 * 1024
"""So many bytes a file may hold, decompressed."""

_CHUNK = 1024 * 1024
_VALUE_LIMIT = 16 * 1024 * 1024
_PIECES = 16
_WINDOW = 32 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_BOM = b"\xef\xbb\xbf"
_BOMS = (b"\xff\xfe", b"\xfe\xff")
_WHITE = b" \t\r\n"
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}"]', re.DOTALL)
_BETWEEN = re.compile(rb"[\s,]*")
_RESYNC = re.compile(rb"\n\{|\}\{")


class Values(NamedTuple):
    """Values as they stand in the file, lines without their ends, and the decompressed bytes that they were cut from."""

    values: list[bytes]
    size: int


class Unreadable(NamedTuple):
    """Bytes of the file that hold no value: a reason from ``events.REASONS``, what was found, and the bytes."""

    reason: str
    detail: str
    data: bytes


class _Damaged(Exception):
    """The compressed file cannot be read on; carries what was found and the compressed bytes at fault."""

    def __init__(self, detail: str, data: bytes, reason: str = "file_damaged") -> None:
        super().__init__(detail)
        self.detail = detail
        self.data = data
        self.reason = reason


def cut(stream: BinaryIO, limit: int = SIZE_LIMIT) -> Iterator[Values | Unreadable]:
    """
    Yield what stands in a file, in its order.

    Args:
        stream: The file's bytes; read in pieces, so that a file of any size takes some 40 MB of memory at most.
        limit: So many decompressed bytes are read at most.
    """
    source = _Text(_decompressed(stream, limit))
    start = b""
    while source.more() and not (start := source.buffer.lstrip(_WHITE)[:2]):
        if len(source.buffer) > PIECE:
            source.buffer = b""
    if not start:
        yield Values([], source.take())
    elif start[:1] not in (b"{", b"[") or b"\0" in start:
        yield from _not_json(source)
    elif _is_lines(source):
        yield from _lines(source)
    else:
        yield from _scanned(source)
    if source.damage:
        yield source.damage


class _Text:
    """A buffer of decompressed bytes that is filled as it is used up."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._first = True
        self.mark = b""
        self.buffer = b""
        self.read = 0
        self.damage: Unreadable | None = None

    def more(self) -> bool:
        """Add a chunk to the buffer; False at the end, or where the file is damaged."""
        if self.damage:
            return False
        try:
            chunk = next(self._chunks, b"")
        except _Damaged as error:
            self.damage = Unreadable(error.reason, f"{error.detail}, after {self.read} bytes that could be read", error.data)
            return False
        ended = not chunk
        self.read += len(chunk)
        if self._first:
            self._first = False
            if chunk.startswith(_BOM):
                self.mark, chunk = _BOM, chunk[len(_BOM) :]
        self.buffer += chunk
        return not ended

    def take(self) -> int:
        """Return how many decompressed bytes were read since the last call."""
        taken, self.read = self.read, 0
        return taken


def _decompressed(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """Yield the file's bytes, decompressed, in chunks of bounded size; raises _Damaged where it cannot go on."""
    head = _read(stream, _CHUNK)
    if head.startswith(_GZIP):
        chunks = _gunzipped(head, stream)
    elif head.startswith(_ZSTD):
        chunks = _unzstd(head, stream)
    else:
        chunks = _plain(head, stream)
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            yield chunk[: limit - total]
            raise _Damaged(f"more than {limit} bytes when decompressed", b"", "file_too_large")
        yield chunk


def _plain(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    while head:
        yield head
        head = _read(stream, _CHUNK)


def _gunzipped(data: bytes, stream: BinaryIO) -> Iterator[bytes]:
    """Yield what the members of a gzip file hold; zeros after the last one are padding."""
    inflate = zlib.decompressobj(wbits=31)
    while data:
        before = inflate.copy()
        try:
            chunk = inflate.decompress(data, _CHUNK)
        except zlib.error as error:
            yield from _salvaged(before, data)
            raise _Damaged(f"gzip: {error}", data[:PIECE]) from error
        if chunk:
            yield chunk
        if inflate.eof:
            data = inflate.unused_data.lstrip(b"\0") or _read(stream, _CHUNK).lstrip(b"\0")
            if not data:
                return
            inflate = zlib.decompressobj(wbits=31)
        else:
            data = inflate.unconsumed_tail or _read(stream, _CHUNK)
    if rest := inflate.flush():
        yield rest
    if not inflate.eof:
        raise _Damaged("gzip: the file is cut off", b"")


def _salvaged(inflate: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """Yield what can be had of a damaged piece, by going up to the damage in ever smaller steps."""
    for step in (4096, 64, 1):
        while data:
            before = inflate.copy()
            try:
                chunk = inflate.decompress(data[:step], _CHUNK)
            except zlib.error:
                inflate = before
                break
            data = inflate.unconsumed_tail + data[step:]
            if chunk:
                yield chunk


def _unzstd(data: bytes, stream: BinaryIO) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    inflate = decompressor.decompressobj()
    while data:
        pending = memoryview(data)
        while pending:
            step, pending = pending[:512], pending[512:]
            try:
                chunk = inflate.decompress(step)
            except zstandard.ZstdError as error:
                raise _Damaged(f"zstd: {error}", bytes(step) + bytes(pending[: PIECE - 512])) from error
            if chunk:
                yield chunk
            if inflate.eof:
                pending = memoryview(inflate.unused_data + bytes(pending))
                inflate = decompressor.decompressobj()
                fresh = True
            else:
                fresh = False
        data = _read(stream, _CHUNK)
    if not fresh:
        raise _Damaged("zstd: the file is cut off", b"")


def _read(stream: BinaryIO, size: int) -> bytes:
    return stream.read(size) or b""


def _not_json(source: _Text) -> Iterator[Values | Unreadable]:
    """Yield a file that is no JSON in pieces, up to a bound; the raw archive holds it whole."""
    detail = "the file begins with neither { nor ["
    if source.buffer.startswith(_BOMS) or b"\0" in source.buffer[:4]:
        detail = "the file is UTF-16 or UTF-32; expected UTF-8"
    for number in range(_PIECES):
        while len(source.buffer) <= PIECE and source.more():
            pass
        piece, source.buffer = source.buffer[:PIECE], source.buffer[PIECE:]
        yield Values([], source.take())
        if piece.strip(_WHITE) or number == 0:
            yield Unreadable("file_not_json", detail, source.mark + piece if number == 0 else piece)
        if not source.buffer:
            return
    yield Unreadable("file_not_json", f"{detail}; only its first {_PIECES * PIECE} bytes are here, the rest is in the raw object", b"")


def _is_lines(source: _Text) -> bool:
    """Tell whether the file's first line that is not empty is a whole value, as it is in JSON lines."""
    while b"\n" not in source.buffer.lstrip(_WHITE) and len(source.buffer) < 2 * _CHUNK and source.more():
        pass
    line = source.buffer.lstrip(_WHITE).partition(b"\n")[0]
    return _end_of_value(line, 0) == len(line.rstrip(_WHITE))


def _end_of_value(data: bytes, start: int) -> int:
    """Return where the object or array that begins at ``start`` ends; -1 where it does not."""
    depth = 0
    for match in _TOKEN.finditer(data, start):
        token = data[match.start()]
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
            if depth <= 0:
                return match.end()
        elif match.end() - match.start() == 1:
            return -1
    return -1


def _lines(source: _Text) -> Iterator[Values | Unreadable]:
    """Yield the lines of a file."""
    more = True
    while more:
        more = source.more()
        end = source.buffer.rfind(b"\n") + 1 if more else len(source.buffer)
        if not end and len(source.buffer) < _VALUE_LIMIT:
            continue
        if not end:
            end = PIECE
        lines, source.buffer = source.buffer[:end], source.buffer[end:]
        found = lines.replace(b"\r\n", b"\n").split(b"\n")
        yield Values([line for line in found if line and not line.isspace()], source.take())


def _scanned(source: _Text) -> Iterator[Values | Unreadable]:
    """Yield the values of a file that keeps to no lines."""
    source.buffer = source.buffer.lstrip(_WHITE)
    in_array = source.buffer.startswith(b"[")
    if in_array:
        source.buffer = source.buffer[1:]
    more = True
    while more or source.buffer:
        values, rest = split(source.buffer, whole=not more, in_array=in_array)
        source.buffer = rest
        yield Values(values, source.take())
        if not more and not values:
            break
        if len(rest) > _VALUE_LIMIT:
            yield Values([rest[:PIECE]], 0)
            source.buffer = rest[PIECE:]
        elif more:
            more = source.more()


def split(data: bytes, *, whole: bool = True, in_array: bool = False) -> tuple[list[bytes], bytes]:
    """
    Return the values that stand one after another in some text, and what is left of it.

    Args:
        data: The text.
        whole: Nothing follows, so what is left is a value too, a broken one.
        in_array: A closing bracket between values ends the array.
    """
    values: list[bytes] = []
    position = 0
    while True:
        match = _BETWEEN.match(data, position)
        start = match.end() if match else position
        if start >= len(data):
            return values, b""
        first = data[start]
        if first in b"[{":
            end = _end_of_value(data, start)
        elif in_array and first in b"]":
            position = start + 1
            continue
        else:
            end = _end_of_scalar(data, start, whole=whole)
        if end < 0:
            if not whole:
                return values, data[start:]
            resync = _RESYNC.search(data, start + 1)
            end = resync.start() + 1 if resync else len(data)
        values.append(data[start:end].strip())
        position = end


def _end_of_scalar(data: bytes, start: int, *, whole: bool) -> int:
    """Return where something that is neither object nor array ends: at the next of them, at a comma or the end of the line."""
    match = re.compile(rb'(?:"[^"\\\n]*(?:\\.[^"\\\n]*)*"|[^][{},\n])+').match(data, start)
    end = match.end() if match else start + 1
    return end if end < len(data) or whole else -1
