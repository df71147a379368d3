"""Names for users: a pronounceable full name that is a pure function of the user id, and what may become one of a directory's."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from importlib import resources

_BYTES = 256
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def generated(user_id: str) -> str:
    """Return the name of a user: the same on every machine, in every replay and for ever."""
    first, last = _words()
    number = int.from_bytes(blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "big")
    number, a = divmod(number, len(first))
    number, b = divmod(number, len(first))
    return f"{first[a]} {first[b]} {last[number % len(last)]}"


def fitted(name: str | None) -> str | None:
    """
    Return a directory's name as its column takes it; None where it is none: blank, or the very text that is null to COPY.

    A control character or line separator becomes a space, half a character a question mark. What is longer than 256 bytes of UTF-8 is cut
    between two characters. The same name always comes to the same.
    """
    if name and not (name.isprintable() and len(name) <= _BYTES // 4):
        name = _CONTROL.sub(" ", name).encode("utf-8", "replace")[:_BYTES].decode("utf-8", "ignore")
    return name if name and name != "\\N" and not name.isspace() else None


@lru_cache(maxsize=1)
def _words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return first and last names, read once."""
    text = resources.files("polku").joinpath("names.txt").read_text(encoding="utf-8")
    first, last = (tuple(line for line in part.split("\n") if line and not line.startswith("#")) for part in text.split("\n\n")[1:3])
    return first, last
