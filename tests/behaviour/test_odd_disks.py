"""A data folder that is not as it should be: a clear line at start, or trouble that passes while running.

The law: what is not ours is neither read nor changed nor removed, no link leads out of the folder, and nothing that lies there stops a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.behaviour.odd import Odd
from tests.support.wire import OFFSET_TYPE, served
from tusserver import LocalStorage, StorageUnfit

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system or become another user")


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    """A small file system of its own."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Not root any more, for a while."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def start(root: Path) -> str:
    """The line of a start that fails."""
    with pytest.raises(StorageUnfit) as unfit:
        await LocalStorage(root).start()
    line = str(unfit.value)
    assert "\n" not in line
    return line


@root_only
async def test_files_on_another_mount_is_a_clear_line(tmp_path: Path) -> None:
    with mounted(tmp_path / "files"):
        assert "must be on one file system" in await start(tmp_path)


@root_only
async def test_a_read_only_disk_is_a_clear_line(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-o", "ro"):
        assert "Read-only file system" in await start(tmp_path / "disk" / "data")


@root_only
async def test_a_folder_of_somebody_else_is_a_clear_line(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    with as_nobody():
        line = await start(tmp_path / "data")
    assert "Permission denied" in line


@root_only
async def test_a_server_starts_on_a_disk_that_has_run_full_but_not_on_one_that_was_full_before(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-o", "size=1m,nr_inodes=600"):
        async with served(disk / "data") as server:
            path = await server.create(10)
        for number in range(600):
            with contextlib.suppress(OSError):
                (disk / f"ballast{number}").touch()
        assert "No space left" in await start(disk / "other")
        async with served(disk / "data") as server:
            assert await server.offset(path) == 0
            assert (await server.ask("DELETE", path)).status == 204


async def test_a_secret_of_the_wrong_length_is_a_clear_line(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    assert "restore it from a backup" in await start(tmp_path)
    assert (tmp_path / "secret").read_bytes() == b"short"


@root_only
async def test_a_folder_that_became_unreadable_is_trouble_that_passes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data) as server:
        path = await server.create(10)
        await server.offset(path)
        data.chmod(0)
        with as_nobody():
            head = await server.ask("HEAD", path)
            patch = await server.ask("PATCH", path, b"x", Upload_Offset=0, Content_Type=OFFSET_TYPE)
            post = await server.ask("POST", "/files/", Upload_Length=10)
        assert (head.status, patch.status, post.status) == (423, 503, 503)
        for answer in (patch, post):
            assert answer.headers["retry-after"] == "1"
            assert str(tmp_path).encode() not in answer.body
        data.chmod(0o700)
        assert (await server.ask("PATCH", path, b"0123456789", Upload_Offset=0, Content_Type=OFFSET_TYPE)).status == 204


async def test_a_folder_that_was_moved_away_is_trouble_that_passes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data) as server:
        path = await server.create(10)
        data.rename(tmp_path / "elsewhere")
        assert (await server.ask("HEAD", path)).status == 423
        assert (await server.ask("PATCH", path, b"x", Upload_Offset=0, Content_Type=OFFSET_TYPE)).status == 503
        assert (await server.ask("POST", "/files/", Upload_Length=10)).status == 503
        assert (await server.ask("DELETE", path)).status == 503
        (tmp_path / "elsewhere").rename(data)
        assert (await server.ask("PATCH", path, b"0123456789", Upload_Offset=0, Content_Type=OFFSET_TYPE)).status == 204


@root_only
async def test_a_full_disk_keeps_what_fits_and_the_upload_goes_on_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    data = os.urandom(3 * 1024 * 1024)
    with mounted(disk, "-o", "size=4m"):
        ballast = disk / "ballast"
        async with served(disk / "data") as server:
            other = await server.create(4)
            path = await server.create(len(data))
            ballast.write_bytes(bytes(2 * 1024 * 1024))
            answer = await server.ask("PATCH", path, data, Upload_Offset=0, Content_Type=OFFSET_TYPE)
            assert answer.status == 507
            offset = await server.offset(path)
            assert 0 < offset < len(data)
            assert (await server.ask("POST", "/files/", Upload_Length=len(data))).status == 507
            assert await server.offset(other) == 0
            assert (await server.ask("DELETE", other)).status == 204
            ballast.unlink()
            rest = await server.ask("PATCH", path, data[offset:], Upload_Offset=offset, Content_Type=OFFSET_TYPE)
            assert rest.status == 204
            assert server.file(path) == data


# -- what somebody put there

TROUBLE = {"HEAD": 423, "PATCH": 503, "GET": 503, "DELETE": 503}


def link_file(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "content")


def link_folder(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "folder")


def link_as_long_as_the_file(place: Path, outside: Path) -> None:
    place.symlink_to("gone")


def make_folder(place: Path, outside: Path) -> None:
    place.mkdir()


def make_fifo(place: Path, outside: Path) -> None:
    os.mkfifo(place)


Plant = Callable[[Path, Path], None]
PLANTS = pytest.mark.parametrize(
    "plant", [link_file, link_folder, link_as_long_as_the_file, make_folder, make_fifo], ids=lambda plant: plant.__name__
)


@contextlib.contextmanager
def planted(plant: Plant, place: Path, outside: Path) -> Iterator[None]:
    """Something else where a file should be; it is still there in the end. Threads that wait for the other end of a FIFO are let go."""
    place.unlink(missing_ok=True)
    plant(place, outside)
    inode = place.lstat().st_ino
    try:
        yield
        assert place.lstat().st_ino == inode
    finally:
        if place.is_fifo():
            os.close(os.open(place, os.O_RDWR | os.O_NONBLOCK))


@PLANTS
async def test_what_is_no_plain_file_in_an_upload_is_trouble_and_left(odd: Odd, plant: Plant) -> None:
    with contextlib.ExitStack() as stack:
        for finished, name in ((False, "content"), (False, "upload.json"), (False, "keep"), (True, "content"), (True, "upload.json")):
            path = await odd.make(finished=finished)
            stack.enter_context(planted(plant, odd.place(path) / name, odd.outside.root))
            assert await odd.statuses(path) == TROUBLE, f"{name}, finished: {finished}"
        await odd.sweep()


@pytest.mark.parametrize("which", ["unfinished", "finished"])
async def test_a_link_in_place_of_an_upload_or_of_a_folder_of_uploads_leads_nowhere(odd: Odd, which: str) -> None:
    path = getattr(odd, which)
    for place in (odd.place(path), odd.place(path).parent):
        moved = odd.outside.root / "moved"
        place.rename(moved)
        place.symlink_to(moved)
        (moved / f"{place.name[:2]}{'0' * 30}").mkdir()  # as if it were never born
        before = odd.outside.snapshot()
        assert await odd.statuses(path) == TROUBLE, place
        await odd.sweep()
        assert odd.outside.snapshot() == before
        place.unlink()
        (moved / f"{place.name[:2]}{'0' * 30}").rmdir()
        moved.rename(place)
        assert await odd.server.offset(path) == 4


async def test_the_trash_is_emptied_whatever_lies_in_it_and_no_link_is_followed(odd: Odd) -> None:
    trash, dead = odd.folder.root / "trash", ("0" * 32 + ".{}").format
    (trash / "file").write_bytes(b"1")
    os.mkfifo(trash / "fifo")
    (trash / "link").symlink_to(odd.outside.root)
    (trash / "dangling").symlink_to("nowhere")
    for number in range(200):
        (trash / dead(number) / "foreign").mkdir(parents=True)
    for number in range(200, 230):
        (trash / dead(number)).mkdir()
        (trash / dead(number) / "content").symlink_to(odd.outside.root / "content")
    await odd.sweep()
    assert [name for name in odd.folder.trash() if not (trash / name / "foreign").is_dir()] == []


@PLANTS
async def test_what_is_no_plain_file_in_the_outbox_is_left(odd: Odd, plant: Plant) -> None:
    with planted(plant, odd.folder.root / "outbox" / ("0" * 32), odd.outside.root):
        for _ in range(2):
            await odd.sweep()


async def test_foreign_things_are_left_and_those_among_uploads_named_once(odd: Odd, caplog: pytest.LogCaptureFixture) -> None:
    root = odd.folder.root
    places = ["uploads/README", "uploads/ab/README", f"uploads/ab/{'0' * 32}/x", "files/ab/x", f"files/ab/{'f' * 32}/x", "outbox/NOTES"]
    places += ["outbox/" + "g" * 32, "run/x", "lost+found/x", "secret.bak"]
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"foreign")
    for _ in range(2):
        await odd.sweep()
    assert {place: (root / place).read_bytes() for place in places} == dict.fromkeys(places, b"foreign")
    lines = sorted(record.getMessage() for record in caplog.records if "alone" in record.getMessage())
    assert lines == [f"the sweeper leaves uploads/ab/{name} alone: it is no upload" for name in ("0" * 32, "README")]
    assert await odd.server.offset(odd.unfinished) == 4


# -- records

RECORD = {"v": 1, "owner": None, "length": 1000, "metadata": "", "created": 1.0, "boot": "", "synced": 0, "taken": False}
NO_JSON = {
    "empty": b"", "torn": b'{"v": 1, "owner": nu', "binary": b"\x00\xff\x80" * 50, "huge": b"x" * 2**20, "deep": b"[" * 200_000,
    "long number": b"1" * 100_000, "not UTF-8": b'{"v": 1, "metadata": "\xff"}',
}  # fmt: skip
OTHER: dict[str, object] = {
    "list": [], "null": None, "number": 7, "no version": {"owner": None}, "another version": RECORD | {"v": 2}, "more": RECORD | {"x": 1},
    "fewer": {"v": 1, "owner": None}, "length": RECORD | {"length": "10"}, "synced": RECORD | {"synced": None}, "owner": RECORD | {"owner": 7},
    "metadata": RECORD | {"metadata": ["a"]}, "created": RECORD | {"created": "now"}, "boot": RECORD | {"boot": 1},
    "huge": RECORD | {"x": "x" * 2**20},
}  # fmt: skip


async def test_an_upload_whose_record_is_no_json_was_never_born(odd: Odd) -> None:
    for name, raw in NO_JSON.items():
        path = await odd.make(finished=False)
        (odd.place(path) / "upload.json").write_bytes(raw)
        assert (await odd.server.ask("HEAD", path)).status == 404, name
    await odd.sweep()
    assert odd.folder.uploads() == [odd.unfinished.rpartition("/")[2]]
    assert odd.folder.trash() == []


async def test_a_file_whose_record_is_no_json_is_trouble_and_left(odd: Odd) -> None:
    for name, raw in NO_JSON.items():
        (odd.place(odd.finished) / "upload.json").write_bytes(raw)
        assert await odd.statuses(odd.finished) == TROUBLE, name
    await odd.sweep()
    assert odd.server.file(odd.finished) == b"0123"


def entries(place: Path) -> dict[str, tuple[bytes, int]]:
    """What is in an upload's folder."""
    return {entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns) for entry in place.iterdir()}


@pytest.mark.parametrize("which", ["unfinished", "finished"])
async def test_a_record_of_another_version_is_trouble_and_left(odd: Odd, which: str) -> None:
    path = getattr(odd, which)
    for name, record in OTHER.items():
        (odd.place(path) / "upload.json").write_text(json.dumps(record))
        before = entries(odd.place(path))
        assert await odd.statuses(path) == TROUBLE, name
        await odd.server.uploads.engine._sweep(int(odd.place(path).parent.name, 16))
        assert entries(odd.place(path)) == before, name
