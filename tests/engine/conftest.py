"""The notifier of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.engine.bench import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Nothing is left running, claimed or in memory when a test has ended."""
    bench = Bench()
    yield bench
    await bench.notifier.stop(timeout=1)
    assert len(bench.notifier) == 0
    assert not bench.outbox.held
    assert not [task for task in asyncio.all_tasks() if "Notifier." in repr(task)]
