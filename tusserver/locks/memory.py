"""Locks of one process: a table of holders, each with the contenders that wait for it.

The law of `base`: the newest contender wins. When one comes, the holder is asked to stop and older contenders are refused at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tusserver.errors import Locked
from tusserver.locks.base import Hold, Locks, Stop

SETTLE = 60.0


@dataclass(frozen=True, eq=False)
class Waiter:
    """The one contender of a holder: its future becomes the hold, or its refusal."""

    purpose: str
    future: asyncio.Future[MemoryHold]


@dataclass(eq=False)
class MemoryHold(Hold):
    """A row of the table."""

    table: MemoryLocks
    upload_id: str
    settling: bool = False
    waiter: Waiter | None = None
    _stop: Stop | None = None

    @property
    def stop(self) -> Stop | None:
        """What a contender calls; one that is waiting already when it is set has called it."""
        return self._stop

    @stop.setter
    def stop(self, stop: Stop | None) -> None:
        self._stop = stop
        if stop is not None and self.waiter is not None:
            stop(self.waiter.purpose)

    async def release(self) -> None:
        """Let go, and hand over to the contender."""
        self.table.free(self)


class MemoryLocks(Locks):
    """The table of one process."""

    def __init__(self) -> None:
        self._holders: dict[str, MemoryHold] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._holders)

    async def acquire(self, upload_id: str, *, stop: Stop | None = None, purpose: str = "patch", wait: float = 5.0) -> MemoryHold:
        """Get the lock of an upload."""
        if self._closed and wait > 0:
            raise Locked("the server is stopping")
        holder = self._holders.get(upload_id)
        if holder is None:
            hold = self._seat(upload_id)
        elif wait > 0:
            hold = await self._contend(holder, purpose, wait)
        else:
            raise Locked
        hold.stop = stop
        return hold

    def _seat(self, upload_id: str) -> MemoryHold:
        hold = self._holders[upload_id] = MemoryHold(self, upload_id)
        return hold

    async def _contend(self, holder: MemoryHold, purpose: str, wait: float) -> MemoryHold:
        """Wait, as the one contender of a holder, until it hands over."""
        refuse(holder.waiter)
        future: asyncio.Future[MemoryHold] = asyncio.get_running_loop().create_future()
        holder.waiter = waiter = Waiter(purpose, future)
        if holder.stop is not None:
            holder.stop(purpose)
        try:
            await asyncio.wait({future}, timeout=wait)
            if not future.done() and holder.settling:
                await asyncio.wait({future}, timeout=SETTLE)
        except asyncio.CancelledError:
            if future.done() and future.exception() is None:
                self.free(future.result())
            raise
        finally:
            if holder.waiter is waiter:
                holder.waiter = None
        if not future.done():
            raise Locked
        return future.result()

    def free(self, hold: MemoryHold) -> None:
        """Take a holder out of the table; its contender has the lock from this moment on, so that nobody comes in between."""
        if self._holders.get(hold.upload_id) is not hold:
            return
        del self._holders[hold.upload_id]
        if hold.waiter is not None and not hold.waiter.future.done():
            hold.waiter.future.set_result(self._seat(hold.upload_id))

    def close(self) -> None:
        """Whoever waits is refused at once, and whoever comes later too."""
        self._closed = True
        for holder in self._holders.values():
            refuse(holder.waiter)


def refuse(waiter: Waiter | None) -> None:
    """Tell a contender that a newer one came, or that it is in vain."""
    if waiter is not None and not waiter.future.done():
        waiter.future.set_exception(Locked("a newer request took over"))
