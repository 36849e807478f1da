"""How a data folder, and an upload in it, come into being.

The laws: a storage starts only where rename, link, flock and fsync do what the promises need. An upload is made in `trash/`, under a lock that
keeps every sweeper away, and enters `uploads/` by one rename: it is born whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import sys
from pathlib import Path

from tusserver.storage.base import StorageUnfit
from tusserver.storage.disk import Disk, write_all
from tusserver.storage.layout import BUCKETS, FILES, FULL, OUTBOX, RUN, TRASH, UPLOADS, opened, same, try_flock

SECRET, SECRET_BYTES = "secret", 32
CHECK = "check"
log = logging.getLogger("tusserver")
_in_use: set[tuple[int, int]] = set()  # data folders of this process: two storages on one folder would not see each other's locks


class Claim:
    """The data folder belongs to one storage of this process."""

    def __init__(self, root: Path) -> None:
        status = os.stat(root)
        self._key = (status.st_dev, status.st_ino)
        if self._key in _in_use:
            raise StorageUnfit(f"{root} is used by another storage of this process: give both mounts the same storage object")
        _in_use.add(self._key)

    def release(self) -> None:
        """Another storage may have it."""
        _in_use.discard(self._key)


def begin(disk: Disk, root: Path, *, durable: bool) -> Claim:
    """Make what is missing in a data folder, and check it.

    Raises:
        StorageUnfit: It cannot be used; the text is one line for the operator.
    """
    try:
        _make_root(disk, root, durable=durable)
        claim = Claim(root)
        try:
            with opened(str(root), follow=True) as top:
                _make_trees(disk, top, root, durable=durable)
                _check_if_there_is_room(disk, root, top)
                _make_secret(disk, top, root)
                if durable:
                    disk.fsync(top)
        except BaseException:
            claim.release()
            raise
    except OSError as error:
        raise StorageUnfit(f"{root} cannot be used as a data folder: {error.strerror or error}") from error
    if not sys.platform.startswith("linux"):  # pragma: no cover
        log.warning("this platform is for development: one process, and unfinished uploads do not survive a restart")
    return claim


def _make_root(disk: Disk, root: Path, *, durable: bool) -> None:
    """The data folder, and those above it that are missing; each is durable before anything is in it."""
    if root.is_dir():
        return
    _make_root(disk, root.parent, durable=durable)
    with opened(str(root.parent), follow=True) as parent:
        _make(disk, root.name, parent)
        if durable:
            disk.fsync(parent)


def _make_trees(disk: Disk, top: int, root: Path, *, durable: bool) -> None:
    for tree in (UPLOADS, FILES, TRASH, OUTBOX, RUN):
        _make(disk, tree, top)
    for tree in (UPLOADS, FILES):
        with opened(f"{root}/{tree}") as parent:
            for bucket in BUCKETS:
                _make(disk, bucket, parent)
            if durable:
                disk.fsync(parent)


def _make(disk: Disk, name: str, parent: int) -> None:
    with contextlib.suppress(FileExistsError):
        disk.mkdir(name, parent)


def _make_secret(disk: Disk, top: int, root: Path) -> None:
    """32 random bytes that never change; two first starts at once agree on one of them."""
    if not _secret_size(top):
        with opened(f"{root}/{TRASH}") as trash:
            name, folder = cradle(disk, trash, SECRET)
            try:
                _write_secret(disk, top, folder)
                disk.rmdir(name, trash)
            finally:
                os.close(folder)
    if (size := _secret_size(top)) != SECRET_BYTES:
        raise StorageUnfit(f"the file `secret` in the data folder has {size} bytes instead of {SECRET_BYTES}: restore it from a backup")


def _write_secret(disk: Disk, top: int, folder: int) -> None:
    fd = disk.create(SECRET, folder, mode=0o600)
    try:
        write_all(disk, fd, secrets.token_bytes(SECRET_BYTES))
        disk.fsync(fd)
    finally:
        os.close(fd)
    with contextlib.suppress(FileExistsError):
        disk.link(SECRET, folder, SECRET, top)
    disk.unlink(SECRET, folder)


def _secret_size(top: int) -> int | None:
    try:
        return os.stat(SECRET, dir_fd=top, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None


def _check_if_there_is_room(disk: Disk, root: Path, top: int) -> None:
    """On a full disk a folder that was in use before must still be served: only so can it be emptied."""
    try:
        _check(disk, root)
    except OSError as error:
        if error.errno not in FULL or not _secret_size(top):
            raise
        log.warning("%s could not be checked, since the disk is full", root)


def _check(disk: Disk, root: Path) -> None:
    """Carry a folder through all trees, link a file, lock a folder twice: what the promises rest on."""
    with contextlib.ExitStack() as stack:
        trash, *trees = [stack.enter_context(opened(f"{root}/{tree}")) for tree in (TRASH, UPLOADS, FILES, OUTBOX)]
        for tree in trees:
            _clear(disk, tree, trash)
        name, folder = cradle(disk, trash, CHECK)
        stack.callback(os.close, folder)
        place = trash
        try:
            for tree in [*trees, trash]:
                _carry(disk, name, place, tree, root)
                place = tree
            _check_links(disk, folder, f"{root}/{TRASH}/{name}", root)
        finally:
            disk.rmdir(name, place)


def _clear(disk: Disk, tree: int, trash: int) -> None:
    """Take away what a start that was killed has left of its check; one that is locked is being carried."""
    for name in os.listdir(tree):
        if name.startswith(f"{CHECK}."):
            with contextlib.suppress(FileNotFoundError), opened(f"/proc/self/fd/{tree}/{name}") as folder:
                if try_flock(folder):
                    disk.rename(name, tree, name, trash)


def _carry(disk: Disk, name: str, place: int, tree: int, root: Path) -> None:
    try:
        disk.rename(name, place, name, tree)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise StorageUnfit(f"{root}: uploads, files, trash and outbox must be on one file system") from error
        raise


def _check_links(disk: Disk, folder: int, path: str, root: Path) -> None:
    with opened(path) as again:
        os.close(disk.create("a", folder))
        try:
            disk.link("a", folder, "b", folder)
            disk.unlink("b", folder)
        finally:
            disk.unlink("a", folder)
        if try_flock(again):
            raise StorageUnfit(f"{root}: this file system has no working flock (is it a network share?)")


def cradle(disk: Disk, trash: int, prefix: str) -> tuple[str, int]:
    """A new folder in the trash, and an open descriptor of it that holds its lock."""
    while True:
        name = f"{prefix}.{secrets.token_hex(4)}"
        disk.mkdir(name, trash)
        try:
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=trash)
        except FileNotFoundError:  # a sweeper was first
            continue
        if try_flock(folder) and same(folder, name, parent=trash):
            return name, folder
        os.close(folder)
