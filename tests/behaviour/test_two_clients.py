"""Two requests on one upload at the same time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.wire import OFFSET_TYPE, Served, Wire, served
from tusserver import Refuse
from tusserver.hooks.base import Event

DATA = os.urandom(300_000)


async def begin(server: Served, path: str, part: bytes, length: int, offset: int = 0) -> Wire:
    """A PATCH of `length` bytes of which `part` has arrived, and no more comes."""
    wire = await server.open()
    await wire.patch(path, offset, length, part)
    await server.reaches(path, offset + len(part))
    return wire


async def test_a_stalled_patch_is_taken_over_and_its_bytes_are_kept(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        path = await server.create(len(DATA))
        stalled = await begin(server, path, DATA[:100_000], len(DATA))
        newer = await server.open()
        await newer.patch(path, 100_000, len(DATA) - 100_000, DATA[100_000:])
        assert (await newer.answer()).status == 204
        answer = await stalled.answer()
        assert answer.status == 423
        assert answer.body.startswith(b"interrupted: ")
        assert "upload-offset" not in answer.headers
        assert await stalled.closed()
        assert server.file(path) == DATA


async def test_of_two_patches_at_one_offset_at_once_both_cannot_win(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for _ in range(20):
            path = await server.create(len(DATA))
            wires = [await server.open() for _ in range(2)]
            await asyncio.gather(*(wire.patch(path, 0, len(DATA), DATA) for wire in wires), return_exceptions=True)
            answers = [await wire.answer() for wire in wires]
            statuses = sorted(answer.status for answer in answers)
            assert statuses[0] == 204 or 423 in statuses
            assert statuses[1] in {204, 409, 423}
            assert statuses.count(204) <= 1
            offset = await server.offset(path)
            if offset < len(DATA):
                rest = await server.ask("PATCH", path, DATA[offset:], Upload_Offset=offset, Content_Type=OFFSET_TYPE)
                assert rest.status == 204
            assert server.file(path) == DATA


async def test_the_newest_of_three_wins(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        path = await server.create(len(DATA))
        first = await begin(server, path, DATA[:10], len(DATA))
        second = await begin(server, path, DATA[10:20], len(DATA) - 10, offset=10)
        third = await server.open()
        await third.patch(path, 20, len(DATA) - 20, DATA[20:])
        assert (await third.answer()).status == 204
        assert (await first.answer()).status == 423
        assert (await second.answer()).status == 423
        assert server.file(path) == DATA


async def test_a_delete_stops_a_patch_which_is_told_that_the_upload_is_gone(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        path = await server.create(len(DATA))
        running = await begin(server, path, DATA[:10], len(DATA))
        assert (await server.ask("DELETE", path)).status == 204
        assert (await running.answer()).status == 404
        assert await running.closed()
        assert (await server.ask("HEAD", path)).status == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Upload_Offset": 0, "Content_Type": "text/plain"}, 415),
        ({"Upload_Offset": 7, "Content_Type": OFFSET_TYPE}, 409),
        ({"Upload_Offset": "x", "Content_Type": OFFSET_TYPE}, 400),
        ({"Upload_Offset": 10, "Content_Type": OFFSET_TYPE, "Content_Length": 10_000_000}, 413),
        ({"Upload_Offset": 10, "Content_Type": OFFSET_TYPE, "Upload_Length": 5}, 400),
        ({"Upload_Offset": 10, "Content_Type": OFFSET_TYPE, "X_Owner": "other"}, 404),
        ({"Upload_Offset": 10, "Content_Type": OFFSET_TYPE, "Content_Encoding": "gzip"}, 415),
    ],
)
async def test_a_patch_that_will_be_refused_leaves_a_healthy_one_alone(
    tmp_path: Path, fields: dict[str, str | int], status: int
) -> None:
    async with served(tmp_path, owner=lambda request: request.headers.get("X-Owner")) as server:
        path = await server.create(len(DATA))
        healthy = await begin(server, path, DATA[:10], len(DATA))
        assert (await server.ask("PATCH", path, **fields)).status == status
        await healthy.send(DATA[10:])
        assert (await healthy.answer()).status == 204
        assert server.file(path) == DATA


async def test_a_delete_that_will_be_refused_leaves_a_healthy_patch_alone(tmp_path: Path) -> None:
    async def no(_event: Event) -> None:
        raise Refuse(403, "not yours to delete")

    async with served(tmp_path, listeners={"before_terminate": no}) as server:
        path = await server.create(len(DATA))
        healthy = await begin(server, path, DATA[:10], len(DATA))
        answer = await server.ask("DELETE", path)
        assert (answer.status, answer.body) == (403, b"not yours to delete\n")
        await healthy.send(DATA[10:])
        assert (await healthy.answer()).status == 204


async def test_polling_with_head_disturbs_neither_a_moving_nor_a_pausing_patch(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        path = await server.create(len(DATA))
        wire = await begin(server, path, DATA[:10], len(DATA))
        for sent in range(10, 110, 10):
            assert await server.offset(path) == sent
            await wire.send(DATA[sent : sent + 10])
            await server.reaches(path, sent + 10)
        for _ in range(20):
            assert await server.offset(path) == 110
        await wire.send(DATA[110:])
        assert (await wire.answer()).status == 204
        assert server.file(path) == DATA


async def test_a_dead_connection_keeps_what_arrived_and_frees_the_upload(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        path = await server.create(len(DATA))
        wire = await server.open()
        await wire.patch(path, 0, len(DATA), DATA[:200_000])
        wire.writer.write_eof()
        await server.reaches(path, 200_000)
        answer = await server.ask("PATCH", path, DATA[200_000:], Upload_Offset=200_000, Content_Type=OFFSET_TYPE)
        assert answer.status == 204
        assert server.file(path) == DATA


@pytest.mark.parametrize("times", [1, 5])
async def test_a_handler_that_is_cancelled_commits_once_and_lets_go_once(tmp_path: Path, times: int) -> None:
    async with served(tmp_path, handler_cancellation=True) as server:
        path = await server.create(len(DATA))
        wire = await begin(server, path, DATA[:1000], len(DATA))
        handlers = [task for task in asyncio.all_tasks() if "_handle_request" in repr(task.get_coro())]
        assert handlers
        for _ in range(times):
            for task in handlers:
                task.cancel()
            await asyncio.sleep(0)
        assert await wire.closed()
        answer = await server.ask("PATCH", path, DATA[1000:], Upload_Offset=1000, Content_Type=OFFSET_TYPE)
        assert answer.status == 204
        assert server.file(path) == DATA


async def test_a_thousand_patches_cut_in_the_body_leave_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as server:
        path = await server.create(10_000_000)
        offset = 0
        await server.offset(path)
        descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        for number in range(1000):
            wire = await server.open()
            await wire.patch(path, offset, 5_000_000, DATA[: number % 300])
            if number % 2:
                await asyncio.sleep(0.001)
            wire.reset()
            if number % 10 == 9:
                offset = await server.offset(path)
        while len(asyncio.all_tasks()) > tasks or len(os.listdir("/proc/self/fd")) > descriptors:
            await asyncio.sleep(0.01)
        hold = await server.uploads.engine._locks.acquire(path[-32:], wait=0)  # nothing holds it any more
        await hold.release()
    assert not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"} or record.exc_info]
