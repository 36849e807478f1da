"""A disk that runs full at every change of an upload's life: the answer is 507, nothing is lost, and it goes on once there is room."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import tusserver
from tests.reliability.faults import Replace, rename_before_write
from tests.reliability.full_disk import Client, FullDisk, GaveUp, Kind, fill, wait_for
from tests.storage.contract import new
from tests.support.image import MIB, Image
from tests.support.tries import Tries
from tests.support.wire import OFFSET_TYPE, Served, served
from tusserver import LocalStorage
from tusserver.config import Config
from tusserver.errors import NoSpace
from tusserver.storage import local_sink
from tusserver.storage.ground import Durability
from tusserver.storage.local_writer import LocalWriter

CALM = Config(sweep_interval=3600)  # the tests sweep by hand
Life = Callable[[Client], Awaitable[None]]


# -- lives of an upload


async def in_pieces(client: Client) -> None:
    await client.create(len(client.data))
    for end in (len(client.data) // 3, len(client.data) // 2, len(client.data)):
        await client.send(end)


async def with_its_creation(client: Client) -> None:
    await client.create(len(client.data), client.data[:5000])
    await client.send(len(client.data))


async def at_once(client: Client) -> None:
    await client.create(len(client.data), client.data)
    await client.send(len(client.data))


async def deferred(client: Client) -> None:
    await client.create(None)
    await client.send(5000)
    await client.send(len(client.data), Upload_Length=len(client.data))


async def past_its_length(client: Client) -> None:
    await client.create(len(client.data))
    await client.send(3000)
    await client.overflow()
    await client.send(len(client.data))


async def deleted(client: Client) -> None:
    await client.create(len(client.data))
    await client.send(5000)
    await client.delete()


async def deleted_when_finished(client: Client) -> None:
    await at_once(client)
    await client.delete()


async def taken(client: Client) -> None:
    await at_once(client)
    await client.take(client.server.data.parent / f"taken-{client.id}")


LIVES: tuple[Life, ...] = (
    in_pieces, with_its_creation, at_once, deferred, past_its_length, deleted, deleted_when_finished, taken
)  # fmt: skip


# -- the machine


class Machine:
    """Lives, one after the other, in one server on one disk."""

    def __init__(self, server: Served, disk: FullDisk, tries: Tries, heard: list[str]) -> None:
        self.server, self.disk, self.tries, self.heard = server, disk, tries, heard
        self.neighbour = ""
        self.count = 0

    async def run(self, wanted: int) -> None:
        """All lives at all points, again and again until there were enough."""
        self.neighbour = await self.server.create(10**6)
        while self.count < wanted:
            for life in LIVES:
                after = 0
                while await self.one(life, after):
                    after += 1

    async def one(self, life: Life, after: int) -> bool:
        """One life on a disk that runs full after so many changes; whether it did."""
        self.count += 1
        dice, kind = self.tries.dice, Kind.thrown(self.tries.dice)
        victim = await self.server.create(5)
        client = Client(self.server, self.disk, dice, dice.randbytes(dice.randint(8000, 20000)), self.neighbour, victim)
        self.disk.watched = tuple(client.folder.upload(path.rpartition("/")[2]) for path in (self.neighbour, victim))
        self.disk.fill(kind, after)
        finished = not life.__name__.startswith("deleted")
        try:
            try:
                await life(client)
            except GaveUp:
                finished = False
            ran_full = client.ran_full or self.disk.full
            self.disk.free()
            await self.ended(client, finished=finished)
        except AssertionError as error:
            told = "\n  ".join(client.story)
            raise AssertionError(
                f"try {self.count}: {life.__name__}, full after {after} changes ({kind}): {error}\n  {told}"
            ) from error
        finally:
            self.disk.free()
        return ran_full

    async def ended(self, client: Client, *, finished: bool) -> None:
        """The end of a life: the file, its event, and nothing else."""
        folder = client.folder
        await client.sweep()
        if finished:
            await wait_for(lambda: client.id in self.heard, "the event comes")
            assert await client.offset() == len(client.data)
            assert client.id in folder.files()
        assert client.id not in folder.uploads()
        await wait_for(lambda: folder.outbox() == [], "the outbox is empty")
        await client.sweep()
        assert folder.trash() == []
        assert self.disk.torn == []
        assert len(self.server.uploads.engine._locks) == 0  # type: ignore[arg-type]  # those of a host can be counted


async def machine(folder: Path, tries: Tries, durability: Durability) -> int:
    """The machine; returns how often it tried."""
    heard: list[str] = []

    async def hear(event: tusserver.Event) -> None:
        heard.append(event.upload.id)

    disk = FullDisk()
    storage = LocalStorage(folder / "data", durability=durability, disk=disk)
    async with served(folder / "data", storage=storage, config=CALM, listeners={"after_finish": hear}) as server:
        lives = Machine(server, disk, tries, heard)
        await lives.run(tries.count(1))
    assert not list(folder.rglob("*.tmp"))
    return lives.count


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def many_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are set within small bodies."""
    monkeypatch.setattr(local_sink, "MARK_BYTES", 2000)


@pytest.mark.parametrize("durability", ["finish", "patch", "none"])
async def test_a_disk_that_runs_full_anywhere_costs_nothing_but_time(
    tmp_path: Path, tries: Tries, durability: Durability, caplog: pytest.LogCaptureFixture
) -> None:
    before = descriptors()
    caplog.set_level(logging.INFO)
    count = await machine(tmp_path, tries, durability)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert descriptors() <= before
    tries.tell(f"{durability}: {count} disks run full, 0 lost, 0 wrong")


# -- faults put in on purpose


def full_disk_not_noticed(replace: Replace) -> None:
    """A write that failed counts as done."""
    write = LocalWriter.write

    def counted(writer: LocalWriter, pieces: Sequence[bytes]) -> None:
        end = writer.upload.offset + sum(map(len, pieces))
        with contextlib.suppress(NoSpace):
            write(writer, pieces)
        writer._moved(end)

    replace(LocalWriter, "write", counted)


@pytest.mark.parametrize("fault", [rename_before_write, full_disk_not_noticed], ids=lambda fault: fault.__name__)
async def test_a_fault_put_in_on_purpose_is_seen(
    tmp_path: Path, tries: Tries, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Replace], None]
) -> None:
    fault(monkeypatch.setattr)
    with pytest.raises(AssertionError, match="full after"):
        await machine(tmp_path, tries, "finish")
    tries.tell(f"{fault.__name__} was seen")


# -- real file systems


@dataclass
class RealDisk:
    """A server on a small ext4, with an upload that nothing may harm."""

    server: Served
    root: Path
    neighbour: str

    async def patch(self, path: str, offset: int, data: bytes) -> int:
        """The status of a PATCH."""
        return (await self.server.ask("PATCH", path, data, Upload_Offset=offset, Content_Type=OFFSET_TYPE)).status

    async def at_the_limit(self, path: str, data: bytes, *, full: bool = False) -> int:
        """The true offset of an upload on a full disk, on which others are as they were, and one can be deleted."""
        head = await self.server.ask("HEAD", path)
        assert head.status == 200 or (full and head.status == 423), head
        offset = len(data) if head.status == 423 else head.offset
        content = next(self.root.glob(f"data/*/??/{path.rpartition('/')[2]}/content"))
        assert content.read_bytes()[:offset] == data[:offset]
        assert await self.server.offset(self.neighbour) == 4
        for record in self.root.glob("data/*/??/*/upload.json"):
            json.loads(record.read_bytes())
        return offset


@pytest.fixture
async def real(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[RealDisk]:
    """Ends when the neighbour has gone on, and nothing is left."""
    with Image("ext4", tmp_path, 16 * MIB) as image:
        async with served(image.root / "data", config=CALM, listeners={"after_finish": hear}) as server:
            disk = RealDisk(server, image.root, await server.create(8))
            assert await disk.patch(disk.neighbour, 0, b"0123") == 204
            yield disk
            assert await disk.patch(disk.neighbour, 4, b"4567") == 204
            assert server.file(disk.neighbour) == b"01234567"
            await sweep(server)
            await wait_for(lambda: not os.listdir(image.root / "data/outbox"), "the outbox is empty")
            assert os.listdir(image.root / "data/trash") == []
            assert list(image.root.rglob("*.tmp")) == []
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


async def sweep(server: Served) -> None:
    """A full round, and the tick that removes what the last one found."""
    for tick in range(257):
        await server.uploads.engine._sweep(tick)


async def hear(event: tusserver.Event) -> None:
    """Somebody listens, so that events are owed."""


async def test_a_real_disk_may_be_full_at_any_point_of_an_upload(real: RealDisk) -> None:
    server, ballast, data = real.server, real.root / "ballast", os.urandom(2 * MIB)
    victims = [await server.create(5) for _ in range(3)]
    fill(ballast)
    assert (await server.ask("POST", "/files/", Upload_Length=5)).status == 507
    assert (await server.ask("DELETE", victims.pop())).status == 204
    ballast.unlink()
    path = await server.create(len(data))
    fill(ballast)
    assert await real.patch(path, 0, data) == 507
    offset = await real.at_the_limit(path, data)
    ballast.unlink()
    wire = await server.open()
    await wire.patch(path, offset, len(data) - offset, data[offset : MIB])
    await server.reaches(path, MIB)
    fill(ballast)
    await wire.send(data[MIB:])
    assert (await wire.answer()).status == 507
    offset = await real.at_the_limit(path, data)
    assert MIB <= offset < len(data)
    assert (await server.ask("DELETE", victims.pop())).status == 204
    ballast.unlink()
    assert await real.patch(path, offset, data[offset:-1]) == 204
    fill(ballast)
    assert await real.patch(path, len(data) - 1, data[-1:]) in {204, 507}
    await real.at_the_limit(path, data, full=True)
    assert (await server.ask("DELETE", victims.pop())).status == 204
    ballast.unlink()
    assert await server.offset(path) == len(data)
    assert server.file(path) == data


async def test_with_no_inode_left_uploads_go_on_and_finish_later(real: RealDisk) -> None:
    server, ballast = real.server, real.root / "ballast"
    path, victim = await server.create(10), await server.create(5)
    ballast.mkdir()
    with contextlib.suppress(OSError):
        for number in range(10**6):
            (ballast / str(number)).touch()
    assert (await server.ask("POST", "/files/", Upload_Length=5)).status == 507
    assert await real.patch(path, 0, b"01234") == 204
    assert await real.patch(path, 5, b"56789") == 507
    assert (await server.ask("HEAD", path)).status == 423
    await real.at_the_limit(path, b"0123456789", full=True)
    assert (await server.ask("DELETE", victim)).status == 204
    shutil.rmtree(ballast)
    assert await server.offset(path) == 10
    assert server.file(path) == b"0123456789"


def remount(root: Path, mode: str) -> None:
    """Make a mounted file system read-only, or writable again."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(root)], check=True)


async def test_a_disk_that_became_read_only_is_trouble_that_passes(real: RealDisk) -> None:
    server = real.server
    path, file = await server.create(10), await server.create(0)
    assert await real.patch(path, 0, b"01234") == 204
    remount(real.root, "ro")
    try:
        assert await server.offset(path) == 5
        assert await server.offset(file) == 0
        assert await real.patch(path, 5, b"56789") == 503
        assert (await server.ask("POST", "/files/", Upload_Length=5)).status == 503
        assert (await server.ask("DELETE", path)).status == 503
        await sweep(server)
    finally:
        remount(real.root, "rw")
    assert await real.patch(path, 5, b"56789") == 204
    assert server.file(path) == b"0123456789"


async def test_a_folder_with_many_uploads_is_swept_while_one_is_asked_for(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data, config=CALM) as server:
        for _ in range(1000):
            await server.uploads.engine.storage.create(new(1000, created=time.time()))
        before = sorted(path.name for path in data.glob("uploads/??/*"))
        path = await server.create(10)
        round_of_the_sweeper = asyncio.create_task(sweep(server))
        while not round_of_the_sweeper.done():
            assert await server.offset(path) == 0
        assert (await server.ask("DELETE", path)).status == 204
        await sweep(server)
        assert os.listdir(data / "trash") == []
        assert sorted(path.name for path in data.glob("uploads/??/*")) == before
