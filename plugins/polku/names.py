"""Names for users: a pronounceable full name that is a pure function of the user id."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from importlib import resources


def generated(user_id: str) -> str:
    """Return the name of a user: the same on every machine, in every replay and for ever."""
    first, last = _words()
    number = int.from_bytes(blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "big")
    number, a = divmod(number, len(first))
    number, b = divmod(number, len(first))
    return f"{first[a]} {first[b]} {last[number % len(last)]}"


@lru_cache(maxsize=1)
def _words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return first and last names, read once."""
    text = resources.files("polku").joinpath("names.txt").read_text(encoding="utf-8")
    first, last = (tuple(line for line in part.split("\n") if line and not line.startswith("#")) for part in text.split("\n\n")[1:3])
    return first, last
