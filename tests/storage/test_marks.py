"""Marks beside the writing of a body: what a failed one must not lead to."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.storage.contract import new, opened
from tusserver.errors import StorageFailed
from tusserver.storage import local_sink
from tusserver.storage.disk import Disk
from tusserver.storage.local import LocalStorage
from tusserver.storage.local_sink import LocalSink


class FailsInAWrite(Disk):
    """The first fdatasync fails while the second write is under way; a later one succeeds, as on a real disk."""

    def __init__(self) -> None:
        self.syncs = self.writes = 0
        self.go_on = threading.Event()
        self.sink: LocalSink | None = None

    def fdatasync(self, fd: int) -> None:
        """Sync, but for the first time."""
        self.syncs += 1
        if self.syncs == 1:
            self.go_on.wait()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fdatasync(fd)

    def write(self, fd: int, pieces: Sequence[bytes], offset: int) -> int:
        """Write, the second time not before the mark has ended."""
        if self.sink is not None:
            self.writes += 1
            if self.writes == 2:
                self.go_on.set()
                while self.sink._mark is not None:
                    time.sleep(0.001)
        return super().write(fd, pieces, offset)


async def test_no_mark_is_begun_on_data_whose_mark_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_sink, "MARK_BYTES", 1)
    disk = FailsInAWrite()
    storage = LocalStorage(tmp_path, disk=disk)
    await storage.start()
    upload = new(1000)
    await storage.create(upload)
    async with opened(storage, upload.id) as writer:
        sink = writer.append()
        assert isinstance(sink, LocalSink)
        disk.sink = sink
        await sink.write([b"a" * 10])
        await sink.write([b"b" * 10])
        await sink._writer.jobs.settle()
        await asyncio.sleep(0)
        disk.sink = None
        with pytest.raises(StorageFailed):
            await sink.write([b"c"])
    assert (await storage.load(upload.id)).offset == 0
    await storage.stop()
