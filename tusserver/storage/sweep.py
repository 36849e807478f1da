"""The cleaning of a data folder: what a crash left behind, and what was deleted.

The law: a folder is touched only under its own lock, tried without waiting. What is not understood is left, and named in the log.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from tusserver.storage import record as records
from tusserver.storage.disk import Disk
from tusserver.storage.ground import Ground
from tusserver.storage.layout import FILES, TRASH, UPLOADS, opened, same, try_flock
from tusserver.storage.record import NeverBorn

TRASH_A_TICK = 64
log = logging.getLogger("tusserver")


def names(path: str) -> list[str]:
    """What is in a folder."""
    return os.listdir(path)


def bury_unborn(ground: Ground, upload_id: str) -> None:
    """Move an upload without a record to the trash."""
    fd = _locked(ground, upload_id)
    if fd is None:
        return
    try:
        records.read(fd)
    except NeverBorn:
        log.warning("upload %s was never born whole: removed", upload_id)
        ground.bury(upload_id, UPLOADS)
    finally:
        os.close(fd)


def bury_double(ground: Ground, upload_id: str) -> None:
    """Move an unfinished upload to the trash whose finished file is there as well."""
    fd = _locked(ground, upload_id)
    if fd is None:
        return
    try:
        if os.path.isdir(f"{ground.layout.bucket(FILES, upload_id)}/{upload_id}"):
            ground.bury(upload_id, UPLOADS)
    finally:
        os.close(fd)


def _locked(ground: Ground, upload_id: str) -> int | None:
    """The folder in `uploads/`, under its lock; None when it is gone, or in use."""
    fd = ground.layout.open(UPLOADS, upload_id)
    if fd is None:
        return None
    if try_flock(fd) and same(fd, f"{ground.layout.bucket(UPLOADS, upload_id)}/{upload_id}"):
        return fd
    os.close(fd)
    return None


def empty_trash(disk: Disk, root: Path) -> list[str]:
    """Remove some of what is in the trash, and name what cannot be; a folder that is locked is being born, or still read."""
    left, burnt = [], 0
    with opened(f"{root}/{TRASH}") as trash:
        for name in names(f"{root}/{TRASH}"):
            try:
                burnt += _burn(disk, name, trash)
            except OSError:
                left.append(name)
            if burnt == TRASH_A_TICK:
                break
    return left


def _burn(disk: Disk, name: str, trash: int) -> bool:
    """Remove one entry; False when it is in use, or gone."""
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=trash)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        disk.unlink(name, trash)
        return True
    try:
        if not try_flock(folder) or not same(folder, name, parent=trash):  # in use; or born while we looked, and on its way
            return False
        for entry in os.listdir(folder):
            disk.unlink(entry, folder)
        with contextlib.suppress(FileNotFoundError):
            disk.rmdir(name, trash)
        return True
    finally:
        os.close(folder)
