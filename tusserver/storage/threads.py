"""Threads for work that may wait for a disk, in queues of their own: a slow fsync stands in nobody's way but other fsyncs.

The law: a job that was begun is waited for to its end (`settle`), whatever happens to the coroutine that began it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, ParamSpec, TypeVar

Queue = Literal["look", "data", "sync"]
P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """One pool for each kind of work: `look` (stat, open, small files), `data` (the bytes of bodies), `sync` (whatever may fsync)."""

    def __init__(self, *, size: int = 8) -> None:
        self._pools = {queue: ThreadPoolExecutor(size, f"tusserver-{queue}") for queue in ("look", "data", "sync")}

    def begin(self, queue: Queue, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Start a job; cancelling who awaits the future does not end it, so shield it."""
        return asyncio.get_running_loop().run_in_executor(self._pools[queue], lambda: job(*args, **kwargs))

    async def run(self, queue: Queue, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a job that needs no waiting for, should its caller be cancelled."""
        return await self.begin(queue, job, *args, **kwargs)

    def stop(self) -> None:
        """Take no more jobs; what runs is left to end."""
        for pool in self._pools.values():
            pool.shutdown(wait=False)


class Jobs:
    """The jobs of one writer."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._running: set[asyncio.Future[object]] = set()

    def __bool__(self) -> bool:
        return bool(self._running)

    def begin(self, queue: Queue, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Start a job that `settle` waits for."""
        future = self._threads.begin(queue, job, *args, **kwargs)
        self._running.add(future)  # type: ignore[arg-type]  # a set of futures of anything
        future.add_done_callback(self._running.discard)
        return future

    async def run(self, queue: Queue, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a job and wait for it; when the caller is cancelled the job goes on, and `settle` waits for it."""
        return await asyncio.shield(self.begin(queue, job, *args, **kwargs))

    async def settle(self) -> None:
        """Wait until the last thread has returned."""
        while self._running:
            await asyncio.wait(self._running)
