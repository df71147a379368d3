"""
Delimited text, checked by the block and handed on nearly as it is.

A block is some hundred kilobytes of whole lines. Where its delimiters and newlines are is found for all of it at once, and with that the
number of fields of each line and the length of every field: a fault is looked for line by line only in a block that has one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from . import load_errors
from .load_errors import BadRow, Column, invalid_utf8
from .values import check_super

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MAX_ROW = 4 * 1024 * 1024
_NEWLINE = 10
_PLAIN = {
    "int2": re.compile(rb"-?\d{1,4}"), "int4": re.compile(rb"-?\d{1,9}"), "int8": re.compile(rb"-?\d{1,18}"),
    "date": re.compile(rb"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"), "bool": re.compile(rb"[tf]"),
    "float8": re.compile(rb"-?\d{1,9}(\.\d{1,6})?"),
}  # fmt: skip
"""Values that both read alike, by type; everything else goes the slow way."""
_SUPER_LOOK = 1000
"""A SUPER shorter than this can break neither limit: 65,535 bytes in a string, 1,000 levels."""
_PATTERN = np.frombuffer(b"dddd-dd-dd dd:dd:dd.dddddd", dtype=np.uint8)


class UncommonError(Exception):
    """A value is right in a form that PostgreSQL might read otherwise: this block has to be read field by field."""


class Blocks:
    """
    A checker of text blocks.

    Args:
        columns: What the fields of a line go to.
        delimiter: One byte.
        null: The text that means NULL.
        time_format: COPY's TIMEFORMAT, "" where it was not given.
    """

    def __init__(self, columns: Sequence[Column], delimiter: bytes, null: bytes, time_format: str = "") -> None:
        self._columns = columns
        self._delimiter = delimiter[0]
        self._null = null
        self._time_format = time_format

    def check(self, block: bytes) -> int:
        """
        Return how many rows are in a block.

        Args:
            block: Whole lines, each ended by a newline.

        Raises:
            UncommonError: It has to be read field by field.
            BadRow: The first of its rows that Redshift would not take; ``line`` counts from 0 in this block.
        """
        data = np.frombuffer(block, dtype=np.uint8)
        marks = np.flatnonzero((data == self._delimiter) | (data == _NEWLINE))
        width = len(self._columns)
        rows = len(marks) // width
        newlines = data[marks] == _NEWLINE
        if len(marks) % width or not self._regular(newlines, rows, width):
            self._find_width(block, marks, newlines)
        ends = marks.reshape(rows, width)
        starts = np.empty_like(ends)
        starts.ravel()[0:1] = 0
        starts.ravel()[1:] = marks[:-1] + 1
        lengths = ends - starts
        faults: list[tuple[int, BadRow]] = []
        self._text_faults(block, ends, faults)
        row_lengths = ends[:, -1] - starts[:, 0]
        if rows and int(row_lengths.max()) > MAX_ROW:
            first = int(np.argmax(row_lengths > MAX_ROW))
            faults.append((first, BadRow(*load_errors.ROW_TOO_LONG)))
        for number, column in enumerate(self._columns):
            fault = self._column_fault(block, data, column, starts[:, number], lengths[:, number])
            if fault:
                row, (code, reason) = fault
                start, end = int(starts[row, number]), int(ends[row, number])
                position = start - int(starts[row, 0])
                faults.append((row, BadRow(code, reason, column, raw_field=block[start:end], position=position)))
        if faults:
            row, bad = min(faults, key=lambda pair: pair[0])
            bad.line = row
            bad.raw_line = block[int(starts[row, 0]) : int(ends[row, -1])]
            raise bad
        return rows

    @staticmethod
    def _regular(newlines: NDArray[np.bool_], rows: int, width: int) -> bool:
        shaped = newlines.reshape(rows, width)
        return bool(shaped[:, -1].all()) and not bool(shaped[:, :-1].any())

    def _find_width(self, block: bytes, marks: NDArray[np.int64], newlines: NDArray[np.bool_]) -> None:
        """Raise for the first line that has too few or too many fields."""
        width = len(self._columns)
        lines = np.flatnonzero(newlines)
        counts = np.diff(lines, prepend=-1)
        line = int(np.argmax(counts != width))
        begin = int(marks[lines[line - 1]]) + 1 if line else 0
        raw = block[begin : int(marks[lines[line]])]
        code, reason = load_errors.DELIMITER_NOT_FOUND if counts[line] < width else load_errors.EXTRA_COLUMNS
        if counts[line] < width and not raw.strip():
            code, reason = load_errors.EMPTY_LINE
        if counts[line] < width:
            at = min(int(counts[line]) - 1, width - 1)
            raise BadRow(code, reason, self._columns[at], line, raw, position=len(raw))
        raise BadRow(code, reason, None, line, raw)

    @staticmethod
    def _text_faults(block: bytes, ends: NDArray[np.int64], faults: list[tuple[int, BadRow]]) -> None:
        if b"\0" in block:
            row = int(np.searchsorted(ends[:, -1], block.index(b"\0")))
            faults.append((row, BadRow(*load_errors.NUL)))
        if not block.isascii():
            try:
                block.decode()
            except UnicodeDecodeError as error:
                row = int(np.searchsorted(ends[:, -1], error.start))
                faults.append((row, BadRow(1220, invalid_utf8(block, error))))

    def _nulls(self, data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = lengths == len(self._null)
        for offset, byte in enumerate(self._null):
            if same.any():
                same = same & (data[np.minimum(starts + offset, len(data) - 1)] == byte)
        return same

    def _column_fault(  # noqa: C901
        self, block: bytes, data: NDArray[np.uint8], column: Column, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[int, tuple[int, str]] | None:
        if not len(starts):
            return None
        found: list[tuple[int, tuple[int, str]]] = []
        if column.not_null:
            nulls = self._nulls(data, starts, lengths)
            if nulls.any():
                found.append((int(np.argmax(nulls)), load_errors.MISSING))
        if column.kind == "varchar":
            if column.length and int(lengths.max()) > column.length:
                found.append((int(np.argmax(lengths > column.length)), load_errors.TOO_LONG))
            suspects: Iterator[int] = iter(())
        elif column.kind == "super":
            if not int(lengths.min()):
                raise UncommonError
            suspects = iter(np.flatnonzero(lengths >= _SUPER_LOOK).tolist())
        elif column.kind == "timestamp":
            suspects = iter(np.flatnonzero(~self._canonical(data, starts, lengths) & ~self._nulls(data, starts, lengths)).tolist())
        else:
            suspects = iter(np.flatnonzero(~self._nulls(data, starts, lengths)).tolist())
        for row in suspects:
            value = block[int(starts[row]) : int(starts[row] + lengths[row])]
            if column.kind == "super" and (fault := check_super(value)):
                found.append((row, fault))
                break
            if column.kind != "super" and not (column.kind in _PLAIN and _PLAIN[column.kind].fullmatch(value)):
                raise UncommonError
        return min(found) if found else None

    @staticmethod
    def _canonical(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which fields are ``YYYY-MM-DD HH:MM:SS.ffffff`` by their shape; PostgreSQL knows the calendar."""
        good: NDArray[np.bool_] = lengths == len(_PATTERN)
        which = np.flatnonzero(good)
        if not len(which):
            return good
        text = data[starts[which][:, None] + np.arange(len(_PATTERN))]
        digits = ord("d") == _PATTERN
        fits = ((text[:, digits] - ord("0")) <= 9).all(axis=1) & (text[:, ~digits] == _PATTERN[~digits]).all(axis=1)  # noqa: PLR2004
        good[which] = fits
        return good


def escaped(block: bytes) -> bytes:
    """Return a block as PostgreSQL's text format wants it: a backslash is an escape there and a character here."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
        return block.replace(b"\\", b"\\\\").replace(b"\r", b"\\r")
    return block.replace(b"\\", b"\\\\")
