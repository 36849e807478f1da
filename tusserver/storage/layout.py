"""Where things lie in a data folder, and how they are found: names and descriptors, no change of anything.

    DATA/secret   DATA/uploads/ab/<id>/   DATA/files/ab/<id>/   DATA/trash/<any>/   DATA/outbox/<id>   DATA/run/

The law: look in `uploads/` first and then in `files/`, always in both (the other order misses a file that is being finished), and `files/`
wins. Folders are opened by descriptor, without following a link; everything below is relative to it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tusserver.errors import Damaged, NoSpace, NotFound, StorageFailed

UPLOADS, FILES, TRASH, OUTBOX, RUN = "uploads", "files", "trash", "outbox", "run"
BUCKETS = tuple(f"{number:02x}" for number in range(256))
CONTENT, KEEP = "content", "keep"
ID = re.compile(r"[0-9a-f]{32}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BRIEF = 5.0


class Found(NamedTuple):
    """An upload's folder, opened: the caller closes `fd`."""

    tree: str
    fd: int


class Layout:
    """The paths of one data folder.

    Args:
        root: The data folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def bucket(self, tree: str, upload_id: str) -> str:
        """The folder of a tree in which an upload lies."""
        return f"{self.root}/{tree}/{upload_id[:2]}"

    def content(self, upload_id: str) -> Path:
        """Where the content of a finished upload lies."""
        return Path(self.bucket(FILES, upload_id), upload_id, CONTENT)

    def open(self, tree: str, upload_id: str) -> int | None:
        """The folder of an upload in one tree; None when it is not there."""
        try:
            with opened(self.bucket(tree, upload_id)) as bucket:
                return os.open(upload_id, _FOLDER, dir_fd=bucket)
        except FileNotFoundError:
            return None

    def find(self, upload_id: str) -> Found:
        """The folder of an upload.

        Raises:
            NotFound: It is in neither tree, although the trees are there.
            StorageFailed: The data folder is gone.
        """
        unfinished = self.open(UPLOADS, upload_id)
        try:
            finished = self.open(FILES, upload_id)
        except BaseException:
            if unfinished is not None:
                os.close(unfinished)
            raise
        if finished is not None:
            if unfinished is not None:
                os.close(unfinished)
            return Found(FILES, finished)
        if unfinished is not None:
            return Found(UPLOADS, unfinished)
        if not os.path.isdir(self.bucket(UPLOADS, upload_id)):
            raise StorageFailed("the data folder is not there")
        raise NotFound

    def folder(self, upload_id: str) -> int:
        """The folder of an upload, wherever it is: what a lock is put on."""
        with passing():
            return self.find(upload_id).fd


@contextmanager
def passing() -> Iterator[None]:
    """Turn what the disk says no to into trouble that passes, without telling a client any path."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise NoSpace from error
        raise StorageFailed(f"the storage failed ({errno.errorcode.get(error.errno or 0, 'unknown')})") from error


@contextmanager
def opened(path: str, *, follow: bool = False) -> Iterator[int]:
    """A folder, open for the time of a block; one of the application's may be a link."""
    fd = os.open(path, _FOLDER & ~os.O_NOFOLLOW if follow else _FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def try_flock(fd: int) -> bool:
    """Get the lock on a descriptor, without waiting."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def brief_flock(fd: int) -> None:
    """Get a lock that nobody holds for longer than a rename takes."""
    deadline = time.monotonic() + _BRIEF
    while not try_flock(fd):
        if time.monotonic() > deadline:
            raise StorageFailed("a folder stayed locked")
        time.sleep(0.001)


def same(fd: int, path: str | int, *, parent: int | None = None) -> bool:
    """Whether a path still leads to what a descriptor is open on."""
    try:
        there = os.stat(path, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def open_file(name: str, folder: int, flags: int = os.O_RDONLY) -> int:
    """Open a plain file of an open folder; what is none is not waited for, and not followed."""
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        must_be_file(os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def must_be_file(status: os.stat_result) -> None:
    """Refuse a link, a folder, a pipe where a plain file is expected: somebody else has put it there."""
    if not stat.S_ISREG(status.st_mode):
        raise Damaged("the upload is damaged: something is no plain file")


def read_small(name: str, folder: int) -> bytes:
    """A small file of an open folder."""
    with os.fdopen(open_file(name, folder), "rb") as file:
        return file.read()


def read_keep(folder: int) -> int | None:
    """The number past which content is on trial; None when nothing is."""
    try:
        text = read_small(KEEP, folder)
    except FileNotFoundError:
        return None
    if not text.isdigit():
        raise Damaged("the number of the request on trial is damaged")
    return int(text)
