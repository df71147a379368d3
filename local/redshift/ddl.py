"""CREATE TABLE and ALTER TABLE: Redshift's attributes of storage are read and left out, its keys are noted and not enforced."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import RedshiftError, not_here, refused, syntax
from .tokens import groups, join, literal, solid
from .types import column_type

if TYPE_CHECKING:
    from .tokens import Token

_ENCODINGS = {
    "AUTO", "RAW", "AZ64", "BYTEDICT", "DELTA", "DELTA32K", "LZO", "MOSTLY8", "MOSTLY16", "MOSTLY32", "RUNLENGTH", "TEXT255",
    "TEXT32K", "ZSTD",
}  # fmt: skip
_STYLES = {"EVEN", "KEY", "ALL", "AUTO"}


@dataclass
class Storage:
    """How Redshift would store a table: for SVV_TABLE_INFO, PG_TABLE_DEF and the hidden index on the sort key."""

    distkey: str = ""
    diststyle: str = ""
    sortkey: list[str] = field(default_factory=list)
    encodings: dict[str, str] = field(default_factory=dict)
    supers: set[str] = field(default_factory=set)
    table: str = ""
    kinds: dict[str, str] = field(default_factory=dict)

    def after(self) -> tuple[str, ...]:
        """
        Return what to run when the table is made: a note for the catalog, and an index of block ranges on the sort key.

        It is what Redshift's zone maps are: a range of the sort key reads few blocks.
        """
        encodings = ",".join(f"{name}={kind}" for name, kind in self.encodings.items())
        values = ", ".join(literal(value) for value in (self.table, self.diststyle, self.distkey, ",".join(self.sortkey), encodings))
        statements = [f"select pg_redshift.note_storage({values})"]
        if self.sortkey and not any(self.kinds.get(name, "super") in ("super", "boolean") for name in self.sortkey):
            name = self.table.rsplit(".", 1)[-1].strip('"')[:40]
            columns = ", ".join('"' + column + '"' for column in self.sortkey)
            statements.append(
                f'create index if not exists "redshift_zone_map_{name}" on {self.table} using brin ({columns}) with (autosummarize = on)'
            )
        return tuple(statements)


def create_table(tokens: list[Token]) -> tuple[str, Storage]:
    """
    Return PostgreSQL's CREATE TABLE, and how Redshift would store the table.

    Raises:
        RedshiftError: For what Redshift refuses and what we cannot do.
    """
    s = solid(tokens)
    at = 1
    head = ["create"]
    if s[at].key == "LOCAL":
        at += 1
    if s[at].key in ("GLOBAL", "UNLOGGED"):
        raise syntax(s[at].text)
    if s[at].key in ("TEMP", "TEMPORARY"):
        head.append("temporary")
        at += 1
    at += 1  # TABLE
    head.append("table")
    if [t.key for t in s[at : at + 3]] == ["IF", "NOT", "EXISTS"]:
        head.append("if not exists")
        at += 3
    name, at = _table_name(s, at)
    if "#" in name and "temporary" not in head:
        head.insert(1, "temporary")
    head.append(name)
    storage = Storage(table=name)
    columns: list[str] = []
    if at < len(s) and s[at].key == "(":
        parts, end = groups(s, at)
        if (end + 1 < len(s) and s[end + 1].key == "AS") or not _definitions(parts):
            columns = [" ".join(t.text for t in part) for part in parts]
        else:
            columns = _columns(parts, name, storage)
        at = end + 1
    at = _attributes(s, at, storage)
    text = " ".join(head) + (f" ({', '.join(columns)})" if columns else "")
    if at < len(s) and s[at].key == "AS":
        start = next(i for i, t in enumerate(tokens) if t is s[at])
        return f"{text} {join(tokens[start:])}", storage
    if at < len(s):
        raise syntax(s[at].text)
    return text, storage


def _definitions(parts: list[list[Token]]) -> bool:
    """Whether these are column definitions, and not the bare names of a CREATE TABLE ... (a, b) AS."""
    return any(len(part) > 1 for part in parts)


def _table_name(s: list[Token], at: int) -> tuple[str, int]:
    name = s[at].text
    at += 1
    while at + 1 < len(s) and s[at].key == ".":
        name += "." + s[at + 1].text
        at += 2
    return name, at


def _columns(parts: list[list[Token]], table: str, storage: Storage) -> list[str]:
    columns: list[tuple[str, str]] = []
    required: set[str] = set()
    for part in parts:
        if not part:
            raise RedshiftError('syntax error at or near ","', "42601")
        first = part[0].key
        if first == "CONSTRAINT":
            part = part[2:]  # noqa: PLW2901
            first = part[0].key if part else ""
        following = part[1].key if len(part) > 1 else ""
        if first == "PRIMARY" and following == "KEY":
            required |= {t.name for t in part[2:] if t.name}
        elif (first == "UNIQUE" and following == "(") or (first == "FOREIGN" and following == "KEY"):
            pass
        elif first == "CHECK" and following == "(":
            raise refused("CHECK constraints are not supported")
        elif first == "EXCLUDE":
            raise syntax(part[0].text)
        elif first == "LIKE":
            columns.append(("", _like(part)))
        else:
            columns.append((part[0].name, _column(part, table, storage, required)))
    return [text + (" not null" if name in required and " not null" not in text else "") for name, text in columns]


def _like(part: list[Token]) -> str:
    parent, at = _table_name(part, 1)
    options = [t.key for t in part[at:]]
    if options not in ([], ["INCLUDING", "DEFAULTS"], ["EXCLUDING", "DEFAULTS"]):
        raise syntax(part[at].text)
    return f"like {parent} {' '.join(options).lower()}".rstrip()


def _column(part: list[Token], table: str, storage: Storage, required: set[str]) -> str:  # noqa: C901, PLR0912
    name = part[0].text
    kind, at = column_type(part, 1, f"{table.rsplit('.', 1)[-1]}.{part[0].name}")
    words = [name, kind]
    storage.kinds[part[0].name] = kind
    if kind == "super":
        storage.supers.add(part[0].name)
    while at < len(part):
        key = part[at].key
        following = part[at + 1].key if at + 1 < len(part) else ""
        if key == "ENCODE":
            storage.encodings[part[0].name] = _encoding(part[at + 1])
            at += 2
        elif key == "DISTKEY":
            storage.distkey = part[0].name
            at += 1
        elif key == "SORTKEY":
            storage.sortkey.append(part[0].name)
            at += 1
        elif key == "PRIMARY" and following == "KEY":
            required.add(part[0].name)
            at += 2
        elif key == "UNIQUE":
            at += 1
        elif key == "REFERENCES":
            _, at = _table_name(part, at + 1)
            if at < len(part) and part[at].key == "(":
                at = groups(part, at)[1] + 1
        elif key in ("NOT", "NULL"):
            words.append("not null" if key == "NOT" else "null")
            at += 2 if key == "NOT" else 1
        elif key == "IDENTITY":
            seed, at = _identity(part, at)
            words.append(f"generated always as identity {seed}")
        elif key == "GENERATED":
            if [t.key for t in part[at : at + 5]] != ["GENERATED", "BY", "DEFAULT", "AS", "IDENTITY"]:
                raise syntax(part[at].text)
            seed, at = _identity(part, at + 4)
            words.append(f"generated by default as identity {seed}")
        elif key == "COLLATE":
            raise not_here("COLLATE")
        elif key == "DEFAULT":
            end = _expression_end(part, at + 1)
            words.append("default " + " ".join(t.text for t in part[at + 1 : end]))
            at = end
        elif key == "CHECK":
            raise refused("CHECK constraints are not supported")
        else:
            raise syntax(part[at].text)
    return " ".join(words)


def _encoding(token: Token) -> str:
    if token.key not in _ENCODINGS:
        raise RedshiftError(f'invalid encoding type specified for column: "{token.text}"', "42601")
    return token.key.lower()


def _identity(part: list[Token], at: int) -> tuple[str, int]:
    inside, end = groups(part, at + 1)
    numbers = ["".join(t.text for t in piece) for piece in inside]
    if len(numbers) != 2:  # noqa: PLR2004
        raise syntax(part[at].text)
    low = "" if not numbers[1].startswith("-") else " minvalue -9000000000000000000 maxvalue 9000000000000000000"
    low = low or (f" minvalue {numbers[0]}" if int(numbers[0]) < 1 else "")
    return f"(start with {numbers[0]} increment by {numbers[1]}{low})", end + 1


_AFTER_DEFAULT = {
    "ENCODE",
    "DISTKEY",
    "SORTKEY",
    "NOT",
    "NULL",
    "UNIQUE",
    "PRIMARY",
    "REFERENCES",
    "IDENTITY",
    "GENERATED",
    "COLLATE",
    "CHECK",
}


def _expression_end(part: list[Token], at: int) -> int:
    depth = 0
    for i in range(at, len(part)):
        depth += {"(": 1, ")": -1}.get(part[i].key, 0)
        if not depth and i > at and part[i].key in _AFTER_DEFAULT:
            return i
    return len(part)


def _attributes(s: list[Token], at: int, storage: Storage) -> int:
    while at < len(s) and s[at].key != "AS":
        key = s[at].key
        following = s[at + 1].key if at + 1 < len(s) else ""
        if key == "DISTSTYLE":
            if following not in _STYLES:
                raise syntax(s[at + 1].text if at + 1 < len(s) else key)
            storage.diststyle = following
            at += 2
        elif key == "DISTKEY" and following == "(":
            inside, end = groups(s, at + 1)
            storage.distkey = inside[0][0].name
            at = end + 1
        elif key in ("COMPOUND", "INTERLEAVED") and following == "SORTKEY":
            at += 1
        elif key == "SORTKEY" and following == "(":
            inside, end = groups(s, at + 1)
            storage.sortkey = [piece[0].name for piece in inside]
            at = end + 1
        elif (
            (key == "SORTKEY" and following == "AUTO")
            or (key == "ENCODE" and following == "AUTO")
            or (key == "BACKUP" and following in ("YES", "NO"))
        ):
            at += 2
        else:
            raise syntax(s[at].text)
    return at


def alter_table(tokens: list[Token]) -> str:
    """
    Return PostgreSQL's ALTER TABLE; "" where it is only about storage, which changes nothing here.

    Raises:
        RedshiftError: For what Redshift refuses and what we cannot do.
    """
    s = solid(tokens)
    name, at = _table_name(s, 2)
    keys = [t.key for t in s[at:]]
    if keys[:1] == ["APPEND"]:
        raise not_here("ALTER TABLE APPEND")
    if keys[:1] == ["ADD"] and keys[1:2] not in (["CONSTRAINT"], ["PRIMARY"], ["UNIQUE"], ["FOREIGN"], ["PARTITION"], ["CHECK"]):
        part = s[at + 1 + (keys[1:2] == ["COLUMN"]) :]
        if any(t.key == "," for t in part) and len(groups(s[:0] + _wrapped(part), 0)[0]) > 1:
            raise RedshiftError('syntax error at or near ","', "42601")
        required: set[str] = set()
        text = _column(part, name, Storage(), required)
        if " not null" in text and " default " not in text:
            raise RedshiftError("ALTER TABLE ADD COLUMN defined as NOT NULL must have a non-null default expression", "0A000")
        return f"alter table {name} add column {text}"
    if keys[:1] == ["ADD"]:
        if "CHECK" in keys:
            raise refused("CHECK constraints are not supported")
        return ""
    if keys[:1] == ["ALTER"]:
        return _alter_column(s, at, name)
    if keys[:2] == ["DROP", "CONSTRAINT"]:
        return ""
    if keys[:1] == ["DROP"] or keys[:1] == ["RENAME"] or keys[:2] == ["OWNER", "TO"]:
        return join(tokens)
    raise syntax(s[at].text if at < len(s) else s[-1].text)


def _wrapped(part: list[Token]) -> list[Token]:
    kind = type(part[0])
    return [kind("symbol", "(", "("), *part, kind("symbol", ")", ")")]


def _alter_column(s: list[Token], at: int, name: str) -> str:
    keys = [t.key for t in s[at:]]
    if keys[1:2] in (["DISTKEY"], ["DISTSTYLE"], ["SORTKEY"], ["COMPOUND"], ["ENCODE"]):
        return ""
    start = at + 1 + (keys[1:2] == ["COLUMN"])
    column = s[start].text
    if [t.key for t in s[start + 1 : start + 2]] == ["TYPE"]:
        kind, end = column_type(s, start + 2, f"{name}.{column}")
        if end < len(s) or not kind.startswith("character varying"):
            raise refused(f'cannot alter column "{column}" of relation "{name}", target column type must be varchar')
        return f"alter table {name} alter column {column} type {kind}"
    if [t.key for t in s[start + 1 : start + 2]] == ["ENCODE"]:
        return ""
    raise syntax(s[start + 1].text if start + 1 < len(s) else column)
