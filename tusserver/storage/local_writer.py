"""One upload of local storage while its lock is held: repair, append, mark, finish, remove, take.

The laws:
- Opening repairs: whoever comes after a crash first cuts the content to the offset that counts.
- After a failed fdatasync the data is *distrusted*: never synced again (the second call would succeed, and the bytes be gone), but cut back to
  what was durable before.
- A record with a lower `synced` is written before a cut, one with a higher only after the fdatasync.
The methods without `async` run in threads; the lock makes them one at a time, but for a mark, which runs beside the writing of a body.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from tusserver.errors import Damaged, NoSpace, NotFound, Passing, StorageFailed
from tusserver.model import Upload
from tusserver.storage import outbox
from tusserver.storage import record as records
from tusserver.storage.base import Writer
from tusserver.storage.disk import write_all
from tusserver.storage.ground import DataLost, Ground, HalfDeleted, finished_upload, unfinished_upload
from tusserver.storage.layout import CONTENT, FILES, FULL, KEEP, UPLOADS, Found, brief_flock, open_file, opened, passing, read_keep
from tusserver.storage.local_sink import LocalSink
from tusserver.storage.record import NeverBorn, Record
from tusserver.storage.threads import Jobs

COPY_BYTES = 1024 * 1024
TEMPORARY = (records.TEMPORARY, outbox.TEMPORARY)
P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("tusserver")


def open_writer(ground: Ground, upload_id: str, *, dying: bool = False) -> LocalWriter:
    """Open an upload and, unless it is only to be removed, repair it; the caller holds its lock."""
    with passing():
        found = ground.layout.find(upload_id)
        writer = None
        try:
            writer = LocalWriter(ground, upload_id, found, records.read(found.fd))
            writer.prepare(dying=dying)
        except BaseException as error:
            (writer.shut if writer else lambda: os.close(found.fd))()
            if not isinstance(error, NeverBorn):
                raise
            if found.tree == FILES and not isinstance(error, HalfDeleted):
                raise Damaged("the upload's record is damaged") from None
            ground.bury(upload_id, found.tree)
            raise NotFound from None
        return writer


class LocalWriter(Writer):
    """See the module."""

    def __init__(self, ground: Ground, upload_id: str, found: Found, record: Record) -> None:
        self.ground = ground
        self._disk = ground.disk
        self._folder = found.fd
        self._content = -1
        self._record = record
        self._named = False  # the folder's own name is durable
        self.jobs = Jobs(ground.threads)
        self.failed: StorageFailed | None = None
        self._upload = record.upload(upload_id, offset=0, touched=0.0, finished=found.tree == FILES)

    @property
    def upload(self) -> Upload:
        """The upload as it is now."""
        return self._upload

    @property
    def busy(self) -> bool:
        """Whether a thread still works on the upload."""
        return bool(self.jobs)

    @property
    def synced(self) -> int:
        """Bytes that are durable."""
        return self._record.synced

    # -- opening and closing

    def prepare(self, *, dying: bool) -> None:
        """Bring what is on disk to what `upload` says; or, where it is only to be removed, the other way round."""
        if self._upload.finished:
            self._upload = finished_upload(self._upload.id, self._folder, self._record)
            self._tidy(TEMPORARY)
            return
        if dying:
            self._upload = unfinished_upload(self.ground, self._upload.id, self._folder, self._record)
            return
        self._content = self._open_content()
        if self._upload.id in self.ground.distrusted:
            self._store(boot="")
            self.ground.distrusted.discard(self._upload.id)
        self._repair()

    def _open_content(self) -> int:
        try:
            return open_file(CONTENT, self._folder, os.O_WRONLY)
        except FileNotFoundError:  # a power cut kept one of two new entries
            return self._disk.create(CONTENT, self._folder)

    def _repair(self) -> None:
        keep = read_keep(self._folder)
        size = os.fstat(self._content).st_size
        offset = self._record.offset(size, self.ground.boot, keep)
        if size > offset:
            self._disk.truncate(self._content, offset)
        if self._record.boot != self.ground.boot:
            self._disk.fdatasync(self._content)
            self._store(boot=self.ground.boot, synced=offset)
        self._tidy((KEEP, *TEMPORARY))
        self._moved(offset)

    def _tidy(self, leftovers: Sequence[str]) -> None:
        """Remove what a crash has left half-done."""
        for name in set(leftovers).intersection(os.listdir(self._folder)):
            self._disk.unlink(name, self._folder)

    def _store(self, **changes: str | int | bool | None) -> None:
        """Change the record, in one atomic step; a power cut may undo it."""
        record = replace(self._record, **changes)  # type: ignore[arg-type]  # fields of Record
        records.write(self._disk, self._folder, record, durable=self.ground.durable)
        self._record = record

    def _settle(self, **changes: str | int | bool | None) -> None:
        """Change the record for good."""
        self._store(**changes)
        if self.ground.durable:
            self._disk.fsync(self._folder)

    def _name(self) -> None:
        """Make the folder's own name durable."""
        if not self._named:
            self.ground.sync_folder(self.ground.layout.bucket(UPLOADS, self._upload.id))
            self._named = True

    def _moved(self, offset: int) -> None:
        try:
            touched = os.fstat(self._content).st_mtime
        except OSError:  # a disk that is gone says not even that; what was counted is counted
            touched = self._upload.touched
        self._upload = self._upload.at(offset, touched)

    async def close(self) -> None:
        """Wait for the last thread; data that a late mark could not sync is taken back."""
        await self.jobs.settle()
        try:
            await self.mind_failure()
        except Passing as error:
            log.error("upload %s: %s", self._upload.id, error.line)
        finally:
            self.shut()

    def shut(self) -> None:
        """Close the descriptors."""
        for fd in (self._content, self._folder):
            if fd >= 0:
                os.close(fd)
        self._content = self._folder = -1

    async def alone(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a job when no mark runs beside it any more, and none has failed."""
        await self.jobs.settle()
        await self.mind_failure()
        return await self.jobs.run("sync", job, *args, **kwargs)

    async def mind_failure(self) -> None:
        """Let a mark's failure be felt: take back what it could not make durable, and raise."""
        if (failed := self.failed) is not None:
            await self.jobs.run("sync", self.distrust)
            with passing():
                raise failed.__cause__ if isinstance(failed.__cause__, OSError) else failed

    # -- bytes

    def append(self) -> LocalSink:
        """Begin to store a body at the present offset."""
        return LocalSink(self)

    async def declare_length(self, length: int | None) -> Upload:
        """Fix the length of an upload whose length was deferred, or take that back."""
        await self.alone(self._declare, length)
        return self._upload

    def _declare(self, length: int | None) -> None:
        with passing():
            (self._settle if self.ground.durability == "patch" else self._store)(length=length)
        self._upload = self._upload.declared(length)

    def write(self, pieces: Sequence[bytes]) -> None:
        """Add bytes at the end; on an error what fitted is counted."""
        offset = self._upload.offset
        try:
            with passing():
                while pieces:
                    written = self._disk.write(self._content, pieces, offset)
                    offset += written
                    pieces = rest(pieces, written)
        finally:
            self._moved(offset)

    def mark(self) -> None:
        """Make what is there durable, beside the writer; only a failure to sync the data itself matters."""
        try:
            self.commit()
        except DataLost:
            raise
        except (StorageFailed, NoSpace) as error:
            log.warning("upload %s: no mark was set: %s", self._upload.id, error.line)

    def commit(self) -> None:
        """Make what is there durable."""
        offset = self._upload.offset
        self._sync_content()
        with passing():
            self._settle(synced=offset)
            self._name()

    def _sync_content(self) -> None:
        try:
            self._disk.fdatasync(self._content)
        except OSError as error:
            raise DataLost("data could not be made durable; send it again") from error

    def cut(self, offset: int) -> None:
        """Take back everything past `offset`."""
        with passing():
            if self._record.synced > offset:
                self._lower(offset)
            self._disk.truncate(self._content, offset)
        self._moved(offset)

    def _lower(self, offset: int) -> None:
        """Note that less is synced, before it is cut; where there is no room for the note, the cut makes it."""
        try:
            self._settle(synced=offset)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._disk.truncate(self._content, offset)
            self._settle(synced=offset)

    def distrust(self) -> None:
        """Fall back to what was durable before a sync failed."""
        self.failed = None
        with passing():
            try:
                self._store(boot="")
            except OSError:
                self.ground.distrusted.add(self._upload.id)
                self._upload = self._upload.at(min(self._upload.offset, self._record.synced), self._upload.touched)
                raise
            self._repair()

    # -- ends

    async def finish(self, event: bytes | None) -> Upload:
        """Make the full upload a finished file."""
        await self.alone(self._finish, event)
        return self._upload

    def _finish(self, event: bytes | None) -> None:
        upload, ground = self._upload, self.ground
        with passing():
            if os.fstat(self._content).st_size != upload.length or read_keep(self._folder) is not None:
                raise StorageFailed("the content is not as long as the upload")
            if ground.durable:
                self._sync_or_distrust()
                self._settle(synced=upload.length)
            if event is not None:
                self._name()  # an event must not outlive an upload that a power cut takes back
                outbox.put(ground.disk, ground.layout.root, self._folder, upload.id, event, durable=ground.durable)
            with opened(ground.layout.bucket(UPLOADS, upload.id)) as source, opened(ground.layout.bucket(FILES, upload.id)) as target:
                brief_flock(source)
                self._disk.rename(upload.id, source, upload.id, target)
            self._upload = replace(upload, finished=True)
            ground.sync_folder(ground.layout.bucket(FILES, upload.id))

    def _sync_or_distrust(self) -> None:
        try:
            self._sync_content()
        except DataLost as error:
            self.distrust()
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise

    async def remove(self, *, durable: bool = True) -> None:
        """Delete the upload: its folder goes to the trash, whence the sweeper takes it."""
        await self.alone(self._remove, durable=durable)

    def _remove(self, *, durable: bool) -> None:
        tree = FILES if self._upload.finished else UPLOADS
        with passing():
            if tree == UPLOADS:
                outbox.drop(self._disk, self.ground.layout.root, self._upload.id, durable=self.ground.durable)
            try:
                self.ground.bury(self._upload.id, tree)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._empty()
                self.ground.bury(self._upload.id, tree)
            self.ground.distrusted.discard(self._upload.id)
            if durable:
                self.ground.sync_folder(self.ground.layout.bucket(tree, self._upload.id))

    def _empty(self) -> None:
        fd = open_file(CONTENT, self._folder, os.O_WRONLY)
        try:
            self._disk.truncate(fd, 0)
        finally:
            os.close(fd)

    async def take(self, target: Path) -> bool:
        """Move the content to `target`; an `OSError` of the target is the application's."""
        return await self.alone(self._take, target)

    def _take(self, target: Path) -> bool:
        if not self._upload.finished:
            raise StorageFailed("only a finished upload can be taken")
        if self._upload.taken:
            return False
        with opened(str(target.parent), follow=True) as parent:
            self._settle(taken=True)  # first: then content that is missing is never damage
            self._move(target, parent)
        self._upload = replace(self._upload, taken=True)
        return True

    def _move(self, target: Path, parent: int) -> None:
        try:
            self._disk.rename(CONTENT, self._folder, target.name, parent)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy(target.name, parent)
            if self.ground.durable:
                self._disk.fsync(parent)
            self._disk.unlink(CONTENT, self._folder)
        if self.ground.durable:
            self._disk.fsync(parent)

    def _copy(self, name: str, parent: int) -> None:
        temporary = f".{self._upload.id}.{secrets.token_hex(4)}"
        source = open_file(CONTENT, self._folder)
        copy = self._disk.create(temporary, parent)
        try:
            offset = 0
            while data := os.pread(source, COPY_BYTES, offset):
                write_all(self._disk, copy, data, offset)
                offset += len(data)
            if self.ground.durable:
                self._disk.fsync(copy)
            self._disk.rename(temporary, parent, name, parent)
        except BaseException:
            self._disk.unlink(temporary, parent)
            raise
        finally:
            os.close(source)
            os.close(copy)


def rest(pieces: Sequence[bytes], written: int) -> list[bytes]:
    """What is left of pieces after `written` bytes of them."""
    for index, piece in enumerate(pieces):
        if written < len(piece):
            return [piece[written:], *pieces[index + 1 :]]
        written -= len(piece)
    return []
