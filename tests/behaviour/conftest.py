"""The fixtures of odd disks and odd clocks."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import tusserver
from tests.behaviour.odd import Odd
from tests.support.folder import DataFolder
from tests.support.wire import served
from tusserver.config import Config


async def hear(event: tusserver.Event) -> None:
    """Somebody listens, so that events are owed."""


@pytest.fixture
async def odd(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Odd]:
    """Ends with a full round of the sweeper: nothing outside has changed, nothing was an accident, no descriptor is left."""
    caplog.set_level(logging.INFO)
    outside = DataFolder(tmp_path / "outside")
    (outside.root / "folder").mkdir(parents=True)
    for name in ("content", "upload.json", "folder/file"):
        (outside.root / name).write_bytes(b"4")
    async with served(tmp_path / "data", config=Config(sweep_interval=3600), listeners={"after_finish": hear}) as server:
        it = Odd(server, DataFolder(tmp_path / "data"), outside)
        it.unfinished, it.finished = await it.make(finished=False), await it.make(finished=True)
        before, descriptors = outside.snapshot(), len(os.listdir("/proc/self/fd"))
        yield it
        await it.sweep()
        assert outside.snapshot() == before
        assert [record.getMessage() for record in caplog.records if record.exc_info] == []
        for wire in server.wires:
            wire.reset()
        while len(os.listdir("/proc/self/fd")) > descriptors:  # the test's time-out ends it if one is never closed
            await asyncio.sleep(0.01)
