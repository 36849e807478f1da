"""`upload.json`: what POST said, and the two values that are read after a reboot (`boot`, `synced`).

The law: a record is written whole or not at all (temporary file, fsync, rename). One that is missing or is no JSON belongs to an upload that
was never born; one of an unknown version is left alone.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from tusserver.errors import Damaged
from tusserver.model import Metadata, Upload
from tusserver.storage.disk import Disk, write_all
from tusserver.storage.layout import read_small

VERSION = 1
NAME = "upload.json"
TEMPORARY = "upload.json.tmp"


TYPES: dict[str, type | UnionType] = {
    "owner": str | None,
    "length": int | None,
    "metadata": str,
    "created": int | float,
    "boot": str,
    "synced": int,
    "taken": bool,
}


class NeverBorn(Exception):
    """There is no record, or a torn one: a creation that a power cut ended."""


class UnknownVersion(Damaged):
    """A record of another version of this server."""

    def __init__(self) -> None:
        super().__init__("the upload was stored by another version of this server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The content of `upload.json`.

    Args:
        owner: As the application's `owner` said at creation.
        length: Bytes in all; None while deferred.
        metadata: `Upload-Metadata` as it was sent.
        created: Seconds since the epoch.
        boot: The boot in which sizes can be trusted; "" after a failed fsync.
        synced: Bytes of content that are durable.
        taken: Whether the application has begun to move the content away: it has done so where the content is missing.
    """

    owner: str | None
    length: int | None
    metadata: str
    created: float
    boot: str
    synced: int = 0
    taken: bool = False

    def upload(self, upload_id: str, *, offset: int, touched: float, finished: bool) -> Upload:
        """The upload that this record and the state of its content make."""
        return Upload(
            id=upload_id,
            owner=self.owner,
            length=self.length,
            offset=offset,
            metadata=Metadata(self.metadata),
            created=self.created,
            touched=touched,
            finished=finished,
        )

    def offset(self, size: int, boot: str | None, keep: int | None) -> int:
        """How far an unfinished upload is, given the size of its content, the present boot (None: trust no size), and what is on trial."""
        if self.boot != boot:
            return min(size, self.synced)
        return size if keep is None else min(size, keep)


def read(folder: int) -> Record:
    """The record in an open folder.

    Raises:
        NeverBorn: Missing, or no JSON.
        UnknownVersion: Not of this version.
    """
    try:
        raw = read_small(NAME, folder)
        fields: Any = json.loads(raw)
    except (FileNotFoundError, ValueError, RecursionError):
        raise NeverBorn from None
    if not isinstance(fields, dict) or fields.pop("v", None) != VERSION:
        raise UnknownVersion
    if not all(isinstance(fields[name], types) for name, types in TYPES.items() if name in fields):
        raise UnknownVersion
    try:
        return Record(**fields)
    except TypeError:  # more fields, or fewer
        raise UnknownVersion from None


def write(disk: Disk, folder: int, record: Record, *, durable: bool) -> None:
    """Replace the record in an open folder, in one atomic step."""
    fd = disk.scratch(TEMPORARY, folder)
    try:
        write_all(disk, fd, json.dumps({"v": VERSION, **asdict(record)}).encode())
        if durable:
            disk.fsync(fd)
    finally:
        os.close(fd)
    disk.rename(TEMPORARY, folder, NAME, folder)


def current_boot() -> str:
    """Names the time since the machine was started; where that has no name, the time since this process was."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex
