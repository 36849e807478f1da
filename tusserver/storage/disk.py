"""The few operations that change a disk, and nothing else: every change that local storage makes goes through here.

It is the seam at which a test stops the process, drops a write or fails an fsync. So nothing here decides anything: each method is one system
call (`write` may need several). Names are relative to an open folder (`parent`), and no link is ever followed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

IOV_MAX = 1000
_NEW = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has none


class Disk:
    """The real disk. Every method raises `OSError`."""

    def mkdir(self, name: str, parent: int) -> None:
        """Make a folder; the umask decides its mode."""
        os.mkdir(name, 0o777, dir_fd=parent)

    def create(self, name: str, parent: int, *, mode: int = 0o666) -> int:
        """Make a file that must not exist, and open it for writing."""
        return os.open(name, _NEW | os.O_EXCL, mode, dir_fd=parent)

    def scratch(self, name: str, parent: int) -> int:
        """Open a temporary file, emptied if an earlier crash left one."""
        return os.open(name, _NEW | os.O_TRUNC, 0o666, dir_fd=parent)

    def write(self, fd: int, pieces: Sequence[bytes], offset: int) -> int:
        """Write pieces one behind the other from `offset` on; returns the bytes written, which may be fewer than all."""
        return os.pwritev(fd, pieces[:IOV_MAX], offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file to `size` bytes."""
        os.ftruncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        """Make a file's bytes and size durable."""
        _fdatasync(fd)

    def fsync(self, fd: int) -> None:
        """Make a file, or the entries of a folder, durable."""
        os.fsync(fd)

    def rename(self, name: str, parent: int, target: str, target_parent: int) -> None:
        """Move an entry in one atomic step; replaces a file, or an empty folder."""
        os.rename(name, target, src_dir_fd=parent, dst_dir_fd=target_parent)

    def link(self, name: str, parent: int, target: str, target_parent: int) -> None:
        """Give a file a second name, which must not exist."""
        os.link(name, target, src_dir_fd=parent, dst_dir_fd=target_parent, follow_symlinks=False)

    def unlink(self, name: str, parent: int) -> None:
        """Remove a file's name."""
        os.unlink(name, dir_fd=parent)

    def rmdir(self, name: str, parent: int) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=parent)


def write_all(disk: Disk, fd: int, data: bytes, offset: int = 0) -> None:
    """Write all of `data`, however many steps it takes."""
    view = memoryview(data)
    while view:
        written = disk.write(fd, [view], offset)  # type: ignore[list-item]  # pwritev takes any buffer
        view, offset = view[written:], offset + written
