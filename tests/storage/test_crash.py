"""The process dies just before each change of disk: a new storage on what is left must see the upload as it was before, or as it is after."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.storage.contract import DATA, new, opened, put
from tusserver.errors import NotFound
from tusserver.model import Upload
from tusserver.storage.disk import Disk
from tusserver.storage.ground import Durability
from tusserver.storage.local import LocalStorage

Operation = Callable[[LocalStorage, Upload], Awaitable[None]]


class Died(BaseException):
    """The process is dead from here on."""


class Mortal(Disk):
    """Lets a number of changes pass, and then nothing any more; a write that is the last gets half-way."""

    def __init__(self) -> None:
        self.left = 10**9
        self.died = False

    def _live(self) -> None:
        if self.left <= 0:
            self.died = True
            raise Died
        self.left -= 1

    def write(self, fd: int, pieces: Sequence[bytes], offset: int) -> int:
        data = b"".join(pieces)
        if self.left == 1:
            super().write(fd, [data[: len(data) // 2]], offset)
            self.left = 0
        self._live()
        return super().write(fd, [data], offset)


def _mortal(name: str) -> Callable[..., Any]:
    def change(self: Mortal, *args: Any, **kwargs: Any) -> Any:
        self._live()
        return getattr(Disk, name)(self, *args, **kwargs)

    return change


for _name in ("mkdir", "create", "scratch", "truncate", "fdatasync", "fsync", "rename", "link", "unlink", "rmdir"):
    setattr(Mortal, _name, _mortal(_name))


async def create(storage: LocalStorage, upload: Upload) -> None:
    await storage.create(upload)


async def append(storage: LocalStorage, upload: Upload) -> None:
    async with opened(storage, upload.id) as writer:
        await put(writer, DATA[4000:7000])


async def abort(storage: LocalStorage, upload: Upload) -> None:
    async with opened(storage, upload.id) as writer:
        sink = writer.append()
        await sink.write([DATA[4000:7000]])
        await sink.abort()


async def finish(storage: LocalStorage, upload: Upload) -> None:
    async with opened(storage, upload.id) as writer:
        await put(writer, DATA[4000:])
        await writer.finish(b"event")


async def delete(storage: LocalStorage, upload: Upload) -> None:
    async with opened(storage, upload.id) as writer:
        await writer.remove()


async def repair(storage: LocalStorage, upload: Upload) -> None:
    storage._ground.__dict__["boot"] = "another"
    async with opened(storage, upload.id):
        pass


async def prepared(root: Path, upload: Upload, operation: Operation, durability: Durability) -> None:
    """The state before the operation: 4000 bytes, unless it is to be created."""
    storage = LocalStorage(root, durability=durability)
    await storage.start()
    if operation is not create:
        await storage.create(upload)
        async with opened(storage, upload.id) as writer:
            await put(writer, DATA[:4000])
    await storage.stop()


async def run_until_death(root: Path, upload: Upload, operation: Operation, durability: Durability, changes: int) -> Mortal:
    """Do the operation with so many changes of disk, and no more."""
    disk = Mortal()
    storage = LocalStorage(root, durability=durability, disk=disk)
    await storage.start()
    disk.left = changes
    try:
        await operation(storage, upload)
    except Died:
        pass
    finally:
        await storage.stop()
    return disk


OFFSETS: dict[Operation, Callable[[int], bool]] = {
    append: lambda offset: 4000 <= offset <= 7000,
    abort: lambda offset: 4000 <= offset <= 7000,
    finish: lambda offset: 4000 <= offset <= len(DATA),
    delete: lambda offset: offset == 4000,
    create: lambda offset: offset == 0,
    repair: lambda offset: offset in {0, 4000},
}


async def check(root: Path, upload: Upload, operation: Operation, durability: Durability) -> str:
    """What a client then sees, and that it can go on to the end."""
    storage = LocalStorage(root, durability=durability)
    await storage.start()
    try:
        there = await storage.load(upload.id)
    except NotFound:
        assert operation in {create, delete}
        await check_clean(storage, upload.id, there=False)
        return "absent"
    else:
        if not there.finished:
            assert OFFSETS[operation](there.offset)
            assert await storage.owed() == []
            async with opened(storage, upload.id) as writer:
                assert writer.upload.offset == there.offset
                await put(writer, DATA[there.offset :])
                await writer.finish(b"event")
        assert await storage.owed() == [upload.id]
        assert storage._layout.content(upload.id).read_bytes() == DATA
        await check_clean(storage, upload.id, there=True)
        return "finished" if there.finished else "unfinished"
    finally:
        await storage.stop()


async def check_clean(storage: LocalStorage, upload_id: str, *, there: bool) -> None:
    """After a round of the sweeper nothing is left over."""
    for tick in (int(upload_id[:2], 16), 0):
        assert await storage.sweep(tick) == []
    assert not list((storage.root / "trash").iterdir())
    assert [path.name for path in storage.root.glob("*/??/*")] == ([upload_id] if there else [])


@pytest.mark.parametrize("durability", ["finish", "patch", "none"])
@pytest.mark.parametrize("operation", list(OFFSETS), ids=lambda operation: operation.__name__)
async def test_a_death_before_any_change_of_disk_is_survived(tmp_path: Path, operation: Operation, durability: Durability) -> None:
    upload = new()
    before = tmp_path / "before"
    await prepared(before, upload, operation, durability)
    outcomes = []
    changes = 0
    while True:
        root = tmp_path / f"data{changes}"
        shutil.copytree(before, root)
        disk = await run_until_death(root, upload, operation, durability, changes)
        outcomes.append(await check(root, upload, operation, durability))
        shutil.rmtree(root)
        if not disk.died:
            break
        changes += 1
    print(f"{operation.__name__}: {changes} deaths")
    assert changes >= 1
    assert {"create": "unfinished", "delete": "absent", "finish": "finished"}.get(operation.__name__, "unfinished") == outcomes[-1]
    assert outcomes == sorted(outcomes, key=[outcomes[0], outcomes[-1]].index)
