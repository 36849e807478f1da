"""`outbox/<id>`: the body of an `after_finish` that is still owed.

The law: an entry is there, whole, before its upload becomes a finished file, and goes only when every listener has had the event. Who delivers
holds a lock on it. An entry whose upload is still in `uploads/` is owed by nobody yet: that finish did not happen.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tusserver.storage.base import Owed
from tusserver.storage.disk import Disk, write_all
from tusserver.storage.layout import ID, OUTBOX, UPLOADS, Layout, open_file, opened, passing, same, try_flock
from tusserver.storage.threads import Threads

TEMPORARY = "event.tmp"


def _folder(root: Path) -> str:
    return f"{root}/{OUTBOX}"


def put(disk: Disk, root: Path, place: int, upload_id: str, body: bytes, *, durable: bool) -> None:
    """Write an entry, whole or not at all; an entry of an earlier try is replaced.

    Args:
        place: The upload's open folder: there it is written, so that what a crash leaves of it goes with the upload.
    """
    fd = disk.scratch(TEMPORARY, place)
    try:
        write_all(disk, fd, body)
        if durable:
            disk.fsync(fd)
    finally:
        os.close(fd)
    with opened(_folder(root)) as folder:
        disk.rename(TEMPORARY, place, upload_id, folder)
        if durable:
            disk.fsync(folder)


def drop(disk: Disk, root: Path, upload_id: str, *, durable: bool = False) -> None:
    """Forget an entry, if there is one."""
    with opened(_folder(root)) as folder, contextlib.suppress(FileNotFoundError):
        disk.unlink(upload_id, folder)
        if durable:
            disk.fsync(folder)


def entries(layout: Layout) -> list[str]:
    """The ids whose event is owed."""
    return [name for name in os.listdir(_folder(layout.root)) if ID.fullmatch(name) and not _unfinished(layout, name)]


def _unfinished(layout: Layout, upload_id: str) -> bool:
    return os.path.isdir(f"{layout.bucket(UPLOADS, upload_id)}/{upload_id}") and not layout.content(upload_id).parent.is_dir()


class LocalOwed(Owed):
    """An entry under its lock."""

    def __init__(self, layout: Layout, disk: Disk, threads: Threads, upload_id: str, fd: int) -> None:
        self._layout, self._disk, self._threads = layout, disk, threads
        self._id, self._fd = upload_id, fd
        self.body = _read(fd)

    async def done(self) -> None:
        """Everybody has had it: remove the entry."""
        await self._threads.run("sync", self._done)

    def _done(self) -> None:
        with passing():
            drop(self._disk, self._layout.root, self._id)

    async def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _read(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def claim(layout: Layout, disk: Disk, threads: Threads, upload_id: str) -> LocalOwed | None:
    """Hold an entry for delivery; None when there is none, or somebody else holds it."""
    with opened(_folder(layout.root)) as folder:
        try:
            fd = open_file(upload_id, folder)
        except FileNotFoundError:
            return None
        try:
            if try_flock(fd) and same(fd, upload_id, parent=folder):
                owed, fd = LocalOwed(layout, disk, threads, upload_id, fd), -1
                return owed
        finally:
            if fd >= 0:
                os.close(fd)
    return None
