"""Disks that run full, and a client that goes on as soon as there is room: what the tests of full disks are made of.

The laws of the client: each answer is a success or 507; while the disk is full HEAD gives the true offset, another upload is as it was and can be
deleted, and every record is whole JSON; once there is room it goes on from what HEAD says, and the file is equal to the byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.folder import DataFolder
from tests.support.wire import OFFSET_TYPE, Answer, Served
from tusserver import LocalStorage
from tusserver.errors import Taken
from tusserver.storage.disk import Disk

NEVER = 10**9


@dataclass(frozen=True)
class Kind:
    """How a disk is full.

    Args:
        error: What it says: no space, or no quota.
        renames: Whether a rename needs space too (a folder that has to grow), until something is cut.
        syncs: Whether space is looked for only when data is synced, as network and copy-on-write file systems do.
    """

    error: int = errno.ENOSPC
    renames: bool = False
    syncs: bool = False

    @classmethod
    def thrown(cls, dice: random.Random) -> Kind:
        """One of them."""
        return cls(dice.choice((errno.ENOSPC, errno.EDQUOT)), renames=dice.random() < 0.4, syncs=dice.random() < 0.2)


class FullDisk(Disk):
    """Lets a number of changes that need space pass, and none from then on, until it is freed; half of the last write fits.

    No power is ever cut here, so nothing is really synced.
    """

    def __init__(self) -> None:
        self.kind = Kind()
        self.left = NEVER
        self.full = False
        self.watched: tuple[Path, ...] = ()
        self.torn: list[str] = []

    def fill(self, kind: Kind, after: int = 0) -> None:
        """Run full after so many changes."""
        self.kind, self.left, self.full = kind, after, False

    def free(self) -> None:
        """There is room again."""
        self.left, self.full = NEVER, False

    def spend(self) -> None:
        """Need some space."""
        self.left -= 1
        if self.left < 0:
            self.full = True
            raise OSError(self.kind.error, os.strerror(self.kind.error))

    def look(self) -> None:
        """See that the records of the watched folders are whole."""
        for folder in self.watched:
            try:
                json.loads((folder / "upload.json").read_bytes())
            except FileNotFoundError:
                continue
            except ValueError as error:
                self.torn.append(f"{folder}: {error}")

    def write(self, fd: int, pieces: Sequence[bytes], offset: int) -> int:
        self.left -= 1
        data = b"".join(pieces)
        if self.left >= 0:
            return super().write(fd, [data], offset)
        if self.full or len(data) == 1:
            self.spend()
        self.full = True
        return super().write(fd, [data[: len(data) // 2]], offset)

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        if self.kind.renames and self.full:
            self.kind = Kind(self.kind.error)  # what was cut is room for an entry

    def rename(self, name: str, parent: int, target: str, target_parent: int) -> None:
        if self.kind.renames:
            self.spend()
        super().rename(name, parent, target, target_parent)

    def fdatasync(self, fd: int) -> None:
        if self.kind.syncs:
            self.spend()

    def fsync(self, fd: int) -> None:
        if self.kind.syncs:
            self.spend()


def _watching(name: str, *, spends: bool) -> Callable[..., Any]:
    change = getattr(FullDisk, name)

    def watched(self: FullDisk, *args: Any, **kwargs: Any) -> Any:
        try:
            if spends:
                self.spend()
            return change(self, *args, **kwargs)
        finally:
            self.look()

    return watched


for _name in ("mkdir", "create", "scratch", "link"):
    setattr(FullDisk, _name, _watching(_name, spends=True))
for _name in ("write", "truncate", "rename", "fdatasync", "fsync", "unlink", "rmdir"):
    setattr(FullDisk, _name, _watching(_name, spends=False))


class GaveUp(Exception):
    """The client deleted its upload on the full disk, and does not come again."""


@dataclass
class Client:
    """Uploads one file on a disk that runs full, and looks at everything when it does.

    Args:
        neighbour: The path of another upload, long enough never to end.
        victim: The path of one that may be deleted.
    """

    server: Served
    disk: FullDisk
    dice: random.Random
    data: bytes
    neighbour: str
    victim: str
    path: str = ""
    sent: int = 0
    safe: int = 0
    ran_full: bool = False
    story: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The id of the upload."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> DataFolder:
        """The data folder."""
        return DataFolder(self.server.data)

    async def ask(self, method: str, path: str, body: bytes = b"", /, **fields: str | int) -> Answer:
        """One request; its answer is never a failure of the server other than 503 and 507."""
        answer = await self.server.ask(method, path, body, **fields)
        self.story.append(f"{method} {path[-6:]} {fields.get('Upload_Offset', '')} +{len(body)} → {answer.status}")
        assert answer.status < 500 or answer.status in {503, 507}, answer
        return answer

    # -- what a client does

    async def create(self, length: int | None, body: bytes = b"") -> None:
        """POST until there is an upload."""
        fields: dict[str, str | int] = {"Upload_Defer_Length": 1} if length is None else {"Upload_Length": length}
        if body:
            fields["Content_Type"] = OFFSET_TYPE
        while not self.path:
            answer = await self.ask("POST", "/files/", body, **fields)
            if answer.status == 201 or "location" in answer.headers:
                self.path = answer.headers["location"]
                self.sent = len(body)
                self.disk.watched += (self.folder.upload(self.id), self.folder.file(self.id))
            if answer.status != 201:
                await self.refused(answer)
            elif body:
                assert answer.offset == len(body), answer
                self.safe = len(body)

    async def send(self, end: int, **fields: str | int) -> None:
        """PATCH from where HEAD says, until everything up to `end` is acknowledged."""
        while True:
            offset = await self.offset()
            if offset == len(self.data) == end:
                return  # finished by who looked
            self.sent = max(self.sent, end)
            answer = await self.ask("PATCH", self.path, self.data[offset:end], Upload_Offset=offset, Content_Type=OFFSET_TYPE, **fields)
            if answer.status == 204:
                assert answer.offset == end, answer
                self.safe = end
                return
            await self.refused(answer)

    async def overflow(self) -> None:
        """A chunked PATCH that runs past the length: refused, and nothing of it stays."""
        offset = await self.offset()
        body = self.data[offset:]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body, b"too much")) + b"0\r\n\r\n"
        wire = await self.server.open()
        await wire.head("PATCH", self.path, Upload_Offset=offset, Content_Type=OFFSET_TYPE, Transfer_Encoding="chunked")
        await wire.send(framed)
        answer = await wire.answer()
        self.story.append(f"PATCH chunked past the length → {answer.status}")
        self.sent = len(self.data)
        if answer.status == 413:
            assert await self.offset() == offset, "something of a refused body was kept"
            self.sent = offset
        else:
            await self.refused(answer)

    async def delete(self) -> None:
        """DELETE, which needs no room."""
        answer = await self.ask("DELETE", self.path)
        assert answer.status == 204 or (answer.status == 507 and self.disk.kind.syncs), answer
        if answer.status == 507:  # it is gone, and who asked does not know for certain
            self.ran_full = True
            self.disk.free()
            assert (await self.ask("DELETE", self.path)).status in {204, 404}
        assert (await self.ask("HEAD", self.path)).status == 404

    async def take(self, target: Path) -> None:
        """The application takes the file, again if need be."""
        try:
            await self.server.uploads.engine.take(self.id, target)
        except OSError:
            await self.full(patient=True)  # what was moved and not noted is the application's to repeat
            await self.server.uploads.engine.take(self.id, target)
        assert target.read_bytes() == self.data
        assert await self.server.uploads.engine.take(self.id, target) is False
        assert await self.server.offset(self.path) == len(self.data)
        with pytest.raises(Taken):
            await self.server.uploads.engine.download(self.id, None)

    # -- what is looked at

    async def offset(self) -> int:
        """What HEAD says: always the truth."""
        answer = await self.ask("HEAD", self.path)
        assert answer.status == 200, answer
        self.check_true(answer.offset)
        return answer.offset

    def check_true(self, offset: int) -> None:
        """What is there is what was sent, and nothing that was acknowledged is missing."""
        assert (0 if self.disk.kind.syncs else self.safe) <= offset <= self.sent, f"{self.safe} ≤ {offset} ≤ {self.sent}"
        folder = self.folder.file(self.id) if self.folder.file(self.id).exists() else self.folder.upload(self.id)
        with contextlib.suppress(FileNotFoundError):
            assert (folder / "content").read_bytes()[:offset] == self.data[:offset]

    async def refused(self, answer: Answer) -> None:
        """The disk is full, and the answer says so; look at everything, then make room."""
        if answer.status == 409 and self.disk.kind.syncs:
            return  # between HEAD and PATCH a mark failed, and took back what it could not sync
        assert answer.status == 507, answer
        assert "upload-offset" not in answer.headers
        assert "retry-after" in answer.headers
        await self.full()

    async def full(self, *, patient: bool = False) -> None:
        """Everything that works on a full disk; a client that is not patient may give up."""
        assert self.disk.full
        self.ran_full = True
        if self.dice.random() < 0.2:
            self.reboot()
        if self.path:
            head = await self.ask("HEAD", self.path)
            assert head.status == 200 or (head.status == 423 and self.sent == len(self.data)), head
            if head.status == 200:
                self.check_true(head.offset)
        before = await self.server.offset(self.neighbour)
        assert await self.nudge(before) == 507
        assert await self.server.offset(self.neighbour) == before, "another upload moved"
        if not self.disk.kind.syncs:
            assert (await self.ask("DELETE", self.victim)).status == 204
            assert (await self.ask("HEAD", self.victim)).status == 404
            if self.path and not patient and self.dice.random() < 0.2:
                assert (await self.ask("DELETE", self.path)).status == 204
                raise GaveUp
        await self.sweep()
        self.disk.free()
        assert await self.nudge(before) == 204

    def reboot(self) -> None:
        """The machine was started again: what was not synced does not count."""
        self.story.append("reboot")
        storage = self.server.uploads.engine.storage
        assert isinstance(storage, LocalStorage)
        storage._ground.__dict__["boot"] = self.dice.randbytes(4).hex()
        self.safe = 0

    async def nudge(self, offset: int) -> int:
        """One byte more for the neighbour."""
        return (await self.ask("PATCH", self.neighbour, b"n", Upload_Offset=offset, Content_Type=OFFSET_TYPE)).status

    async def sweep(self) -> None:
        """Let the sweeper see what this try left."""
        for tick in {int(path.rpartition("/")[2][:2], 16) for path in (self.path, self.victim) if path} | {255}:
            await self.server.uploads.engine._sweep(tick)


async def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait for what a task of this loop does."""
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"waited in vain: {what}") from None


def fill(ballast: Path) -> None:
    """Use up a file system to the last block."""
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (65536, 1024, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(fd, bytes(size))
        os.fsync(fd)
    finally:
        os.close(fd)
