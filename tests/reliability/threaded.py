"""A server in a thread of the test's own process, with hooks that refuse and fail: all that it holds can be counted from outside.

The law: what is counted here is read while the server is idle, and a server that is told to wait for nothing comes back to what it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import tusserver
from tests.reliability.protocol_model import FAILS_ONCE, LIMIT, REFUSED
from tests.support.folder import DataFolder
from tests.support.waiting import until
from tests.support.wire import served
from tusserver.config import Config
from tusserver.engine.core import BUCKETS, Engine
from tusserver.locks.host import HostLocks
from tusserver.model import Limits

EXPIRE_AFTER = 86400.0
T = TypeVar("T")


class FailsOnPurpose(Exception):
    """What a listener raises, and what alone may be seen in the log."""


class Troubles(logging.Handler):
    """Keeps what a server must never have to log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, FailsOnPurpose):
            self.lines.append(f"{record.name}: {record.getMessage()} {error!r}")


@dataclass
class Hooks:
    """Listeners: `before_finish` goes by the file name, the others write down what they are told."""

    told: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    failed: set[str] = field(default_factory=set)

    async def before_finish(self, event: tusserver.Event) -> None:
        name = event.upload.metadata.get("filename")
        if name == REFUSED:
            raise tusserver.Refuse(422, "refused: not wanted here")
        if name == FAILS_ONCE and event.upload.id not in self.failed:
            self.failed.add(event.upload.id)
            raise FailsOnPurpose

    async def tell(self, event: tusserver.Event) -> None:
        self.told[event.upload.id].append((event.number, f"{event.name} {event.reason or ''}".strip()))

    def listeners(self) -> dict[str, Any]:
        """By the name of their event."""
        return {"before_finish": self.before_finish} | dict.fromkeys(("after_create", "after_finish", "after_terminate"), self.tell)


@dataclass
class ThreadedServer:
    """A running server.

    Args:
        loop: Where it runs.
        url: Its creation URL.
        folder: Its data.
        engine: Its inside, to be counted.
        hooks: What its listeners were told.
        troubles: What it logged and should not have.
        patience: Seconds that anything may take.
        ahead: Seconds that its clock is ahead.
        idle: What it holds when nobody is there, see `held`.
    """

    loop: asyncio.AbstractEventLoop
    url: str
    folder: DataFolder
    engine: Engine
    hooks: Hooks
    troubles: Troubles
    patience: float
    ahead: float = 0.0
    idle: tuple[int, ...] = ()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in its loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def now(self) -> float:
        """Its clock."""
        return time.time() + self.ahead

    def works_on(self, transfers: int) -> None:
        """Wait until nothing is under way in it but open transfers."""
        engine, locks = self.engine, self.engine._locks
        assert isinstance(locks, HostLocks)

        def busy() -> tuple[int, ...]:
            return len(engine._transfers), len(locks), len(engine._endings), len(engine._finisher._running)

        self.waits(lambda: busy() == (transfers, transfers, 0, 0), lambda: f"{transfers} transfers are open, and the server has {busy()}")

    def waits(self, condition: Callable[[], bool], seen: Callable[[], str]) -> None:
        """Wait until a condition holds; where it never does, that is a fault, and `seen` says what there is instead."""
        try:
            until(condition, "", self.patience)
        except TimeoutError:
            raise AssertionError(seen()) from None

    def sweep(self, *buckets: int) -> None:
        """Ticks of the sweeper."""

        async def ticks() -> None:
            for bucket in buckets:
                await self.engine._sweep(bucket)

        self.run(ticks())

    def events(self, upload_id: str) -> list[str]:
        """What was told of an upload; numbers rise."""
        self.waits(lambda: len(self.engine._notifier) == 0, lambda: f"events of {len(self.engine._notifier)} uploads are not delivered")
        told = self.hooks.told[upload_id]
        assert [number for number, _ in told] == sorted({number for number, _ in told}), f"{upload_id}: {told}"
        return [text for _, text in told]

    def held(self) -> tuple[int, ...]:
        """Tasks, and descriptors of the data folder."""
        names = [_target(name) for name in os.listdir("/proc/self/fd")]
        return len(asyncio.all_tasks(self.loop)), sum(name.startswith(str(self.folder.root)) for name in names)

    def _trash_is_empty(self) -> bool:
        self.sweep(*range(BUCKETS))
        return not self.folder.trash()

    def is_clean(self) -> None:
        """Nothing is left: no task, lock, descriptor or file, and nothing was logged that should not be."""
        self.works_on(0)
        gc.collect()  # tasks that nobody waited for complain now
        self.waits(lambda: self.held() == self.idle, lambda: f"tasks and descriptors: {self.idle} before, {self.held()} now")
        self.waits(self._trash_is_empty, lambda: f"in the trash: {self.folder.trash()}")
        left = self.folder.regular_files()
        assert left == ["secret"], left
        assert not self.troubles.lines, self.troubles.lines


def _target(name: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(f"/proc/self/fd/{name}")
    return ""


@contextlib.contextmanager
def threaded(data: Path, *, patience: float = 20.0) -> Iterator[ThreadedServer]:
    """A server with owners, hooks and a limit, in a thread of its own."""
    loop, hooks, troubles = asyncio.new_event_loop(), Hooks(), Troubles()
    thread = threading.Thread(target=loop.run_forever)
    logging.getLogger().addHandler(troubles)
    thread.start()
    config = Config(limits=Limits(max_size=LIMIT, expire_after=EXPIRE_AFTER), sweep_interval=3600)
    running = served(data, owner=lambda request: request.headers.get("X-Owner"), config=config, listeners=hooks.listeners())
    try:
        inside = asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(60)
        try:
            engine = inside.uploads.engine
            server = ThreadedServer(loop, f"http://127.0.0.1:{inside.port}/files/", DataFolder(data), engine, hooks, troubles, patience)
            engine._clock = server.now
            engine._finisher._wait = 0.2  # a finish that waits for a body which does not end is not waited for as long
            server.idle = server.held()
            yield server
        finally:
            server.run(running.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        logging.getLogger().removeHandler(troubles)
