"""A data folder that is not as it should be: a clear line at start, or trouble that passes while running."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
