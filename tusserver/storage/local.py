"""Uploads in a folder of a local disk. The folder is the state: how far an upload is, is the size of its content.

Here: reading, creating, and the life of the storage; `local_writer` has what is done under an upload's lock, `sweep` the cleaning. Readers take
no lock and change nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tusserver.errors import Damaged, NoSpace, NotFinished, NotFound, StorageFailed, Taken, TusError
from tusserver.model import Upload
from tusserver.storage import birth, outbox, sweep
from tusserver.storage import record as records
from tusserver.storage.base import Content, Owed, Storage
from tusserver.storage.disk import Disk
from tusserver.storage.ground import LOOKS, Durability, Ground, HalfDeleted, finished_upload, unfinished_upload
from tusserver.storage.layout import (
    BUCKETS,
    CONTENT,
    FILES,
    ID,
    TRASH,
    UPLOADS,
    Found,
    Layout,
    brief_flock,
    open_file,
    opened,
    passing,
)
from tusserver.storage.local_writer import LocalWriter, open_writer
from tusserver.storage.record import NeverBorn, Record, current_boot
from tusserver.storage.threads import Threads

T = TypeVar("T")
log = logging.getLogger("tusserver")


class LocalStorage(Storage):
    """Uploads below one folder.

    Args:
        root: The data folder; made if it is missing.
        durability: What a power cut may cost: "finish" (unfinished uploads fall back to their last mark), "patch" (nothing that was
            acknowledged), "none" (no promise).
        disk: What changes the disk; tests put another one in.
    """

    features = frozenset({"creation", "creation-with-upload", "creation-defer-length", "termination", "expiration"})

    def __init__(self, root: str | Path, *, durability: Durability = "finish", disk: Disk | None = None) -> None:
        if durability not in ("finish", "patch", "none"):
            raise ValueError(f"durability is finish, patch or none, not {durability!r}")
        self.root = Path(os.path.abspath(root))
        self._layout = Layout(self.root)
        self._disk = disk or Disk()
        self._threads = Threads()
        self._ground = Ground(
            layout=self._layout, disk=self._disk, durability=durability, boot=current_boot(), threads=self._threads
        )
        self._claimed: birth.Claim | None = None
        self._foreign: set[str] = set()

    async def start(self) -> None:
        """Make the folders, and check that the disk can do what the promises need."""
        if self._claimed is None:
            self._claimed = await asyncio.to_thread(birth.begin, self._disk, self.root, durable=self._ground.durable)

    async def stop(self) -> None:
        """Take no more work."""
        self._threads.stop()
        if self._claimed is not None:
            self._claimed.release()
            self._claimed = None

    async def free_space(self) -> int | None:
        """Bytes that the file system still gives to an ordinary user."""
        return await self._threads.run("look", self._free_space)

    def _free_space(self) -> int:
        with passing():
            space = os.statvfs(self.root)
        return space.f_bavail * space.f_frsize

    # -- reading

    async def load(self, upload_id: str) -> Upload:
        """Look at an upload."""
        return await self._threads.run("look", self.look, upload_id)

    def look(self, upload_id: str) -> Upload:
        """Look at an upload, in a thread."""
        return self._view(upload_id, lambda _, upload: upload)

    def _view(self, upload_id: str, view: Callable[[Found, Upload], T]) -> T:
        """Look at an upload; what contradicts itself may just be changing, and is looked at again."""
        if not ID.fullmatch(upload_id):
            raise NotFound
        contradiction: Exception = NotFound()
        with passing():
            for _ in range(LOOKS):
                found = self._layout.find(upload_id)
                try:
                    return view(found, self._read(upload_id, found))
                except (NeverBorn, Damaged, FileNotFoundError) as error:
                    contradiction = error
                finally:
                    os.close(found.fd)
        raise self._judged(upload_id, found, contradiction)

    def _judged(self, upload_id: str, found: Found, contradiction: Exception) -> TusError:
        """What an upload is that contradicts itself whenever one looks."""
        if isinstance(contradiction, NeverBorn):
            if found.tree == UPLOADS or isinstance(contradiction, HalfDeleted):
                return NotFound()
            contradiction = Damaged("the upload's record is damaged")
        log.error("upload %s: %s", upload_id, contradiction)
        return contradiction if isinstance(contradiction, Damaged) else StorageFailed("the upload kept changing")

    def _read(self, upload_id: str, found: Found) -> Upload:
        record = records.read(found.fd)
        if found.tree == FILES:
            return finished_upload(upload_id, found.fd, record)
        return unfinished_upload(self._ground, upload_id, found.fd, record)

    def path(self, upload_id: str) -> Path | None:
        """Where the content of a finished upload lies."""
        return self._layout.content(upload_id)

    def folder(self, upload_id: str) -> int:
        """An open descriptor of an upload's folder, for a lock to be put on."""
        return self._layout.folder(upload_id)

    async def content(self, upload_id: str) -> Content:
        """Open the file of a finished upload."""
        return await self._threads.run("look", self._open_content, upload_id)

    def _open_content(self, upload_id: str) -> Content:
        return self._view(upload_id, opened_content)

    def listing(self) -> Iterator[tuple[str, Upload | None, str]]:
        """Everything in the data folder, for a person to read: (id, upload or None, what is wrong with it)."""
        for tree in (UPLOADS, FILES):
            for bucket in BUCKETS:
                for name in sorted(sweep.names(f"{self.root}/{tree}/{bucket}")):
                    yield self._listed(name)

    def _listed(self, name: str) -> tuple[str, Upload | None, str]:
        try:
            return name, self.look(name), ""
        except TusError as error:
            return name, None, error.message

    # -- making

    async def create(self, upload: Upload) -> None:
        """Make an empty upload: born whole, or not at all."""
        await self._threads.run("sync" if self._ground.durability == "patch" else "look", self._create, upload)

    def _create(self, upload: Upload) -> None:
        patch = self._ground.durability == "patch"
        with passing(), opened(f"{self.root}/{TRASH}") as trash:
            name, folder = birth.cradle(self._disk, trash, upload.id)
            try:
                record = Record(
                    owner=upload.owner,
                    length=upload.length,
                    metadata=upload.metadata.raw,
                    created=upload.created,
                    boot=self._ground.boot,
                )
                records.write(self._disk, folder, record, durable=patch)
                content = self._disk.create(CONTENT, folder)
                try:
                    if patch:
                        self._disk.fsync(content)
                        self._disk.fsync(folder)
                finally:
                    os.close(content)
                self._enter(upload.id, name, trash)
            finally:
                os.close(folder)

    def _enter(self, upload_id: str, name: str, trash: int) -> None:
        with opened(self._layout.bucket(UPLOADS, upload_id)) as bucket:
            brief_flock(bucket)
            if os.path.lexists(f"{self._layout.bucket(FILES, upload_id)}/{upload_id}"):
                raise StorageFailed("the name of the new upload is taken")
            self._disk.rename(name, trash, upload_id, bucket)
            if self._ground.durability == "patch":
                self._disk.fsync(bucket)

    async def open(self, upload_id: str, *, dying: bool = False) -> LocalWriter:
        """Begin to work on an upload; the caller holds its lock."""
        return await self._threads.run("data", open_writer, self._ground, upload_id, dying=dying)

    # -- cleaning and owing

    async def sweep(self, tick: int) -> list[Upload]:
        """Clean a 256th part and the trash; name the unfinished uploads there."""
        return await self._threads.run("sync", self._sweep, BUCKETS[tick % len(BUCKETS)])

    def _sweep(self, bucket: str) -> list[Upload]:
        with passing():
            for name in sweep.empty_trash(self._disk, self.root):
                self._name_foreign(f"{TRASH}/{name}", "it cannot be removed")
            return list(self._survey(bucket))

    def _survey(self, bucket: str) -> Iterator[Upload]:
        for name in sweep.names(f"{self.root}/{UPLOADS}/{bucket}"):
            if not ID.fullmatch(name) or name[:2] != bucket:
                self._name_foreign(f"{UPLOADS}/{bucket}/{name}")
                continue
            try:
                upload = self.look(name)
                if upload.finished:
                    sweep.bury_double(self._ground, name)
                else:
                    yield upload
            except NotFound:
                sweep.bury_unborn(self._ground, name)
            except (StorageFailed, NoSpace) as error:
                log.warning("the sweeper leaves upload %s alone: %s", name, error.line)

    def _name_foreign(self, name: str, why: str = "it is no upload") -> None:
        if name not in self._foreign:
            self._foreign.add(name)
            log.warning("the sweeper leaves %s alone: %s", name, why)

    async def owed(self) -> list[str]:
        """The ids of finished uploads whose `after_finish` is still owed."""
        return await self._threads.run("look", self._owed)

    def _owed(self) -> list[str]:
        with passing():
            return outbox.entries(self._layout)

    async def claim(self, upload_id: str) -> Owed | None:
        """Hold an owed event for delivery."""
        return await self._threads.run("look", self._claim, upload_id)

    def _claim(self, upload_id: str) -> Owed | None:
        with passing():
            return outbox.claim(self._layout, self._disk, self._threads, upload_id)


def opened_content(found: Found, upload: Upload) -> LocalContent:
    """The content of an upload that was found, if it is a file."""
    if upload.taken:
        raise Taken
    if not upload.finished:
        raise NotFinished(None if upload.full else upload.offset)
    return LocalContent(upload, open_file(CONTENT, found.fd))


class LocalContent(Content):
    """An open finished file."""

    def __init__(self, upload: Upload, fd: int) -> None:
        status = os.fstat(fd)
        self._fd = fd
        self.upload = upload
        self.size = status.st_size
        self.modified = status.st_mtime
        self.etag = f'"{upload.id}-{status.st_mtime_ns:x}-{status.st_size:x}"'

    def fileno(self) -> int:
        """A descriptor to read from with explicit offsets."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

