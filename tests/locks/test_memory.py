"""Locks of one process."""

from __future__ import annotations

import pytest

from tests.locks.contract import ID, LocksContract
from tusserver.locks.memory import MemoryLocks


@pytest.fixture
def locks() -> MemoryLocks:
    return MemoryLocks()


class TestMemoryLocks(LocksContract):
    """The suite that every kind passes."""


async def test_a_lock_that_was_let_go_takes_no_memory(locks: MemoryLocks) -> None:
    async with locks.hold(ID):
        assert len(locks) == 1
    assert len(locks) == 0
