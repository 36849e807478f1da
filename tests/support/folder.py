"""A data folder as a test sees it: ids, contents, and a snapshot that tells whether anything changed."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """The digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class DataFolder:
    """One data folder.

    Args:
        root: Its path.
    """

    root: Path

    def uploads(self) -> list[str]:
        """The ids of unfinished uploads."""
        return self._ids("uploads/??/*")

    def files(self) -> list[str]:
        """The ids of finished ones."""
        return self._ids("files/??/*")

    def trash(self) -> list[str]:
        """The names of what is being born or dying."""
        return self._ids("trash/*")

    def outbox(self) -> list[str]:
        """The ids whose `after_finish` is still owed."""
        return self._ids("outbox/*")

    def _ids(self, pattern: str) -> list[str]:
        return sorted(path.name for path in self.root.glob(pattern))

    def upload(self, upload_id: str) -> Path:
        """The folder of an unfinished upload."""
        return self.root / "uploads" / upload_id[:2] / upload_id

    def file(self, upload_id: str) -> Path:
        """The folder of a finished one."""
        return self.root / "files" / upload_id[:2] / upload_id

    def content(self, upload_id: str) -> Path:
        """The stored bytes of a finished upload."""
        return self.file(upload_id) / "content"

    def record(self, upload_id: str) -> dict[str, Any]:
        """The `upload.json` of an upload, finished or not."""
        folder = self.file(upload_id) if self.file(upload_id).exists() else self.upload(upload_id)
        found: dict[str, Any] = json.loads((folder / "upload.json").read_text())
        return found

    def regular_files(self) -> list[str]:
        """The paths of all regular files, relative to the folder."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if stat.S_ISREG(path.lstat().st_mode))

    def snapshot(self) -> dict[str, tuple[int, ...] | str]:
        """Every entry but those of `run/` and `trash/`, with inode, size and digest: equal when nothing changed on disk."""
        entries = (path for path in self.root.rglob("*") if path.relative_to(self.root).parts[0] not in {"run", "trash"})
        return {str(path.relative_to(self.root)): _state(path) for path in entries}


def _state(path: Path) -> tuple[int, ...] | str:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return (status.st_ino, status.st_mode)
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {sha256(path)}"
