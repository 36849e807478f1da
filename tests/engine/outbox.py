"""A storage in memory that is an outbox and nothing else, and a sleep that ends when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tusserver.errors import StorageFailed
from tusserver.model import Upload
from tusserver.storage.base import Content, Owed, Storage, Writer


class HeldEntry(Owed):
    """An entry that nobody else can claim."""

    def __init__(self, outbox: Outbox, upload_id: str) -> None:
        self._outbox, self._id = outbox, upload_id
        self.body = outbox.entries[upload_id]

    async def done(self) -> None:
        """Forget it; fails as often as the test says."""
        if self._outbox.failures_of_done:
            self._outbox.failures_of_done -= 1
            raise StorageFailed
        del self._outbox.entries[self._id]

    async def close(self) -> None:
        """Let go of it."""
        self._outbox.held.remove(self._id)


class Outbox(Storage):
    """Only what the notifier uses; the rest must not be called."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.held: set[str] = set()
        self.most_held = 0
        self.failures_of_done = 0

    async def owed(self) -> list[str]:
        """All entries."""
        return list(self.entries)

    async def claim(self, upload_id: str) -> HeldEntry | None:
        """Hold one."""
        if upload_id not in self.entries or upload_id in self.held:
            return None
        self.held.add(upload_id)
        self.most_held = max(self.most_held, len(self.held))
        return HeldEntry(self, upload_id)

    def path(self, upload_id: str) -> Path | None:
        """A path that is made up."""
        return Path("/data/files") / upload_id / "content"

    async def _none(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    start = stop = free_space = create = sweep = _none

    async def load(self, upload_id: str) -> Upload:
        """Not used."""
        raise NotImplementedError

    async def open(self, upload_id: str, *, dying: bool = False) -> Writer:
        """Not used."""
        raise NotImplementedError

    async def content(self, upload_id: str) -> Content:
        """Not used."""
        raise NotImplementedError


class Naps:
    """The `sleep` of a notifier: each call is noted, and lasts until the test wakes it."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._sleepers: list[asyncio.Event] = []

    async def sleep(self, seconds: float) -> None:
        """Sleep until woken."""
        self.asked.append(seconds)
        alarm = asyncio.Event()
        self._sleepers.append(alarm)
        try:
            await alarm.wait()
        finally:
            self._sleepers.remove(alarm)

    @property
    def asleep(self) -> int:
        """How many sleep now."""
        return len(self._sleepers)

    async def wake(self) -> None:
        """End all sleeps, and let whoever slept do what there is to do."""
        for alarm in self._sleepers:
            alarm.set()
        await settle()


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; the test's time-out is the limit."""
    while not condition():
        await asyncio.sleep(0.001)
