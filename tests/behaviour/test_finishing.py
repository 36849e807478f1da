"""From the last byte to the finished file."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.wire import OFFSET_TYPE, Answer, Served, served
from tusserver import Config, LocalStorage, Refuse
from tusserver.hooks.base import Event
from tusserver.storage.disk import Disk

DATA = os.urandom(100_000)
QUICK = Config(lock_wait=0.2, hook_timeout=0.3)


async def put(server: Served, path: str, data: bytes = DATA, offset: int = 0) -> Answer:
    return await server.ask("PATCH", path, data, Upload_Offset=offset, Content_Type=OFFSET_TYPE)


def content(data: Path, tree: str) -> list[Path]:
    return list(data.glob(f"{tree}/*/*/content"))


class Recorder:
    """Remembers events, and does what it was told for each call."""

    def __init__(self, *actions: Callable[[Event], object]) -> None:
        self.events: list[Event] = []
        self._actions = list(actions)

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self._actions:
            result = self._actions.pop(0)(event)
            if asyncio.iscoroutine(result):
                await result

    async def heard(self, count: int = 1) -> None:
        while len(self.events) < count:
            await asyncio.sleep(0.01)


def fail(_event: Event) -> None:
    raise RuntimeError("the database is away")


async def test_head_does_not_say_complete_while_the_finish_is_being_decided(tmp_path: Path) -> None:
    decided = asyncio.Event()

    async def before(_event: Event) -> None:
        await decided.wait()

    async with served(tmp_path, config=Config(lock_wait=0.1), listeners={"before_finish": before}) as server:
        path = await server.create(len(DATA))
        patch = asyncio.create_task(put(server, path))
        while (head := await server.ask("HEAD", path)).status == 200:
            assert head.offset < len(DATA)
            await asyncio.sleep(0.01)
        assert head.status == 423
        assert head.headers["retry-after"] == "1"
        assert "upload-offset" not in head.headers
        late = await put(server, path, b"", len(DATA))
        assert (late.status, "upload-offset" in late.headers) == (423, False)
        decided.set()
        assert (await patch).status == 204
        assert await server.offset(path) == len(DATA)
        assert server.file(path) == DATA


async def test_a_finish_that_failed_is_tried_again_by_the_next_touch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, after = Recorder(fail, fail), Recorder()
    config = Config(lock_wait=0.2, sweep_interval=60)
    async with served(tmp_path, config=config, listeners={"before_finish": before, "after_finish": after}) as server:
        path = await server.create(len(DATA))
        answer = await put(server, path)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "upload-offset" not in answer.headers
        assert (await server.ask("HEAD", path)).status == 423
        assert (await server.ask("HEAD", path)).offset == len(DATA)
        await after.heard()
        assert len(before.events) == 3
        assert len(after.events) == 1
    caplog.clear()


async def test_the_sweeper_finishes_what_nobody_touches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = Recorder(fail)
    config = Config(sweep_interval=0.001)
    async with served(tmp_path, config=config, listeners={"before_finish": before}) as server:
        path = await server.create(len(DATA))
        assert (await put(server, path)).status == 503
        while not content(tmp_path, "files"):
            await asyncio.sleep(0.05)
        assert server.file(path) == DATA
    caplog.clear()


async def test_a_late_listener_is_a_failure_that_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = Recorder(lambda _event: asyncio.sleep(60))
    async with served(tmp_path, config=QUICK, listeners={"before_finish": before}) as server:
        path = await server.create(len(DATA))
        assert (await put(server, path)).status == 503
        assert await server.offset(path) == len(DATA)
    caplog.clear()


async def test_a_refused_finish_discards_the_upload(tmp_path: Path) -> None:
    def no(_event: Event) -> None:
        raise Refuse(422, "this is no picture")

    gone = Recorder()
    async with served(tmp_path, listeners={"before_finish": Recorder(no), "after_terminate": gone}) as server:
        path = await server.create(len(DATA))
        answer = await put(server, path)
        assert (answer.status, answer.body) == (422, b"this is no picture\n")
        assert (await server.ask("HEAD", path)).status == 404
        await gone.heard()
        assert gone.events[0].reason == "refused"
        assert not content(tmp_path, "files")
        assert not content(tmp_path, "uploads")


class OneBadSync(Disk):
    """The first fdatasync of data fails, and what was not durable by then is lost as far as the kernel is concerned."""

    def __init__(self) -> None:
        self.calls = 0

    def fdatasync(self, fd: int) -> None:
        self.calls += 1
        if self.calls == 1:
            raise OSError(errno.EIO, "the device failed")
        super().fdatasync(fd)


async def test_a_failed_final_sync_gives_the_offset_back_and_the_client_sends_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    after = Recorder()
    storage = LocalStorage(tmp_path, disk=OneBadSync())
    async with served(tmp_path, storage=storage, listeners={"after_finish": after}) as server:
        path = await server.create(len(DATA))
        assert (await put(server, path)).status == 503
        assert await server.offset(path) == 0
        assert (await put(server, path)).status == 204
        await after.heard()
        assert server.file(path) == DATA
        assert len(after.events) == 1
    caplog.clear()


async def test_a_client_that_dies_with_the_last_byte_has_a_finished_file(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        path = await server.create(len(DATA))
        wire = await server.open()
        await wire.patch(path, 0, len(DATA), DATA)
        wire.writer.write_eof()
        await server.reaches(path, len(DATA))
        assert server.file(path) == DATA


async def test_events_of_one_upload_arrive_in_order(tmp_path: Path) -> None:
    names: list[tuple[str, int]] = []

    async def note(event: Event) -> None:
        names.append((event.name, event.number))

    kinds = ("before_create", "after_create", "progress", "before_finish", "after_finish", "before_terminate", "after_terminate")
    async with served(tmp_path, listeners=dict.fromkeys(kinds, note)) as server:
        path = await server.create(len(DATA))
        assert (await put(server, path)).status == 204
        assert (await server.ask("DELETE", path)).status == 204
        while len(names) < len(kinds):
            await asyncio.sleep(0.01)
    assert tuple(name for name, _ in names) == kinds
    numbers = [number for _, number in names]
    assert numbers[1:] == sorted(set(numbers[1:]))


async def test_an_event_that_nobody_took_is_delivered_after_the_next_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failing = Recorder(*[fail] * 100)
    async with served(tmp_path, listeners={"after_finish": failing}) as server:
        path = await server.create(len(DATA), Upload_Metadata="filename YS50eHQ=")
        assert (await put(server, path)).status == 204
        await failing.heard()
    assert [entry.name for entry in (tmp_path / "outbox").iterdir()] == [path[-32:]]
    after = Recorder()
    async with served(tmp_path, config=Config(sweep_interval=0.01), listeners={"after_finish": after}) as server:
        await after.heard()
        assert after.events[0].id == failing.events[0].id
        assert after.events[0].upload.metadata["filename"] == "a.txt"
        while list((tmp_path / "outbox").iterdir()):
            await asyncio.sleep(0.01)
    assert len(after.events) == 1
    caplog.clear()


async def test_a_taken_file_is_where_the_application_wants_it_and_its_client_still_knows_it(tmp_path: Path) -> None:
    target = tmp_path / "incoming"
    target.mkdir()
    taken: list[bool] = []

    async def take(event: Event) -> None:
        taken.append(await event.take(target / "a.bin"))
        taken.append(await event.take(target / "b.bin"))

    async with served(tmp_path / "data", listeners={"after_finish": take}) as server:
        path = await server.create(len(DATA))
        assert (await put(server, path)).status == 204
        while len(taken) < 2:
            await asyncio.sleep(0.01)
        assert taken == [True, False]
        assert (target / "a.bin").read_bytes() == DATA
        assert await server.offset(path) == len(DATA)
        assert (await server.ask("GET", path)).status == 200  # with Tus-Resumable it is the answer of HEAD
        wire = await server.open()
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        assert (await wire.answer()).status == 410


async def test_an_empty_file_is_finished_by_its_creation(tmp_path: Path) -> None:
    after = Recorder()
    async with served(tmp_path, listeners={"after_finish": after}) as server:
        path = await server.create(0)
        await after.heard()
        assert server.file(path) == b""
        assert await server.offset(path) == 0


async def test_a_creation_that_cannot_finish_yet_says_where_the_upload_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path, listeners={"before_finish": Recorder(fail)}) as server:
        answer = await server.ask("POST", "/files/", DATA, Upload_Length=len(DATA), Content_Type=OFFSET_TYPE)
        assert answer.status == 503
        assert await server.offset(answer.headers["location"]) == len(DATA)
    caplog.clear()


async def test_a_delete_during_a_finish_comes_after_it(tmp_path: Path) -> None:
    after, gone = Recorder(), Recorder()
    slow = Recorder(lambda _event: asyncio.sleep(0.3))
    listeners = {"before_finish": slow, "after_finish": after, "after_terminate": gone}
    async with served(tmp_path, listeners=listeners) as server:
        path = await server.create(len(DATA))
        patch = asyncio.create_task(put(server, path))
        await slow.heard()
        assert (await server.ask("DELETE", path)).status == 204
        assert (await patch).status == 204
        await gone.heard()
        assert len(after.events) == 1
        assert (await server.ask("HEAD", path)).status == 404


class SlowSync(Disk):
    """Every fdatasync takes a while, and tells that it began."""

    def __init__(self) -> None:
        self.running = 0

    def fdatasync(self, fd: int) -> None:
        self.running += 1
        time.sleep(0.2)
        super().fdatasync(fd)
        self.running -= 1


async def test_a_finish_waits_for_the_mark_that_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusserver.storage.local_sink.MARK_BYTES", 1000)
    disk = SlowSync()
    async with served(tmp_path, storage=LocalStorage(tmp_path, disk=disk)) as server:
        path = await server.create(len(DATA))
        assert (await put(server, path, DATA[:50_000])).status == 204
        wire = await server.open()
        await wire.patch(path, 50_000, 50_000, DATA[50_000:70_000])
        while not disk.running:
            await asyncio.sleep(0.001)
        await wire.send(DATA[70_000:])
        assert (await wire.answer()).status == 204
        assert server.file(path) == DATA
