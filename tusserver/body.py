"""The byte stream of one request, from a reader into a sink: the cap, the stall time-out, and the stop when somebody else takes over.

The laws: whatever arrived goes to the sink, also when the connection died; memory holds one read at a time; the loop never waits for a byte
longer than the time-out, nor at all once it was told to stop.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Sequence
from typing import Protocol

from tusserver.storage.base import Sink


class Lost(Exception):
    """The connection died, or what came over it is no HTTP any more."""


class Reader(Protocol):
    """Where bytes come from: the web layer makes one from a request."""

    async def begin(self) -> None:
        """All checks have passed: the client may send."""

    async def read(self) -> Sequence[bytes]:
        """Wait for bytes; nothing at the end of the body. Raises `Lost`."""

    def buffered(self) -> Sequence[bytes]:
        """What has arrived and was not read, also after `Lost`."""


class End(enum.Enum):
    """How a body ended."""

    WHOLE = enum.auto()
    LOST = enum.auto()
    STALLED = enum.auto()
    STOPPED = enum.auto()
    OVERFLOW = enum.auto()


class Body:
    """The body of one request.

    Args:
        reader: Where its bytes come from.
        timeout: Seconds without a byte after which it counts as broken off.
    """

    def __init__(self, reader: Reader, *, timeout: float) -> None:
        self._reader = reader
        self._timeout = timeout
        self._deadline: asyncio.Timeout | None = None
        self._left: int | None = None
        self.stopped_for: str | None = None

    def stop(self, purpose: str) -> None:
        """Make `into` end soon, keeping what has arrived; the first purpose counts."""
        self.stopped_for = self.stopped_for or purpose
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time())

    async def into(self, sink: Sink, cap: int | None, moved: Callable[[], None] = lambda: None) -> End:
        """Store the body.

        Args:
            sink: Takes the bytes.
            cap: Bytes that may come; None for no limit.
            moved: Called whenever bytes were stored.

        Raises:
            NoSpace, StorageFailed: From the sink, which has kept what fitted.
        """
        self._left = cap
        if self.stopped_for is None:
            await self._reader.begin()
        while True:
            pieces, end = await self._next()
            if self._left is not None:
                self._left -= sum(map(len, pieces))
                if self._left < 0:
                    return End.OVERFLOW
            if pieces:
                await sink.write(pieces)
                moved()
            if end is not None:
                return end

    async def _next(self) -> tuple[Sequence[bytes], End | None]:
        """The next bytes, and how the body ended if it did."""
        if self.stopped_for is not None:
            return self._reader.buffered(), End.STOPPED
        try:
            async with asyncio.timeout(self._timeout) as self._deadline:
                pieces = await self._reader.read()
        except TimeoutError:
            return self._reader.buffered(), End.STALLED if self.stopped_for is None else End.STOPPED
        except Lost:
            return self._reader.buffered(), End.LOST
        finally:
            self._deadline = None
        return pieces, None if pieces else End.WHOLE
