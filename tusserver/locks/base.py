"""One writer per upload: what a lock must do. The suite `tests/locks/contract.py` runs against every kind.

The law: the newest contender wins. Whoever wants a lock makes the holder's `stop` run, and older waiters give up at once; the lock is free
when the holder has called `release`, not earlier. A holder without `stop` cannot be hurried: contenders wait, up to their time limit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Stop = Callable[[str], None]
"""Asks a holder to let go; its argument says for whom: "patch" or "delete"."""


class Hold(ABC):
    """A lock that is held."""

    stop: Stop | None
    """What a contender calls; set to None once there is nothing left to stop."""

    settling: bool
    """The holder's work is done and only a thread has to return: waiting for it is no contention, and not limited by the waiter's time."""

    @abstractmethod
    async def release(self) -> None:
        """Let go; calling it again does nothing."""


class Locks(ABC):
    """The locks of all uploads."""

    @abstractmethod
    async def acquire(self, upload_id: str, *, stop: Stop | None = None, purpose: str = "patch", wait: float = 5.0) -> Hold:
        """Get the lock of an upload.

        Args:
            upload_id: Whose.
            stop: Called, in the event loop, when somebody else wants the lock; may be called more than once.
            purpose: What the present holder's `stop` is told.
            wait: Seconds to wait for the holder; 0 tries once and stops nobody.

        Raises:
            Locked: Not free in time, or a newer contender came.
            NotFound: There is no such upload (any more).
        """

    @abstractmethod
    def close(self) -> None:
        """Whoever waits is refused at once, and whoever comes later too."""

    @asynccontextmanager
    async def hold(
        self, upload_id: str, *, stop: Stop | None = None, purpose: str = "patch", wait: float = 5.0
    ) -> AsyncIterator[Hold]:
        """`acquire` and `release` around a block."""
        hold = await self.acquire(upload_id, stop=stop, purpose=purpose, wait=wait)
        try:
            yield hold
        finally:
            await hold.release()
