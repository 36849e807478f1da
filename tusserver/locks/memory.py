"""Locks of one process: a table of holders, each with the contenders that wait for it.

The law of `base`: the newest contender wins. When one comes, the holder is asked to stop and older contenders are refused at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tusserver.errors import Locked
from tusserver.locks.base import Hold, Locks, Stop

SETTLE = 60.0


@dataclass(eq=False)
class MemoryHold(Hold):
    """A row of the table."""

    table: MemoryLocks
    upload_id: str
    stop: Stop | None = None
    settling: bool = False
    waiter: asyncio.Future[None] | None = None

    async def release(self) -> None:
        """Let go, and wake the contender."""
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
        deadline = asyncio.get_running_loop().time() + wait
        while (holder := self._holders.get(upload_id)) is not None:
            if self._closed or wait <= 0:
                raise Locked
            await self._contend(holder, purpose, deadline)
        if self._closed and wait > 0:
            raise Locked("the server is stopping")
        hold = self._holders[upload_id] = MemoryHold(self, upload_id, stop)
        return hold

    async def _contend(self, holder: MemoryHold, purpose: str, deadline: float) -> None:
        """Wait, as the one contender of a holder, until it lets go."""
        loop = asyncio.get_running_loop()
        refuse(holder.waiter)
        waiter = holder.waiter = loop.create_future()
        if holder.stop is not None:
            holder.stop(purpose)
        try:
            await asyncio.wait({waiter}, timeout=deadline - loop.time())
            if not waiter.done() and holder.settling:
                await asyncio.wait({waiter}, timeout=SETTLE)
        finally:
            if holder.waiter is waiter:
                holder.waiter = None
        if not waiter.done():
            raise Locked
        waiter.result()

    def free(self, hold: MemoryHold) -> None:
        """Take a holder out of the table."""
        if self._holders.get(hold.upload_id) is hold:
            del self._holders[hold.upload_id]
            if hold.waiter is not None and not hold.waiter.done():
                hold.waiter.set_result(None)

    def close(self) -> None:
        """Whoever waits is refused at once, and whoever comes later too."""
        self._closed = True
        for holder in self._holders.values():
            refuse(holder.waiter)


def refuse(waiter: asyncio.Future[None] | None) -> None:
    """Tell a contender that a newer one came, or that it is in vain."""
    if waiter is not None and not waiter.done():
        waiter.set_exception(Locked("a newer request took over"))
