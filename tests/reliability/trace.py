"""Every change of a disk, noted as it happens, and what a power cut may leave of them.

The law of what may be left (DESIGN, "nothing that was acknowledged is lost"):
- of a file: everything before its last good sync; of what came later any subset of the pages, and any size that it had since, or between,
  with zeros where data is missing;
- of a folder: a prefix of its changes, at least up to its last good sync; a rename is one change of both folders;
- a sync that fails loses the bytes that it was to save, and the next one succeeds.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.rubble import Change, Cut, Gone, Made, Moved, Named, Synced, Wrote
from tusserver.storage.disk import Disk


@dataclass
class Trace:
    """The changes below one folder, in their order, and what was said to clients between them.

    Args:
        changes: What happened.
        told: For each thing that was said, how many changes had happened, and what was said.
    """

    changes: list[Change] = field(default_factory=list)
    told: list[tuple[int, object]] = field(default_factory=list)

    def tell(self, what: object) -> None:
        """Note what is said now."""
        self.told.append((len(self.changes), what))

    def last_told(self, position: int) -> object:
        """What had been said when so many changes had happened."""
        return [what for count, what in self.told if count <= position][-1]


class Died(BaseException):
    """The process is dead from here on."""


class Recorder(Disk):
    """A disk that notes each change. Syncs cost nothing and may be made to fail, and the process may be made to die before any change.

    While `gate` is closed a sync that has begun waits for it: what others do meanwhile is not part of it.

    Args:
        root: Everything below it is noted; what is there already is safe.
        left: The process dies when so many changes have been made; the last of them, if it is a write, gets half-way.
    """

    def __init__(self, root: Path, *, left: int = 2**63) -> None:
        self.trace = Trace()
        self.left = left
        self.died = False
        self.failing_syncs = 0
        self.gate, self.syncing = threading.Event(), threading.Event()
        self.gate.set()
        self._lock = threading.RLock()
        self._nodes: dict[int, int] = {}  # inode → number of the node in the trace
        self._count = 0
        self._adopt(root)

    def _adopt(self, root: Path) -> None:
        """Note what is there already, as safe."""
        self._new(root.lstat().st_ino)
        for path in sorted(root.rglob("*")):
            status, parent = path.lstat(), self._nodes[path.parent.lstat().st_ino]
            node = self._new(status.st_ino)
            self._note(Made(node, parent, path.name, folder=path.is_dir()))
            if not path.is_dir():
                self._note(Wrote(node, 0, path.read_bytes()))
        for node in range(self._count):
            self._note(Synced(node, len(self.trace.changes)))

    def _new(self, inode: int) -> int:
        node = self._nodes[inode] = self._count
        self._count += 1
        return node

    def _note(self, change: Change) -> None:
        self.trace.changes.append(change)

    def _live(self) -> None:
        """Let a change happen, unless the process is dead."""
        if self.left <= 0:
            self.died = True
            raise Died
        self.left -= 1

    def node(self, fd: int) -> int:
        """The number of the node that a descriptor is open on."""
        return self._nodes[os.fstat(fd).st_ino]

    def mkdir(self, name: str, parent: int) -> None:
        """Make a folder."""
        with self._lock:
            self._live()
            super().mkdir(name, parent)
            node = self._new(os.stat(name, dir_fd=parent).st_ino)
            self._note(Made(node, self.node(parent), name, folder=True))

    def create(self, name: str, parent: int, *, mode: int = 0o666) -> int:
        """Make a file."""
        with self._lock:
            self._live()
            fd = super().create(name, parent, mode=mode)
            self._note(Made(self._new(os.fstat(fd).st_ino), self.node(parent), name, folder=False))
            return fd

    def scratch(self, name: str, parent: int) -> int:
        """Make or empty a temporary file."""
        with self._lock:
            self._live()
            there = os.access(name, os.F_OK, dir_fd=parent)
            fd = super().scratch(name, parent)
            if there:
                self._note(Cut(self.node(fd), 0))
            else:
                self._note(Made(self._new(os.fstat(fd).st_ino), self.node(parent), name, folder=False))
            return fd

    def write(self, fd: int, pieces: Sequence[bytes], offset: int) -> int:
        """Write pieces."""
        with self._lock:
            data = b"".join(pieces)
            half = data[: len(data) // 2] if self.left == 1 else data
            self._live()
            super().write(fd, [half], offset)
            self._note(Wrote(self.node(fd), offset, half))
            if half != data:
                self._live()
            return len(data)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file."""
        with self._lock:
            self._live()
            super().truncate(fd, size)
            self._note(Cut(self.node(fd), size))

    def fdatasync(self, fd: int) -> None:
        """Sync a file, or fail to."""
        self._sync(fd)

    def fsync(self, fd: int) -> None:
        """Sync a file or a folder, or fail to."""
        self._sync(fd)

    def _sync(self, fd: int) -> None:
        with self._lock:
            self._live()
            node, upto = self.node(fd), len(self.trace.changes)
        self.syncing.set()
        self.gate.wait()
        with self._lock:
            failed = self.failing_syncs > 0 and not stat.S_ISDIR(os.fstat(fd).st_mode)
            self._note(Synced(node, upto, failed=failed))
            if failed:
                self.failing_syncs -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    def rename(self, name: str, parent: int, target: str, target_parent: int) -> None:
        """Move an entry."""
        with self._lock:
            self._live()
            super().rename(name, parent, target, target_parent)
            self._note(Moved(self.node(parent), name, self.node(target_parent), target))

    def link(self, name: str, parent: int, target: str, target_parent: int) -> None:
        """Give a file another name."""
        with self._lock:
            self._live()
            super().link(name, parent, target, target_parent)
            node = self._nodes[os.stat(target, dir_fd=target_parent).st_ino]
            self._note(Named(node, self.node(target_parent), target))

    def unlink(self, name: str, parent: int) -> None:
        """Remove a name."""
        with self._lock:
            self._live()
            super().unlink(name, parent)
            self._note(Gone(self.node(parent), name))

    def rmdir(self, name: str, parent: int) -> None:
        """Remove a folder."""
        with self._lock:
            self._live()
            super().rmdir(name, parent)
            self._note(Gone(self.node(parent), name))
