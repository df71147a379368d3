"""docs/guarantees.md names tests that exist, and a table in which nothing was lost."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_every_test_that_the_guarantees_name_exists():
    """A promise whose test is gone is no promise."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)

    assert len(named) > 20
    assert [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")] == []


def test_every_crash_test_of_a_dependency_is_in_the_guarantees():
    """What was tried is worth telling."""
    sources = [(ROOT / "tests" / "crash" / f"test_{name}.py").read_text(encoding="utf-8") for name in ("dependencies", "answers")]

    assert [name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE) if name not in TEXT] == []


def test_the_table_says_nought_and_nought():
    """Else it would not have been committed."""
    rows = re.findall(r"^\| \*\*all\*\* \| \| (.*) \|$", TEXT, re.MULTILINE)

    assert len(rows) == 1
    tries, *bad = (int(cell.strip("* ")) for cell in rows[0].split("|"))
    assert tries > 0
    assert bad == [0, 0, 0]
