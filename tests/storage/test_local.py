"""Local storage: the contract, and what is on disk."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.storage.contract import DATA, StorageContract, finished, new, opened, put
from tusserver.errors import Damaged, NoSpace, NotFound, StorageFailed
from tusserver.model import Upload
from tusserver.storage.base import StorageUnfit
from tusserver.storage.disk import Disk
from tusserver.storage.ground import Durability
from tusserver.storage.local import LocalStorage
from tusserver.storage.local_writer import LocalWriter


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[LocalStorage]:
    async for one in started(tmp_path / "data"):
        yield one


async def started(root: Path, *, disk: Disk | None = None, durability: Durability = "finish") -> AsyncIterator[LocalStorage]:
    one = LocalStorage(root, disk=disk, durability=durability)
    await one.start()
    yield one
    await one.stop()


def folder(storage: LocalStorage, upload: Upload, tree: str = "uploads") -> Path:
    return storage.root / tree / upload.id[:2] / upload.id


def edit(place: Path, **changes: object) -> None:
    """Change the record of an upload, as another process or another time would have left it."""
    record = json.loads((place / "upload.json").read_text()) | changes
    (place / "upload.json").write_text(json.dumps(record))


async def half(storage: LocalStorage, size: int = 6000) -> Upload:
    upload = new()
    await storage.create(upload)
    async with opened(storage, upload.id) as writer:
        await put(writer, DATA[:size])
    return upload


class TestLocalStorage(StorageContract):
    """The suite that every storage passes."""


class Scripted(Disk):
    """Counts calls, and raises where it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail: dict[str, list[OSError | None]] = {}
        self.room: int | None = None

    def _note(self, name: str) -> None:
        self.calls.append(name)
        planned = self.fail.get(name)
        if planned and (error := planned.pop(0)) is not None:
            raise error

    def fdatasync(self, fd: int) -> None:
        self._note("fdatasync")
        super().fdatasync(fd)

    def fsync(self, fd: int) -> None:
        self._note("fsync")
        super().fsync(fd)

    def scratch(self, name: str, parent: int) -> int:
        self._note("scratch")
        return super().scratch(name, parent)

    def rename(self, name: str, parent: int, target: str, target_parent: int) -> None:
        self._note("rename")
        super().rename(name, parent, target, target_parent)

    def write(self, fd: int, pieces: Sequence[bytes], offset: int) -> int:
        if self.room is None:
            return super().write(fd, pieces, offset)
        data = b"".join(pieces)[: min(self.room, 7)]
        if not data:
            raise OSError(errno.ENOSPC, "full")
        self.room -= len(data)
        return super().write(fd, [data], offset)


@pytest.fixture
def disk() -> Scripted:
    return Scripted()


@pytest.fixture
async def scripted(tmp_path: Path, disk: Scripted) -> AsyncIterator[LocalStorage]:
    async for one in started(tmp_path / "scripted", disk=disk):
        disk.calls.clear()
        yield one


# -- another boot, and what must not be trusted


async def test_after_another_boot_only_what_was_synced_counts(storage: LocalStorage) -> None:
    upload = await half(storage)
    edit(folder(storage, upload), boot="another", synced=2500)
    assert (await storage.load(upload.id)).offset == 2500
    async with opened(storage, upload.id) as writer:
        assert writer.upload.offset == 2500
        assert (folder(storage, upload) / "content").stat().st_size == 2500
        assert (await put(writer, DATA[2500:])).full
        await writer.finish(None)
    assert (folder(storage, upload, "files") / "content").read_bytes() == DATA


async def test_what_is_on_trial_does_not_count(storage: LocalStorage) -> None:
    upload = await half(storage)
    (folder(storage, upload) / "keep").write_text("5000")
    assert (await storage.load(upload.id)).offset == 5000
    async with opened(storage, upload.id) as writer:
        assert writer.upload.offset == 5000
    assert not (folder(storage, upload) / "keep").exists()
    assert (await storage.load(upload.id)).offset == 5000


async def test_a_failed_final_sync_falls_back_to_the_mark_and_is_not_repeated_on_that_data(
    scripted: LocalStorage, disk: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusserver.storage.local_sink.MARK_BYTES", 4000)
    upload = new()
    await scripted.create(upload)
    async with opened(scripted, upload.id) as writer:
        await put(writer, DATA[:4000])
    monkeypatch.setattr("tusserver.storage.local_sink.MARK_BYTES", 10**9)
    disk.fail["fdatasync"] = [OSError(errno.EIO, "failed")]
    disk.calls.clear()
    async with opened(scripted, upload.id) as writer:
        await put(writer, DATA[4000:])
        with pytest.raises(StorageFailed):
            await writer.finish(None)
        assert writer.upload.offset == 4000
    assert (await scripted.load(upload.id)).offset == 4000
    async with opened(scripted, upload.id) as writer:
        await put(writer, DATA[4000:])
        await writer.finish(None)
    assert (folder(scripted, upload, "files") / "content").read_bytes() == DATA


async def test_a_full_disk_at_the_final_sync_is_said_as_such(scripted: LocalStorage, disk: Scripted) -> None:
    upload = new()
    await scripted.create(upload)
    async with opened(scripted, upload.id) as writer:
        await put(writer, DATA)
        disk.fail["fdatasync"] = [OSError(errno.ENOSPC, "full")]
        with pytest.raises(NoSpace):
            await writer.finish(None)
        assert writer.upload.offset == 0


async def test_data_that_cannot_even_be_called_distrusted_stays_so_in_memory(scripted: LocalStorage, disk: Scripted) -> None:
    upload = new()
    await scripted.create(upload)
    async with opened(scripted, upload.id) as writer:
        await put(writer, DATA)
        disk.fail["fdatasync"] = [OSError(errno.EIO, "failed")]
        disk.fail["scratch"] = [OSError(errno.EIO, "failed")] * 2
        with pytest.raises(StorageFailed):
            await writer.finish(None)
    assert (await scripted.load(upload.id)).offset == 0
    with pytest.raises(StorageFailed):
        await scripted.open(upload.id)
    async with opened(scripted, upload.id) as writer:
        assert writer.upload.offset == 0
        await put(writer, DATA)
        await writer.finish(None)
    assert (folder(scripted, upload, "files") / "content").read_bytes() == DATA


async def test_a_mark_that_fails_takes_its_data_back(
    scripted: LocalStorage, disk: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusserver.storage.local_sink.MARK_BYTES", 1)
    upload = new()
    await scripted.create(upload)
    disk.fail["fdatasync"] = [OSError(errno.EIO, "failed")]
    async with opened(scripted, upload.id) as writer:
        assert isinstance(writer, LocalWriter)
        sink = writer.append()
        await sink.write([DATA[:10]])
        await writer.jobs.settle()
        with pytest.raises(StorageFailed):
            await sink.write([b"x"])
        assert sink.offset == 0
        assert (await sink.commit()).offset == 0


async def test_a_mark_survives_the_next_boot(scripted: LocalStorage, disk: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusserver.storage.local_sink.MARK_BYTES", 1000)
    upload = new()
    await scripted.create(upload)
    async with opened(scripted, upload.id) as writer:
        await put(writer, DATA[:3000])
    assert json.loads((folder(scripted, upload) / "upload.json").read_text())["synced"] == 3000
    assert disk.calls.count("fdatasync") == 1


async def test_a_mark_comes_by_time_as_well(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusserver.storage.local_sink.MARK_SECONDS", 0.01)
    upload = new()
    await storage.create(upload)
    async with opened(storage, upload.id) as writer:
        sink = writer.append()
        await sink.write([DATA[:10]])
        while json.loads((folder(storage, upload) / "upload.json").read_text())["synced"] != 10:
            await sink.write([])
        await sink.commit()


async def test_an_abort_lowers_what_counts_as_synced_before_it_cuts(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusserver.storage.local_sink.MARK_BYTES", 1)
    upload = new()
    await storage.create(upload)
    async with opened(storage, upload.id) as writer:
        assert isinstance(writer, LocalWriter)
        sink = writer.append()
        await sink.write([DATA[:10]])
        await writer.jobs.settle()
        assert writer.synced == 10
        await sink.abort()
        assert writer.synced == 0


async def test_what_fits_on_a_full_disk_is_kept(scripted: LocalStorage, disk: Scripted) -> None:
    upload = new()
    await scripted.create(upload)
    async with opened(scripted, upload.id) as writer:
        disk.room = 100
        sink = writer.append()
        with pytest.raises(NoSpace):
            await sink.write([DATA[:60], DATA[60:200]])
        assert (await sink.commit()).offset == 100
        disk.room = None
        await put(writer, DATA[100:])
        await writer.finish(None)
    assert (folder(scripted, upload, "files") / "content").read_bytes() == DATA


@pytest.mark.parametrize(("durability", "syncs"), [("none", (0, 0, 0)), ("finish", (0, 0, 4)), ("patch", (4, 4, 4))])
async def test_each_durability_syncs_what_it_promises(
    tmp_path: Path, disk: Scripted, durability: Durability, syncs: tuple[int, int, int]
) -> None:
    async for one in started(tmp_path / "data", disk=disk, durability=durability):
        counts = []
        upload = new()
        disk.calls.clear()
        await one.create(upload)
        counts.append(sum(call in {"fsync", "fdatasync"} for call in disk.calls))
        async with opened(one, upload.id) as writer:
            disk.calls.clear()
            await put(writer, DATA)
            counts.append(sum(call in {"fsync", "fdatasync"} for call in disk.calls))
            disk.calls.clear()
            await writer.finish(None)
            counts.append(sum(call in {"fsync", "fdatasync"} for call in disk.calls))
        assert tuple(counts) == syncs


# -- damage, and what is not understood


async def test_a_folder_without_a_record_was_never_born(storage: LocalStorage) -> None:
    for text in (None, "", '{"v": 1', "\0\0\0"):
        upload = await half(storage)
        record = folder(storage, upload) / "upload.json"
        record.unlink() if text is None else record.write_text(text)
        with pytest.raises(NotFound):
            await storage.load(upload.id)
        assert await storage.sweep(int(upload.id[:2], 16)) == []
        assert not folder(storage, upload).exists()


async def test_a_record_of_another_version_is_left_alone(storage: LocalStorage) -> None:
    upload = await half(storage)
    edit(folder(storage, upload), v=2)
    for look in (storage.load, storage.open):
        with pytest.raises(Damaged):
            await look(upload.id)
    await storage.sweep(int(upload.id[:2], 16))
    assert folder(storage, upload).exists()


async def test_a_finished_file_of_another_size_is_damaged_and_left_alone(storage: LocalStorage) -> None:
    upload = await finished(storage)
    content = folder(storage, upload, "files") / "content"
    content.write_bytes(DATA[:-1])
    for look in (storage.load, storage.open, storage.content):
        with pytest.raises(Damaged):
            await look(upload.id)
    assert content.read_bytes() == DATA[:-1]


async def test_of_an_upload_in_both_trees_the_finished_one_counts(storage: LocalStorage) -> None:
    upload = await finished(storage)
    other = await half(storage)
    place = storage.root / "uploads" / upload.id[:2] / upload.id
    folder(storage, other).rename(place)
    assert (await storage.load(upload.id)).finished
    assert await storage.sweep(int(upload.id[:2], 16)) == []
    assert not place.exists()
    assert (await storage.load(upload.id)).finished


async def test_foreign_things_are_left_and_named_once(storage: LocalStorage, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("note.txt", "0" * 31, "f" * 32):
        (storage.root / "uploads" / "00" / name).mkdir()
    await storage.sweep(0)
    await storage.sweep(0)
    assert caplog.text.count("it is no upload") == 3
    assert len(list((storage.root / "uploads" / "00").iterdir())) == 3


async def test_a_planted_link_is_not_followed(storage: LocalStorage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    upload = await half(storage)
    (folder(storage, upload) / "content").unlink()
    (folder(storage, upload) / "content").symlink_to(outside)
    with pytest.raises(StorageFailed):
        await storage.open(upload.id)
    link = storage.root / "uploads" / "00" / ("0" * 32)
    link.symlink_to(tmp_path)
    with pytest.raises(StorageFailed):
        await storage.load("0" * 32)
    assert outside.read_bytes() == b"secret"


# -- trash, deletion, taking


async def test_the_trash_is_emptied_but_for_what_is_locked(storage: LocalStorage) -> None:
    for name in ("a", "b"):
        (storage.root / "trash" / name).mkdir()
        (storage.root / "trash" / name / "content").write_bytes(b"x")
    fd = os.open(storage.root / "trash" / "a", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    await storage.sweep(0)
    assert [entry.name for entry in (storage.root / "trash").iterdir()] == ["a"]
    os.close(fd)
    await storage.sweep(0)
    assert not list((storage.root / "trash").iterdir())


async def test_a_delete_on_a_full_disk_makes_room_and_tries_again(scripted: LocalStorage, disk: Scripted) -> None:
    upload = await half(scripted)
    async with opened(scripted, upload.id) as writer:
        disk.fail["rename"] = [OSError(errno.ENOSPC, "full")]
        await writer.remove()
    with pytest.raises(NotFound):
        await scripted.load(upload.id)


async def test_an_unfinished_upload_that_is_deleted_owes_nothing(storage: LocalStorage) -> None:
    upload = await half(storage)
    (storage.root / "outbox" / upload.id).write_bytes(b"event of a finish that did not happen")
    assert await storage.owed() == []
    async with opened(storage, upload.id) as writer:
        await writer.remove()
    assert not list((storage.root / "outbox").iterdir())


async def test_a_file_that_is_taken_to_another_file_system_is_copied(scripted: LocalStorage, disk: Scripted, tmp_path: Path) -> None:
    upload = await finished(scripted)
    disk.fail["rename"] = [None, OSError(errno.EXDEV, "another file system")]
    async with opened(scripted, upload.id) as writer:
        assert await writer.take(tmp_path / "taken")
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["taken"]
    assert (tmp_path / "taken").read_bytes() == DATA
    assert not (folder(scripted, upload, "files") / "content").exists()


async def test_a_crash_before_the_move_leaves_a_file_to_be_taken(scripted: LocalStorage, disk: Scripted, tmp_path: Path) -> None:
    upload = await finished(scripted)
    disk.fail["rename"] = [None, OSError(errno.EIO, "the process died here")]
    async with opened(scripted, upload.id) as writer:
        with pytest.raises(OSError, match="died here"):
            await writer.take(tmp_path / "taken")
    assert not (await scripted.load(upload.id)).taken
    async with opened(scripted, upload.id) as writer:
        assert await writer.take(tmp_path / "taken")
    assert (await scripted.load(upload.id)).taken
    assert (tmp_path / "taken").read_bytes() == DATA


# -- start


async def test_it_starts_twice_and_makes_its_secret_once(tmp_path: Path) -> None:
    for _ in range(2):
        async for one in started(tmp_path):
            secret = (one.root / "secret").read_bytes()
            assert (one.root / "secret").stat().st_mode & 0o777 == 0o600
        assert len(secret) == 32
    assert (tmp_path / "secret").read_bytes() == secret
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["files", "outbox", "run", "secret", "trash", "uploads"]


async def test_a_disk_without_a_working_flock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusserver.storage.birth.try_flock", lambda _fd: True)
    with pytest.raises(StorageUnfit, match="no working flock"):
        await LocalStorage(tmp_path).start()


async def test_one_folder_has_one_storage_in_a_process(storage: LocalStorage) -> None:
    with pytest.raises(StorageUnfit, match="same storage object"):
        await LocalStorage(storage.root).start()


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finish, patch or none"):
        LocalStorage(tmp_path, durability="some")  # type: ignore[arg-type]  # that is the point


async def test_an_id_of_another_shape_never_reaches_the_disk(storage: LocalStorage) -> None:
    for bad in ("..", "../../etc", "", "A" * 32, "0" * 33, "\0"):
        with pytest.raises(NotFound):
            await storage.load(bad)


async def test_a_taken_name_is_not_overwritten(storage: LocalStorage) -> None:
    upload = await finished(storage)
    with pytest.raises(StorageFailed):
        await storage.create(upload)
    again = await half(storage)
    with pytest.raises(StorageFailed):
        await storage.create(again)
    assert (await storage.load(again.id)).offset == 6000
    assert secrets.compare_digest((folder(storage, upload, "files") / "content").read_bytes(), DATA)
