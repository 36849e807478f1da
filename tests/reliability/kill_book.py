"""What clients were told about their uploads, and whether the next answer may be what it is.

The law: process death loses nothing. An offset that was told, or lay on disk when the process died, is a floor for every later answer; an upload
that is gone was deleted, or had no byte for as long as uploads may wait, and stays gone.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from tests.support.raw import Response

MIB = 1024 * 1024
SIZES = ((0, 1), (1, 100), (100, 64 * 1024), (64 * 1024, MIB), (MIB, 4 * MIB))
WEIGHTS = (5, 10, 30, 35, 20)
COARSE = 0.1  # the kernel's clock for files, and what lies between a byte's arrival and its being stored


@dataclass(frozen=True)
class File:
    """A file to be sent; its name says all that it is.

    Args:
        name: Unlike any other's, and the seed of its content.
        size: Bytes.
    """

    name: str
    size: int

    @classmethod
    def thrown(cls, sender: str, number: int, dice: random.Random) -> File:
        """One of random content and size."""
        size = dice.randrange(*dice.choices(SIZES, WEIGHTS)[0])
        return cls(f"{sender}-{number}-{dice.getrandbits(32):08x}-{size}", size)

    @classmethod
    def named(cls, name: str) -> File:
        """The file of a name."""
        return cls(name, int(name.rpartition("-")[2]))

    def content(self) -> bytes:
        """Its bytes."""
        return random.Random(self.name).randbytes(self.size)


@dataclass(frozen=True)
class Entry:
    """What is known of an upload.

    Args:
        file: What is sent to it.
        alive: It got a byte, or was made, at this time or later.
        offset: So far it is at least.
        asked: When that was asked.
        finished: Somebody was told that it is.
        deleting: A DELETE was sent.
        gone: Somebody was told that it is gone.
    """

    file: File
    alive: float
    offset: int = 0
    asked: float = 0.0
    finished: bool = False
    deleting: bool = False
    gone: bool = False


@dataclass
class Book:
    """All uploads that are known.

    Args:
        expire_after: Seconds without a byte after which an unfinished upload may be gone.
    """

    expire_after: float
    entries: dict[str, Entry] = field(default_factory=dict)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=30))
    urgent: deque[str] = field(default_factory=deque)
    asked: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def born(self, url: str, file: File, asked: float) -> str:
        """An upload was made by a request that was sent at `asked`; returns its id."""
        upload_id = urlsplit(url).path.rpartition("/")[2]
        with self._lock:
            assert self.entries.get(upload_id, Entry(file, 0.0)).file == file, f"{upload_id} was made for two files"
            if upload_id not in self.entries:
                self.entries[upload_id] = Entry(file, asked)
                self.recent.append(upload_id)
        return upload_id

    def told(self, upload_id: str, offset: int, *, asked: float = 0.0) -> None:
        """A client was told an offset, by the answer to a request that was sent at `asked`."""
        with self._lock:
            entry = self.entries[upload_id]
            assert offset <= entry.file.size, f"{upload_id}: offset {offset} of {entry.file}"
            if offset > entry.offset:  # so it moved after the last answer was asked for
                entry = replace(entry, offset=offset, asked=asked, alive=max(entry.alive, entry.asked))
            self.entries[upload_id] = replace(entry, finished=entry.finished or offset == entry.file.size)

    def lay(self, upload_id: str, size: int, touched: float) -> None:
        """So many bytes lay on disk when the process was dead."""
        with self._lock:
            entry = self.entries[upload_id]
            self.entries[upload_id] = replace(entry, offset=max(entry.offset, size), alive=max(entry.alive, touched))
            if upload_id not in self.urgent:
                self.urgent.append(upload_id)

    def judge(self, upload_id: str, before: Entry, asked: float, answer: Response) -> None:
        """Look at the answer to a HEAD that was sent at `asked`, when `before` was known."""
        self.asked += 1
        if answer.status == 404:
            self.missing(upload_id)
            return
        assert answer.status == 200, f"{upload_id}: HEAD is answered {answer}"
        assert not before.gone, f"{upload_id} was gone, and is back: {before}"
        assert answer.offset is not None
        assert answer.offset >= before.offset, f"{upload_id}: HEAD says {answer.offset} after {before}"
        self.told(upload_id, answer.offset, asked=asked)

    def missing(self, upload_id: str) -> None:
        """A client was told that an upload is gone."""
        with self._lock:
            entry = self.entries[upload_id]
            assert entry.deleting or entry.gone or self.expired(entry), f"{upload_id} is lost at {time.time()}: {entry}"
            self.entries[upload_id] = replace(entry, gone=True)

    def expired(self, entry: Entry) -> bool:
        """Whether an upload may be gone by itself."""
        return not entry.finished and time.time() - entry.alive >= self.expire_after - COARSE

    def deleting(self, upload_id: str) -> None:
        """A DELETE is going to be sent."""
        with self._lock:
            self.entries[upload_id] = replace(self.entries[upload_id], deleting=True)

    def watched(self, dice: random.Random) -> str | None:
        """An upload to ask for: one that was there when the process died, or any of the latest."""
        if self.urgent:
            return self.urgent.popleft()
        return dice.choice(self.recent) if self.recent else None
