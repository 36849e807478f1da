"""Node's packages, for the machines that have real clients."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import node

__all__ = ["node"]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is such a thing, for machines that model what a disk does and make thousands of files."""
    shared = "/dev/shm"  # noqa: S108  # a folder of its own is made there
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def two_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders for 2 instead of 256 kinds of id: a start and a full round of the sweeper take less time."""
    for module in ("birth", "local"):
        monkeypatch.setattr(f"tusserver.storage.{module}.BUCKETS", ("00", "ff"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What tries for long is slow."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)
