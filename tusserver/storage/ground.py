"""What all parts of one local storage share, and how a finished upload is read."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field, replace
from typing import Literal

from tusserver.errors import Damaged, StorageFailed
from tusserver.model import Upload
from tusserver.storage.disk import Disk
from tusserver.storage.layout import CONTENT, TRASH, UPLOADS, Layout, must_be_file, opened, read_keep, same
from tusserver.storage.record import NeverBorn, Record
from tusserver.storage.threads import Threads

Durability = Literal["finish", "patch", "none"]
LOOKS = 8


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the writers of one storage share.

    Args:
        boot: Names the time since the machine was started.
        distrusted: Ids whose record could not be told that their data must not be trusted.
    """

    layout: Layout
    disk: Disk
    durability: Durability
    boot: str
    threads: Threads
    distrusted: set[str] = field(default_factory=set)

    @property
    def durable(self) -> bool:
        """Whether anything is synced at all."""
        return self.durability != "none"

    def sync_folder(self, path: str) -> None:
        """Make the entries of a folder durable."""
        if self.durable:
            with opened(path) as fd:
                self.disk.fsync(fd)

    def bury(self, upload_id: str, tree: str) -> None:
        """Move an upload's folder to the trash; the caller holds its lock."""
        with opened(self.layout.bucket(tree, upload_id)) as bucket, opened(f"{self.layout.root}/{TRASH}") as trash:
            self.disk.rename(upload_id, bucket, f"{upload_id}.{secrets.token_hex(4)}", trash)


class DataLost(StorageFailed):
    """An fdatasync of content failed: what was written since the last good one may be gone."""


def unfinished_upload(ground: Ground, upload_id: str, folder: int, record: Record) -> Upload:
    """An unfinished upload as its open folder shows it: the number on trial is the same before and after the size is read."""
    boot = None if upload_id in ground.distrusted else ground.boot
    for _ in range(LOOKS):
        keep = read_keep(folder)
        size, touched = _content_state(ground.layout, upload_id, folder, record)
        if read_keep(folder) == keep:
            return record.upload(upload_id, offset=record.offset(size, boot, keep), touched=touched, finished=False)
    raise StorageFailed("the upload kept changing")


def _content_state(layout: Layout, upload_id: str, folder: int, record: Record) -> tuple[int, float]:
    """Size and mtime of the content of an unfinished upload; a power cut may have kept the record alone."""
    try:
        status = os.stat(CONTENT, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if not same(folder, f"{layout.bucket(UPLOADS, upload_id)}/{upload_id}"):
            raise NeverBorn from None  # it was moved away under our eyes: look again
        return 0, record.created
    must_be_file(status)
    return status.st_size, status.st_mtime


class HalfDeleted(NeverBorn):
    """The content was cut to make room for its deletion: it is as good as gone."""


def finished_upload(upload_id: str, folder: int, record: Record) -> Upload:
    """A finished upload as its open folder shows it.

    Raises:
        Damaged: The content is not as long as the record says, or missing although nobody began to take it.
        HalfDeleted: It is being deleted, on a full disk, or was until a crash.
    """
    length = record.length or 0
    try:
        content = os.stat(CONTENT, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if not record.taken:
            raise Damaged("the stored file is damaged: its content is missing") from None
        return replace(record.upload(upload_id, offset=length, touched=record.created, finished=True), taken=True)
    must_be_file(content)
    if content.st_size == 0 and record.length:
        raise HalfDeleted
    if content.st_size != record.length:
        raise Damaged(f"the stored file is damaged: it has {content.st_size} bytes of {record.length}")
    return record.upload(upload_id, offset=length, touched=content.st_mtime, finished=True)
