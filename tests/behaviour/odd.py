"""A data folder in which somebody put something odd, and the server that runs on it."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.folder import DataFolder
from tests.support.wire import OFFSET_TYPE, Served


@dataclass
class Odd:
    """A server with an unfinished and a finished upload, beside a folder that is none of its business."""

    server: Served
    folder: DataFolder
    outside: DataFolder
    unfinished: str = ""
    finished: str = ""
    now: float = field(default_factory=time.time)

    async def make(self, *, finished: bool) -> str:
        """An upload with four bytes."""
        path = await self.server.create(4 if finished else 1000)
        answer = await self.server.ask("PATCH", path, b"0123", Upload_Offset=0, Content_Type=OFFSET_TYPE)
        assert answer.status == 204
        while self.folder.outbox():
            await asyncio.sleep(0.001)
        return path

    def place(self, path: str) -> Path:
        """The folder of an upload."""
        upload_id = path.rpartition("/")[2]
        return next(place for place in (self.folder.upload(upload_id), self.folder.file(upload_id)) if os.path.lexists(place))

    async def statuses(self, path: str) -> dict[str, int]:
        """What each method gets; a thread that hangs on the disk is a failure."""
        async with asyncio.timeout(10):
            head = await self.server.ask("HEAD", path)
            patch = await self.server.ask("PATCH", path, Upload_Offset=4, Content_Type=OFFSET_TYPE, Content_Length=0)
            wire = await self.server.open()
            await wire.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            get = await wire.answer()
            delete = await self.server.ask("DELETE", path)
        for answer in (patch, get, delete):
            assert str(self.folder.root).encode() not in answer.body
        return {"HEAD": head.status, "PATCH": patch.status, "GET": get.status, "DELETE": delete.status}

    async def sweep(self) -> None:
        """A full round, and the tick that removes what the last one found."""
        async with asyncio.timeout(60):
            for tick in range(257):
                await self.server.uploads.engine._sweep(tick)
