"""What a storage must do: bytes and uploads, no HTTP.

A storage knows three things: reading an upload (`load`, `content`: no lock, nothing changed), making one (`create`), and a `Writer`, which
is everything that may be done to one upload while its lock is held. The suite `tests/storage/contract.py` runs against every storage.

The law: what `Sink.commit` returned is there after the process was killed; what `Sink.abort` took back is gone; `finish` is one atomic step.
Every method may raise `StorageFailed` or `NoSpace`; `load`, `open` and `content` raise `NotFound`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from tusserver.model import Upload


class Sink(ABC):
    """Takes the body of one request, in order, at the end of one upload."""

    @property
    @abstractmethod
    def offset(self) -> int:
        """Where the next byte goes, counted from the start of the upload."""

    @abstractmethod
    async def write(self, pieces: Sequence[bytes]) -> None:
        """Store bytes; when this returns a reader sees them.

        Raises:
            NoSpace: The disk is full; what fitted is stored and `offset` counts it.
            StorageFailed: The disk failed; `offset` counts what is stored.
        """

    @abstractmethod
    async def commit(self) -> Upload:
        """The body has ended: keep what was written, as durable as the configuration says."""

    @abstractmethod
    async def abort(self) -> Upload:
        """The body is refused: take back everything that was written through this sink."""


class Writer(ABC):
    """One upload while its lock is held. Opening it has repaired whatever an earlier crash left half-done."""

    @property
    @abstractmethod
    def upload(self) -> Upload:
        """The upload as it is now."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a thread still works on the upload, so that `close` will have to wait for it."""

    @abstractmethod
    async def declare_length(self, length: int | None) -> Upload:
        """Fix the length (bytes, 0 … 2^63-1) of an upload whose length was deferred; None takes that back."""

    @abstractmethod
    def append(self) -> Sink:
        """Begin to store a body at the present offset."""

    @abstractmethod
    async def finish(self, event: bytes | None) -> Upload:
        """Make the full upload a finished file, in one atomic step, after its bytes are durable.

        Args:
            event: The body of the `after_finish` that is owed from that step on; None when nobody listens.
        """

    @abstractmethod
    async def remove(self, *, durable: bool = True) -> None:
        """Delete the upload, finished or not."""

    @abstractmethod
    async def take(self, target: Path) -> bool:
        """Move the content of a finished upload to `target`; False when it had been taken before."""

    @abstractmethod
    async def close(self) -> None:
        """Wait for the last thread that works on the upload, then let go of everything."""


class Content(ABC):
    """An open finished file, to be sent to a client; stays readable when the upload is deleted meanwhile."""

    upload: Upload
    size: int
    etag: str
    modified: float

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor to read from with explicit offsets."""

    @abstractmethod
    def close(self) -> None:
        """Close the descriptor."""


class Owed(ABC):
    """An `after_finish` that has not been delivered to everybody, held so that no other process delivers it too."""

    body: bytes

    @abstractmethod
    async def done(self) -> None:
        """Everybody has had it: forget it."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of it; unless `done` it is still owed."""


class Storage(ABC):
    """Where uploads live."""

    features: frozenset[str] = frozenset()
    """The extensions of tus that this storage makes possible: "termination", "expiration", "creation-defer-length" …"""

    @abstractmethod
    async def start(self) -> None:
        """Check that the place can keep the promises; raise `StorageUnfit` with one clear line if not."""

    @abstractmethod
    async def stop(self) -> None:
        """Let go of threads and descriptors."""

    @abstractmethod
    async def free_space(self) -> int | None:
        """Bytes that can still be stored; None when unknown."""

    @abstractmethod
    async def create(self, upload: Upload) -> None:
        """Make an empty upload, whole or not at all."""

    @abstractmethod
    async def load(self, upload_id: str) -> Upload:
        """Look at an upload without a lock, changing nothing."""

    @abstractmethod
    async def open(self, upload_id: str, *, dying: bool = False) -> Writer:
        """Begin to work on an upload; the caller holds its lock.

        Args:
            dying: It is only to be removed: nothing is repaired, for which a full disk may have no room.
        """

    @abstractmethod
    async def content(self, upload_id: str) -> Content:
        """Open the file of a finished upload.

        Raises:
            NotFinished: It is not finished.
            Taken: The application has it.
        """

    def path(self, upload_id: str) -> Path | None:
        """Where the content of a finished upload lies; None where that is no file of this machine."""
        return None

    @abstractmethod
    async def sweep(self, tick: int) -> list[Upload]:
        """Clean a 256th part of the storage and name the unfinished uploads in it; the engine expires or finishes them."""

    @abstractmethod
    async def owed(self) -> list[str]:
        """The ids of finished uploads whose `after_finish` is still owed."""

    @abstractmethod
    async def claim(self, upload_id: str) -> Owed | None:
        """Hold an owed event for delivery; None when there is none, or another process has it."""


class StorageUnfit(Exception):
    """The storage cannot keep its promises here; the text is one line for the operator."""
