"""
SQL as tokens: what a rewrite may touch and what it may not.

Strings, quoted names and comments are tokens of their own, so nothing in them is ever taken for SQL. Every byte of the
statement is in exactly one token; joining their texts gives the statement back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PATTERN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<string>[eE]?'(?:[^'\\]|''|\\.)*')
    | (?P<dollar>\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$)
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<word>[^\W\d][\w$\#]*|\#[^\W\d][\w$\#]*)
    | (?P<parameter>\$\d+)
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<symbol>::|<>|!=|<=|>=|\|\||->>|->|\#>>|\#>|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class Token:
    """
    A piece of SQL; ``text`` may be replaced.

    Args:
        kind: "space" (comments too), "string", "dollar", "quoted", "word", "parameter", "number" or "symbol".
        text: The piece as it was written.
        key: Words in upper case, symbols as they are, "" for everything else: what the grammar goes by.
    """

    kind: str
    text: str
    key: str

    @property
    def name(self) -> str:
        """The identifier that this word or quoted name stands for; "" where it is neither."""
        if self.kind == "word":
            return self.text.lower()
        if self.kind == "quoted":
            return self.text[1:-1].replace('""', '"').lower()
        return ""


def tokenize(sql: str) -> list[Token]:
    """Return the tokens of a text, white space and comments included."""
    tokens: list[Token] = []
    at = 0
    while at < len(sql):
        match = _PATTERN.match(sql, at)
        if match is None:  # pragma: no cover  (the last alternative takes anything)
            raise ValueError(f"cannot read SQL at {at}")
        kind = str(match.lastgroup) if match.lastgroup != "tag" else "dollar"
        end = match.end()
        if kind == "comment":
            kind, end = "space", _comment_end(sql, at)
        piece = sql[at:end]
        key = piece.upper() if kind == "word" else piece if kind == "symbol" else ""
        tokens.append(Token(kind, piece, key))
        at = end
    return tokens


def _comment_end(sql: str, at: int) -> int:
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    return len(sql)


def statements(sql: str) -> list[list[Token]]:
    """Return the statements of a text, cut at semicolons, without the empty ones."""
    found: list[list[Token]] = []
    current: list[Token] = []
    for token in tokenize(sql):
        if token.key == ";":
            found.append(current)
            current = []
        else:
            current.append(token)
    found.append(current)
    return [s for s in found if any(t.kind != "space" for t in s)]


def solid(tokens: Iterable[Token]) -> list[Token]:
    """Return the tokens that mean something."""
    return [t for t in tokens if t.kind != "space"]


def join(tokens: Iterable[Token]) -> str:
    """Return the SQL that these tokens are."""
    return "".join(t.text for t in tokens)


def groups(tokens: list[Token], at: int) -> tuple[list[list[Token]], int]:
    """Return the comma-separated parts of the parenthesis that opens at this token, and the index of its closing one."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for i in range(at, len(tokens)):
        key = tokens[i].key
        if key == "(":
            depth += 1
            if depth == 1:
                continue
        elif key == ")":
            depth -= 1
            if not depth:
                return parts, i
        elif key == "," and depth == 1:
            parts.append([])
            continue
        parts[-1].append(tokens[i])
    return parts, len(tokens)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def string_value(token: Token) -> str:
    """Return what a string token stands for: Redshift takes a backslash as an escape, as PostgreSQL 8 did."""
    body = token.text[token.text.index("'") + 1 : -1]

    def one(match: re.Match[str]) -> str:
        piece = match[0]
        if piece == "''":
            return "'"
        if piece[1] in "01234567":
            return chr(int(piece[1:], 8) & 255)
        return _ESCAPES.get(piece[1], piece[1])

    return re.sub(r"''|\\[0-7]{1,3}|\\.", one, body, flags=re.DOTALL)


def literal(value: str) -> str:
    """Return a string as SQL, whatever is in it."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def words(tokens: Iterable[Token]) -> Iterator[str]:
    """Yield the keys of solid tokens."""
    return (t.key for t in tokens if t.kind != "space")
