"""What every storage must do: a backend's test derives from `StorageContract` and gives it a storage and locks."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tusserver.errors import NotFinished, NotFound, Taken
from tusserver.model import Metadata, Upload
from tusserver.storage.base import Storage, Writer

DATA = os.urandom(10_000)


def new(length: int | None = len(DATA), **fields: object) -> Upload:
    """An upload to be made."""
    values: dict[str, object] = {"id": secrets.token_hex(16), "length": length, "created": 1.5, "touched": 1.5, **fields}
    return Upload(**values)  # type: ignore[arg-type]  # fields of Upload


async def put(writer: Writer, *pieces: bytes) -> Upload:
    """Append one body."""
    sink = writer.append()
    for piece in pieces:
        await sink.write([piece])
    return await sink.commit()


@contextlib.asynccontextmanager
async def opened(storage: Storage, upload_id: str) -> AsyncIterator[Writer]:
    """A writer for the time of a block."""
    writer = await storage.open(upload_id)
    try:
        yield writer
    finally:
        await writer.close()


async def finished(storage: Storage, event: bytes | None = None, data: bytes = DATA) -> Upload:
    """A finished upload."""
    upload = new(len(data))
    await storage.create(upload)
    async with opened(storage, upload.id) as writer:
        await put(writer, data)
        return await writer.finish(event)


def read(storage: Storage, content_fd: int, size: int) -> bytes:
    """The bytes behind a descriptor."""
    return os.pread(content_fd, size, 0)


class StorageContract:
    """The suite."""

    async def test_a_new_upload_is_empty_and_remembers_what_was_said(self, storage: Storage) -> None:
        upload = new(metadata=Metadata("filename YQ==,x"), owner="somebody")
        await storage.create(upload)
        there = await storage.load(upload.id)
        assert (there.offset, there.length, there.owner, there.metadata.raw) == (0, len(DATA), "somebody", "filename YQ==,x")
        assert (there.created, there.finished, there.full) == (1.5, False, False)

    async def test_what_is_not_there_is_not_found(self, storage: Storage) -> None:
        for look in (storage.load, storage.open, storage.content):
            with pytest.raises(NotFound):
                await look("0" * 32)

    async def test_bytes_are_seen_at_once_and_add_up(self, storage: Storage) -> None:
        upload = new()
        await storage.create(upload)
        async with opened(storage, upload.id) as writer:
            sink = writer.append()
            for end in range(1000, 5000, 1000):
                await sink.write([DATA[end - 1000 : end - 500], DATA[end - 500 : end]])
                assert (await storage.load(upload.id)).offset == sink.offset == end
            await sink.commit()
        async with opened(storage, upload.id) as writer:
            assert writer.upload.offset == 4000
            assert (await put(writer, DATA[4000:])).full

    async def test_an_aborted_body_is_taken_back(self, storage: Storage) -> None:
        upload = new()
        await storage.create(upload)
        async with opened(storage, upload.id) as writer:
            await put(writer, DATA[:100])
            sink = writer.append()
            await sink.write([b"wrong"])
            assert (await sink.abort()).offset == 100
            assert (await put(writer, DATA[100:])).full
            await writer.finish(None)
        content = await storage.content(upload.id)
        assert read(storage, content.fileno(), content.size) == DATA
        content.close()

    async def test_a_deferred_length_is_declared(self, storage: Storage) -> None:
        upload = new(None)
        await storage.create(upload)
        async with opened(storage, upload.id) as writer:
            assert (await writer.declare_length(5)).length == 5
        assert (await storage.load(upload.id)).length == 5

    async def test_a_finished_upload_is_a_file(self, storage: Storage) -> None:
        upload = await finished(storage)
        there = await storage.load(upload.id)
        assert (there.finished, there.offset) == (True, len(DATA))
        content = await storage.content(upload.id)
        assert read(storage, content.fileno(), content.size + 1) == DATA
        assert content.etag.startswith('"')
        content.close()

    async def test_an_unfinished_upload_has_no_file(self, storage: Storage) -> None:
        upload = new()
        await storage.create(upload)
        with pytest.raises(NotFinished):
            await storage.content(upload.id)

    async def test_a_removed_upload_is_gone_and_who_reads_it_reads_on(self, storage: Storage) -> None:
        upload = await finished(storage)
        content = await storage.content(upload.id)
        async with opened(storage, upload.id) as writer:
            await writer.remove()
        with pytest.raises(NotFound):
            await storage.load(upload.id)
        assert read(storage, content.fileno(), content.size) == DATA
        content.close()

    async def test_a_finished_upload_can_be_taken_once(self, storage: Storage, tmp_path: Path) -> None:
        upload = await finished(storage)
        async with opened(storage, upload.id) as writer:
            assert await writer.take(tmp_path / "taken") is True
            assert await writer.take(tmp_path / "again") is False
        assert (tmp_path / "taken").read_bytes() == DATA
        there = await storage.load(upload.id)
        assert (there.finished, there.taken, there.offset) == (True, True, len(DATA))
        with pytest.raises(Taken):
            await storage.content(upload.id)

    async def test_an_event_is_owed_until_it_is_done(self, storage: Storage) -> None:
        upload = await finished(storage, b"event")
        assert await storage.owed() == [upload.id]
        owed = await storage.claim(upload.id)
        assert owed is not None
        assert owed.body == b"event"
        assert await storage.claim(upload.id) is None
        await owed.close()
        owed = await storage.claim(upload.id)
        assert owed is not None
        await owed.done()
        await owed.close()
        assert await storage.owed() == []
        assert await storage.claim(upload.id) is None

    async def test_sweeping_names_the_unfinished_alone(self, storage: Storage) -> None:
        upload = new()
        await storage.create(upload)
        await finished(storage)
        named = [there.id for tick in range(256) for there in await storage.sweep(tick)]
        assert named == [upload.id]
