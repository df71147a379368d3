"""COPY ... FROM 's3://...': its grammar, as Amazon documents it, read into a value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import RedshiftError, not_here, syntax
from .tokens import groups, literal, solid, string_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tokens import Token

_ROLE = re.compile(r"(default|arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+(,arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+)*)")
_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.*)", re.DOTALL)


@dataclass(frozen=True)
class CopyCommand:
    """
    One COPY.

    Args:
        table: The target as it was written, maybe with its schema.
        columns: The column list, lower case; empty where there is none.
        bucket: S3 bucket of the manifest or of the prefix.
        key: Key of the manifest, or the prefix of keys.
        manifest: The key is a manifest's.
        format: "text", "csv" or "json".
        compression: "", "gzip", "zstd" or "bzip2".
        delimiter: One byte.
        null: The text that means NULL.
        quote: CSV's quote, one byte.
        options: What else was set: upper-case names.
    """

    table: str
    bucket: str
    key: str
    columns: tuple[str, ...] = ()
    manifest: bool = False
    format: str = "text"
    compression: str = ""
    delimiter: bytes = b"|"
    null: bytes = b"\\N"
    quote: bytes = b'"'
    ignore_header: int = 0
    date_format: str = ""
    time_format: str = ""
    json_paths: str = "auto"
    replacement: str | None = None
    options: frozenset[str] = field(default_factory=frozenset)

    def target_sql(self, *, as_it_is: bool, columns: Sequence[str] = ()) -> str:
        """
        Return PostgreSQL's COPY that takes the rows, in its own text format whatever the files' format is.

        Args:
            as_it_is: The rows come with the files' own delimiter and NULL, whose backslashes are doubled.
            columns: The column list; that of the statement where none is given.
        """
        names = ", ".join(_quoted(c) for c in columns or self.columns)
        delimiter, null = (self.delimiter.decode(), self.null.decode().replace("\\", "\\\\")) if as_it_is else ("\x01", "\\N")
        target = f"{self.table} ({names})" if names else self.table
        return f"copy {target} from stdin with (format text, delimiter {literal(delimiter)}, null {literal(null)})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_FLAGS = {"ESCAPE", "EMPTYASNULL", "BLANKSASNULL", "TRIMBLANKS", "REMOVEQUOTES", "TRUNCATECOLUMNS", "IGNOREBLANKLINES", "FILLRECORD",
    "IGNOREALLERRORS",
          "ACCEPTANYDATE", "ROUNDEC", "EXPLICIT_IDS", "NOLOAD", "ENCRYPTED", "SSH"}  # fmt: skip
_FLAGS_HERE = {"ESCAPE", "EMPTYASNULL", "BLANKSASNULL", "TRIMBLANKS", "REMOVEQUOTES", "TRUNCATECOLUMNS", "IGNOREBLANKLINES", "FILLRECORD"}
_FORMATS = {"CSV", "JSON", "PARQUET", "ORC", "AVRO", "FIXEDWIDTH", "SHAPEFILE"}
_COMPRESSIONS = {"GZIP", "ZSTD", "BZIP2", "LZOP"}


def parse_copy(tokens: list[Token]) -> CopyCommand:  # noqa: C901, PLR0912, PLR0915
    """
    Return what this statement asks for.

    Raises:
        RedshiftError: Redshift would refuse it, or we cannot do it.
    """
    s = solid(tokens)
    at = 1
    table = s[at].text
    at += 1
    while s[at].key == ".":
        table += "." + s[at + 1].text
        at += 2
    columns: list[str] = []
    if s[at].key == "(":
        parts, end = groups(s, at)
        columns = [part[0].name for part in parts if part]
        at = end + 1
    if s[at].key != "FROM":
        raise syntax(s[at].text)
    at += 1
    if s[at].kind != "string":
        raise syntax(s[at].text)
    source = string_value(s[at])
    match = _S3.fullmatch(source)
    if not match:
        if source.startswith("s3://"):
            raise RedshiftError(f"The S3 path {source} is not valid.", "XX000")
        raise not_here(f"COPY from {source.split('://')[0]}://" if "://" in source else "COPY from a DynamoDB table, SSH or a local file")
    at += 1
    values: dict[str, object] = {}
    options: set[str] = set()
    role = ""

    def word(i: int) -> str:
        return s[i].key if i < len(s) else ""

    def text(i: int) -> tuple[str, int]:
        if word(i) == "AS":
            i += 1
        if i >= len(s) or s[i].kind != "string":
            raise syntax(s[i].text if i < len(s) else "end of input")
        return string_value(s[i]), i + 1

    def byte(i: int, what: str) -> tuple[bytes, int]:
        value, i = text(i)
        if len(value) != 1 or ord(value) > 127:  # noqa: PLR2004
            raise RedshiftError(f"COPY {what} must be a single ASCII character", "0A000")
        return value.encode(), i

    while at < len(s):
        key = word(at)
        if key == "WITH":
            at += 1
        elif key == "IAM_ROLE":
            if word(at + 1) == "DEFAULT":
                role, at = "default", at + 2
            else:
                role, at = text(at + 1)
            if not _ROLE.fullmatch(role):
                raise RedshiftError(f"Invalid IAM role: {role[:80]}" if role.startswith("arn:") else "The IAM role is not valid", "XX000")
        elif key in ("CREDENTIALS", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
            raise not_here("COPY with keys in the statement (use IAM_ROLE)")
        elif key == "MANIFEST":
            values["manifest"] = True
            at += 1
        elif key in ("FORMAT", "DATA"):
            at += 1
            if word(at) == "FORMAT":
                at += 1
            if word(at) == "AS":
                at += 1
            if word(at) not in _FORMATS:
                raise syntax(s[at].text if at < len(s) else "end of input")
        elif key in _FORMATS:
            if key not in ("CSV", "JSON"):
                raise not_here(f"COPY FORMAT {key}")
            values["format"] = key.lower()
            values.setdefault("delimiter", b",")
            at += 1
            if key == "JSON":
                if word(at) == "AS":
                    at += 1
                if at < len(s) and s[at].kind == "string":
                    path, at = text(at)
                    if path not in ("auto", "auto ignorecase"):
                        raise not_here("COPY JSON with a jsonpaths file or 'noshred'")
                    values["json_paths"] = path
        elif key == "QUOTE":
            values["quote"], at = byte(at + 1, "QUOTE")
        elif key == "DELIMITER":
            values["delimiter"], at = byte(at + 1, "DELIMITER")
            options.add("DELIMITER")
        elif key == "NULL":
            value, at = text(at + 1)
            values["null"] = b"\\N" if s[at - 1].text == r"'\N'" else value.encode()
        elif key in _COMPRESSIONS:
            if key == "LZOP":
                raise not_here("COPY LZOP")
            values["compression"] = key.lower()
            at += 1
        elif key == "IGNOREHEADER":
            at += 1 + (word(at + 1) == "AS")
            values["ignore_header"] = _number(s, at, "IGNOREHEADER")
            at += 1
        elif key == "DATEFORMAT":
            values["date_format"], at = text(at + 1)
        elif key == "TIMEFORMAT":
            values["time_format"], at = text(at + 1)
        elif key == "ACCEPTINVCHARS":
            at += 1
            values["replacement"] = "?"
            if word(at) == "AS" or (at < len(s) and s[at].kind == "string"):
                replacement, at = byte(at, "ACCEPTINVCHARS")
                values["replacement"] = replacement.decode()
        elif key == "MAXERROR":
            at += 1 + (word(at + 1) == "AS")
            if _number(s, at, "MAXERROR"):
                raise not_here("COPY with MAXERROR other than 0")
            at += 1
        elif key in ("COMPUPDATE", "STATUPDATE"):
            at += 1
            if word(at) in ("ON", "OFF", "TRUE", "FALSE", "PRESET"):
                at += 1
        elif key == "REGION":
            _, at = text(at + 1)
        elif key == "ENCODING":
            at += 1 + (word(at + 1) == "AS")
            name = s[at].name.upper() if s[at].kind != "string" else string_value(s[at]).upper()
            if name not in ("UTF8", "AUTO"):
                raise not_here(f"COPY ENCODING {name}")
            at += 1
        elif key in ("COMPROWS", "READRATIO"):
            at += 2
        elif key in _FLAGS:
            if key not in _FLAGS_HERE:
                raise not_here(f"COPY {key}")
            options.add(key)
            at += 1
        else:
            raise syntax(s[at].text)
    if not role:
        raise RedshiftError(
            "COPY requires IAM_ROLE or CREDENTIALS",
            "XX000",
            hint="The local Redshift takes iam_role 'arn:aws:iam::000000000000:role/any' and iam_role default.",
        )
    fmt = values.get("format", "text")
    if fmt == "csv" and options & {"ESCAPE", "REMOVEQUOTES"}:
        raise RedshiftError(f"{min(options & {'ESCAPE', 'REMOVEQUOTES'})} option is not supported for CSV", "0A000")
    if fmt == "json" and (options & {"ESCAPE", "REMOVEQUOTES", "DELIMITER", "FILLRECORD"}):
        raise RedshiftError("The JSON format takes no DELIMITER, ESCAPE, REMOVEQUOTES or FILLRECORD", "0A000")
    return CopyCommand(table=table, bucket=match[1], key=match[2], columns=tuple(columns), options=frozenset(options), **values)  # type: ignore[arg-type]


def _number(s: list[Token], at: int, what: str) -> int:
    if at >= len(s) or not s[at].text.isdigit():
        raise syntax(s[at].text if at < len(s) else what)
    return int(s[at].text)
