"""Generated names."""

from __future__ import annotations

import hashlib
from importlib import resources

import pytest

from polku import names

PINNED = {
    "": "Zachary Joacim Puga",
    "1": "Rania Roope Gately",
    "user-1": "Roy Hildegunde Gillick",
    "a1b2c3d4-0000-4000-8000-000000000000": "Stanislava Evelin Valentino",
    "\u00e4\u00f6\u00fc \U0001f600": "Mala Cezary Mattila",
    "u" * 256: "Amada Gading Gruber",
}


@pytest.mark.parametrize("user_id", PINNED)
def test_a_user_has_the_same_name_for_ever(user_id):
    """A change of these would give two names to one user."""
    assert names.generated(user_id) == PINNED[user_id]


def test_the_lists_of_words_never_change():
    """Not a line: names that were given must stay."""
    text = resources.files("polku").joinpath("names.txt").read_bytes()

    words = b"".join(line + b"\n" for line in text.splitlines() if not line.startswith(b"#"))
    assert hashlib.sha256(words).hexdigest() == "9bb04e7de567c0ac17c9e29796c14553442ebcbf1340188a72b21ef4f7ca8beb"


def test_names_of_100000_users_differ():
    """4e11 names: the first collision is to be expected at some half a million users."""
    made = {names.generated(str(number)) for number in range(100_000)}

    assert len(made) == 100_000


def test_a_name_is_three_words_that_fit_their_column():
    """First, middle and last name, each a capital and small letters."""
    for number in range(2_000):
        name = names.generated(f"user-{number}")

        assert len(name) <= 256
        assert all(word.isascii() and word.isalpha() and word.istitle() for word in name.split(" "))
        assert len(name.split(" ")) == 3


@pytest.mark.parametrize(
    ("name", "fitted"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        (None, None),
        ("", None),
        (" \t", None),
        ("\x00", None),
        ("\\N", None),
        ("\x00Ada\nLove\rlace\x01", " Ada Love lace "),
        ("Ada\u2028\x85\x7f!", "Ada   !"),
        ("\ud800Ada", "?Ada"),
        ("x" * 256, "x" * 256),
        ("x" * 257, "x" * 256),
        ("\u00e4" * 129, "\u00e4" * 128),
        ("x" + "\U0001f600" * 64, "x" + "\U0001f600" * 63),
        ("\u05d0\u200f <!channel>", "\u05d0\u200f <!channel>"),
    ],
)
def test_a_directorys_name_fits_its_column_or_is_none(name, fitted):
    """Cut or cleaned the same way each time, since a name stays for ever; who is left without one gets a generated one."""
    assert names.fitted(name) == fitted
    assert names.fitted(fitted) == fitted


def test_any_text_has_a_name():
    """Also half a character."""
    assert names.generated("\ud800")
