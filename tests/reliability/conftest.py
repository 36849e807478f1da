"""Node's packages, for the machines that have real clients."""

from __future__ import annotations

import pytest

from tests.clients.conftest import node

__all__ = ["node"]


@pytest.fixture
def two_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders for 2 instead of 256 kinds of id: a start and a full round of the sweeper take less time."""
    for module in ("birth", "local"):
        monkeypatch.setattr(f"tusserver.storage.{module}.BUCKETS", ("00", "ff"))
