"""A notifier with a listener for whatever a test needs: one that notes, raises, waits, hangs or refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.outbox import Naps, Outbox
from tusserver.engine.notify import Notifier
from tusserver.errors import Refuse
from tusserver.hooks.base import Event, Events, Listener
from tusserver.model import Upload

NOW = 1_000.0
UPLOAD = Upload(id="a" * 32, length=10, created=NOW, touched=NOW)
FULL = UPLOAD.at(10, NOW)
DONE = replace(FULL, finished=True)
ASKED = ("before_create", "before_finish", "before_terminate")
TOLD = ("after_create", "progress", "after_terminate")


class Bench:
    """A notifier with everything around it that a test may want to turn."""

    def __init__(self) -> None:
        self.events, self.outbox, self.naps = Events(), Outbox(), Naps()
        self.seen: list[Event] = []
        self.now = NOW
        self.taken: list[tuple[str, Path]] = []
        self.notifier = self.make()

    def make(self, timeout: float = 60.0) -> Notifier:
        """A notifier on the same outbox, as after a restart."""
        self.notifier = Notifier(self.events, self.outbox, timeout=timeout, take=self._take, sleep=self.naps.sleep, clock=lambda: self.now)
        return self.notifier

    async def _take(self, upload_id: str, target: Path) -> bool:
        self.taken.append((upload_id, target))
        return True

    def listen(self, *names: str) -> None:
        """Note these events."""
        for name in names:
            getattr(self.events, name).append(self.note)

    async def note(self, event: Event) -> None:
        """The listener that notes."""
        self.seen.append(event)

    @property
    def names(self) -> list[str]:
        """What was noted."""
        return [event.name for event in self.seen]

    def finish(self, upload: Upload = FULL) -> None:
        """What the engine does when a file is there."""
        body = self.notifier.owe(upload)
        if body is not None:
            self.outbox.entries[upload.id] = body
        self.notifier.finished(replace(upload, finished=True))

    def ask(self, name: str) -> Awaitable[Upload | None]:
        """What the engine does before `name`."""
        method: Callable[[Upload, object], Awaitable[Upload | None]] = getattr(self.notifier, name)
        return method(FULL, None)

    def tell(self, name: str) -> None:
        """What the engine does after `name`."""
        match name:
            case "after_create":
                self.notifier.created(UPLOAD)
            case "progress":
                self.notifier.progress(UPLOAD)
            case _:
                self.notifier.terminated(UPLOAD, "client")


def failing(times: int, then: Listener) -> Listener:
    """A listener that raises at first."""
    left = times

    async def listener(event: Event) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise LookupError("the database is away")
        await then(event)

    return listener


def waiting(gate: asyncio.Event, then: Listener) -> Listener:
    """A listener that takes its time."""

    async def listener(event: Event) -> None:
        await gate.wait()
        await then(event)

    return listener


async def hang(event: Event) -> None:
    """A listener that never returns."""
    await asyncio.Event().wait()


async def cancelled_inside(event: Event) -> None:
    """A listener that waits for something which somebody else cancels."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def no(event: Event) -> None:
    """A listener that refuses."""
    raise Refuse(409, "not today")


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged as an error, which must have a traceback."""
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert all(record.name == "tusserver" and record.exc_info for record in records)
    return records
