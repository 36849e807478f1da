"""A file system of its own in a sparse file: its power can be cut, and it is always unmounted in the end.

The law: after `unmount` the kernel keeps nothing of it. Neither the next mount nor a comparison then reads what only memory knew.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support import services
from tests.support.waiting import until

Kind = Literal["ext4", "xfs"]
MIB = 1024 * 1024
_MAKE = {"ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_journal_init=0,lazy_itable_init=0,nodiscard"), "xfs": ("mkfs.xfs", "-q", "-f", "-K")}
_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_WITHOUT_LOG_FLUSH = struct.pack("I", 2)


def need_mounts(*programs: str) -> None:
    """Leave out a test where nothing can be mounted, or a program is missing; in CI it fails."""
    if os.geteuid() != 0:
        services.missing("only root can mount a file system")
    for name in programs:
        services.program(name)


class Image:
    """One file system; a context manager. The test is left out where it cannot be made.

    Args:
        kind: "ext4" or "xfs".
        folder: Where its file and its mount point are made.
        size: Bytes of the device; XFS needs 300 MiB.
    """

    def __init__(self, kind: Kind, folder: Path, size: int = 1024 * MIB) -> None:
        need_mounts(_MAKE[kind][0])
        self.kind = kind
        self.root = folder / "mounted"
        self._file = folder / f"{kind}.image"
        self._size = size
        self._device = ""

    def make(self) -> None:
        """Make it, empty."""
        self.root.mkdir(exist_ok=True)
        with self._file.open("wb") as file:
            file.truncate(self._size)
        _run(*_MAKE[self.kind], str(self._file))

    def mount(self) -> None:
        """Mount it."""
        _run("mount", "-t", self.kind, "-o", "loop", str(self._file), str(self.root))
        self._device = Path(f"/sys/dev/block/{_numbers(self.root)}").resolve().name

    def shut_down(self) -> None:
        """Cut the power: from now on nothing reaches the device, the log included."""
        fd = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _WITHOUT_LOG_FLUSH)
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Unmount it, wherever it is mounted: a mount namespace that is about to end keeps it for a moment."""
        until(lambda: _unmounted(self.root), f"{self.root} can be unmounted")
        until(lambda: not Path("/sys/fs", self.kind, self._device).exists(), f"the kernel forgets the {self.kind} on {self._device}")
        self._device = ""

    def remount(self) -> None:
        """What the device has, and nothing else."""
        self.unmount()
        self.mount()

    def __enter__(self) -> Self:
        self.make()
        self.mount()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._device:
            self.unmount()
        self._file.unlink()


class ThinImage(Image):
    """One whose device can run full while the file system believes that it has room: write-back fails then, and so does the next fsync.

    What the file system has stored up to `thin` has its place on the device; only what is new can fail.
    """

    def __init__(self, kind: Kind, folder: Path, size: int = 300 * MIB) -> None:
        need_mounts("fstrim", "fsfreeze")
        self._memory = folder / "memory"
        self._ballast = self._memory / "ballast"
        super().__init__(kind, self._memory, size)

    def make(self) -> None:
        """Make it, empty, with every block in its place: `mkfs` leaves holes even in the log."""
        self._memory.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size + MIB}", "tmpfs", str(self._memory))
        super().make()
        with self._file.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, self._size)

    def thin(self, room: int) -> None:
        """Store what there is, in place; then leave `room` bytes for all that is new."""
        _run("fsfreeze", "--freeze", str(self.root))
        _run("fsfreeze", "--unfreeze", str(self.root))
        _run("fstrim", str(self.root))
        until(lambda: _free(self._memory) > 0.95 * _free(self.root), "the device has let go of what is free")
        with self._ballast.open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, _free(self._memory) - room)

    def give_back(self) -> None:
        """The device has room again."""
        self._ballast.unlink()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ballast.unlink(missing_ok=True)
        super().__exit__(kind, error, trace)
        until(lambda: _unmounted(self._memory), f"{self._memory} can be unmounted")


def _free(root: Path) -> int:
    space = os.statvfs(root)
    return space.f_bfree * space.f_frsize


def _unmounted(root: Path) -> bool:
    return subprocess.run(["umount", str(root)], capture_output=True, check=False).returncode == 0


def _numbers(root: Path) -> str:
    device = root.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
