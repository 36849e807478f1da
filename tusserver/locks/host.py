"""Locks of one host: the table of this process in front, and behind it a flock on the upload's folder, which other processes see.

The laws: a flock counts only if the folder is still the one that the upload's name leads to; it is tried again and again without blocking a
thread, until the time is up. It is let go by closing the descriptor, so a process that dies lets go of everything.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tusserver.errors import Locked
from tusserver.locks.base import Hold, Locks, Stop
from tusserver.locks.memory import MemoryHold, MemoryLocks

FIRST_PAUSE, LAST_PAUSE = 0.02, 0.2


class HostHold(Hold):
    """A row of the table and a descriptor that has the flock."""

    def __init__(self, hold: MemoryHold, fd: int) -> None:
        self._hold = hold
        self._fd = fd

    @property
    def stop(self) -> Stop | None:
        """What a contender of this process calls."""
        return self._hold.stop

    @stop.setter
    def stop(self, stop: Stop | None) -> None:
        self._hold.stop = stop

    @property
    def settling(self) -> bool:
        """Only a thread has to return."""
        return self._hold.settling

    @settling.setter
    def settling(self, settling: bool) -> None:
        self._hold.settling = settling

    async def release(self) -> None:
        """Let go of both."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        await self._hold.release()


class HostLocks(Locks):
    """Locks that the processes of one host share.

    Args:
        folder: Opens the folder of an upload, in a thread; raises `NotFound`. The caller of it closes the descriptor.
    """

    def __init__(self, folder: Callable[[str], int]) -> None:
        self._folder = folder
        self._table = MemoryLocks()
        self._pool = ThreadPoolExecutor(4, "tusserver-locks")
        self._closing = asyncio.Event()

    def __len__(self) -> int:
        return len(self._table)

    async def acquire(self, upload_id: str, *, stop: Stop | None = None, purpose: str = "patch", wait: float = 5.0) -> HostHold:
        """Get the lock of an upload, here and on the host."""
        deadline = asyncio.get_running_loop().time() + wait
        superseded: list[str] = []

        hold = await self._table.acquire(upload_id, stop=superseded.append, purpose=purpose, wait=wait)
        try:
            fd = await self._flock(upload_id, deadline, superseded)
        except BaseException:
            await hold.release()
            raise
        hold.stop = stop
        return HostHold(hold, fd)

    async def _flock(self, upload_id: str, deadline: float, superseded: list[str]) -> int:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while (fd := await loop.run_in_executor(self._pool, try_folder, self._folder, upload_id)) is None:
            if superseded or self._closing.is_set() or loop.time() + pause > deadline:
                raise Locked
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LAST_PAUSE)
        return fd

    def close(self) -> None:
        """Whoever waits is refused at once, and whoever comes later too."""
        self._closing.set()
        self._table.close()


def try_folder(folder: Callable[[str], int], upload_id: str) -> int | None:
    """Try once to get the flock of an upload's folder; None when somebody has it, or when the folder is no longer the one."""
    fd = folder(upload_id)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        again = folder(upload_id)
        try:
            if os.path.sameopenfile(fd, again):
                kept, fd = fd, -1
                return kept
        finally:
            os.close(again)
    except BlockingIOError:
        return None
    finally:
        if fd >= 0:
            os.close(fd)
    return None
