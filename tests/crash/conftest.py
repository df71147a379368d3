"""One stack of servers, and one nursery of workers, for all crash tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.world import Stack, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """The servers."""
    with Stack(tmp_path_factory.mktemp("crash")) as stack:
        yield stack


@pytest.fixture
def world(stack) -> Iterator[World]:
    """A fresh world."""
    world = World(stack)
    yield world
    world.close()
