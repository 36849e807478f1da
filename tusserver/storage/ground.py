"""What all parts of one local storage share, and how a finished upload is read."""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass, field
from typing import Literal

from tusserver.errors import Damaged, StorageFailed
from tusserver.model import Upload
from tusserver.storage.disk import Disk
from tusserver.storage.layout import CONTENT, TRASH, Layout, must_be_file, opened
from tusserver.storage.record import Record
from tusserver.storage.threads import Threads

Durability = Literal["finish", "patch", "none"]
log = logging.getLogger("tusserver")


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


def finished_upload(upload_id: str, folder: int, record: Record, *, missing_is_taken: bool = False) -> Upload:
    """A finished upload as its open folder shows it.

    Args:
        missing_is_taken: Let a missing content pass: a crash came between moving it away and noting that.

    Raises:
        Damaged: The content is not as long as the record says.
    """
    length = record.length or 0
    if record.taken:
        return record.upload(upload_id, offset=length, touched=record.created, finished=True)
    try:
        content = os.stat(CONTENT, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if missing_is_taken:
            return record.upload(upload_id, offset=length, touched=record.created, finished=True)
        log.error("upload %s is damaged: its content is missing", upload_id)
        raise Damaged("the stored file is damaged") from None
    must_be_file(content)
    if content.st_size != record.length:
        log.error("upload %s is damaged: it has %d bytes of %s", upload_id, content.st_size, record.length)
        raise Damaged("the stored file is damaged")
    return record.upload(upload_id, offset=length, touched=content.st_mtime, finished=True)
