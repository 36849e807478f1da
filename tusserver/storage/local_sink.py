"""The body of one request on its way to the end of an upload's content, and the marks that are set beside it.

The law: a mark never stands in front of the bytes. It is begun while a body is coming in, when 64 MiB or five seconds' worth are not durable yet;
none is begun after the body has ended, and none after one has failed (it would succeed, and what the failed one lost would count as durable).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tusserver.errors import StorageFailed
from tusserver.model import Upload
from tusserver.storage.base import Sink
from tusserver.storage.ground import DataLost

if TYPE_CHECKING:
    from tusserver.storage.local_writer import LocalWriter

MARK_BYTES = 64 * 1024 * 1024
MARK_SECONDS = 5.0


class LocalSink(Sink):
    """The body of one request on its way to the end of `content`."""

    def __init__(self, writer: LocalWriter) -> None:
        self._writer = writer
        self._began = writer.upload.offset
        self._mark: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    @property
    def offset(self) -> int:
        """Where the next byte goes."""
        return self._writer.upload.offset

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Add bytes at the end."""
        await self._writer.mind_failure()
        await self._writer.jobs.run("data", self._writer.write, pieces)
        if self.offset - self._writer.synced >= MARK_BYTES:
            self._start_mark()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MARK_SECONDS, self._tick)

    async def commit(self) -> Upload:
        """Keep what was written; only durability `patch` waits for the disk."""
        self._end()
        if self._writer.ground.durability == "patch" and self.offset > self._began:
            try:
                await self._writer.alone(self._writer.commit)
            except DataLost as error:
                self._writer.failed = error
        await self._writer.mind_failure()
        return self._writer.upload

    async def abort(self) -> Upload:
        """Take back what was written."""
        self._end()
        await self._writer.alone(self._writer.cut, self._began)
        return self._writer.upload

    def _end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._timer = None
        self._start_mark()

    def _start_mark(self) -> None:
        if self._mark is None and self._writer.failed is None and not self._ended and self._writer.ground.durable:
            self._mark = self._writer.jobs.begin("sync", self._writer.mark)
            self._mark.add_done_callback(self._marked)

    def _marked(self, mark: asyncio.Future[None]) -> None:
        self._mark = None
        if isinstance(error := mark.exception(), StorageFailed):
            self._writer.failed = error
