"""Faults put in on purpose: each breaks one law of the storage, and a machine that does not see it is none."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import asdict

from tusserver.body import Body, End
from tusserver.errors import NotFound
from tusserver.storage import layout, local
from tusserver.storage import record as records
from tusserver.storage.base import Sink
from tusserver.storage.disk import Disk, write_all
from tusserver.storage.layout import FILES, UPLOADS, Found, Layout
from tusserver.storage.local import LocalStorage
from tusserver.storage.local_writer import LocalWriter
from tusserver.storage.record import Record
from tusserver.storage.threads import Jobs
from tusserver.web.reader import RequestReader

Replace = Callable[[object, str, object], None]
"""Sets an attribute, as `pytest.MonkeyPatch.setattr` or `setattr` do."""


def dropped_fsync(replace: Replace) -> None:
    """The bytes of an upload are never synced."""
    replace(LocalWriter, "_sync_content", lambda _writer: None)


def folder_not_synced(replace: Replace) -> None:
    """A record is written, and its new name not made durable."""
    replace(LocalWriter, "_settle", LocalWriter._store)


def name_not_synced(replace: Replace) -> None:
    """The folder of an upload is not made durable before something is promised on it."""
    replace(LocalWriter, "_name", lambda _writer: None)


def rename_before_write(replace: Replace) -> None:
    """A record gets its name before it has its content."""

    def write(disk: Disk, folder: int, record: Record, *, durable: bool) -> None:
        fd = disk.scratch(records.TEMPORARY, folder)
        disk.rename(records.TEMPORARY, folder, records.NAME, folder)
        try:
            write_all(disk, fd, json.dumps({"v": records.VERSION, **asdict(record)}).encode())
            if durable:
                disk.fsync(fd)
        finally:
            os.close(fd)

    replace(records, "write", write)


def size_trusted_after_reboot(replace: Replace) -> None:
    """The size of the content counts, whatever happened since."""
    replace(Record, "offset", lambda _record, size, _boot, keep: size if keep is None else min(size, keep))


def retried_fsync(replace: Replace) -> None:
    """A sync that failed is tried again, and the second answer believed."""

    def sync(writer: LocalWriter) -> None:
        with contextlib.suppress(OSError):
            writer._disk.fdatasync(writer._content)
            return
        writer._disk.fdatasync(writer._content)

    replace(LocalWriter, "_sync_content", sync)


def lock_let_go_early(replace: Replace) -> None:
    """A lock is let go before the last thread that works under it has returned."""

    async def settle(jobs: Jobs) -> None:
        """Wait for nobody."""

    replace(Jobs, "settle", settle)


def files_looked_up_first(replace: Replace) -> None:
    """An upload that is being finished is missed by who looks in `files/` before `uploads/`."""

    def find(where: Layout, upload_id: str) -> Found:
        for tree in (FILES, UPLOADS):
            fd = where.open(tree, upload_id)
            if fd is not None:
                return Found(tree, fd)
        raise NotFound

    replace(layout.Layout, "find", find)


def buffer_thrown_away(replace: Replace) -> None:
    """What had arrived when a connection broke is not stored."""
    replace(RequestReader, "_drain", lambda _reader: [])


def holder_never_stopped(replace: Replace) -> None:
    """Who writes to an upload is not asked to stop when somebody else wants to go on with it."""
    replace(Body, "stop", lambda _body, _purpose: None)


def early_end_taken_for_whole(replace: Replace) -> None:
    """A body that broke off counts as if all of it had come: what did not is zeros."""
    into = Body.into

    async def all_of_it(body: Body, sink: Sink, cap: int | None, moved: Callable[[], None] = lambda: None) -> End:
        end = await into(body, sink, cap, moved)
        if end is End.LOST and body._left:
            await sink.write([bytes(body._left)])
        return end

    replace(Body, "into", all_of_it)


def restart_taken_for_reboot(replace: Replace) -> None:
    """The time since a process was started is taken for the time since the machine was: what a dead process left is not trusted."""
    replace(local, "current_boot", lambda: uuid.uuid4().hex)


def owed_forgotten(replace: Replace) -> None:
    """What a dead process still owed is not looked for."""

    async def owed(_storage: LocalStorage) -> list[str]:
        return []

    replace(LocalStorage, "owed", owed)


FAULTS = {
    fault.__name__: fault
    for fault in (
        dropped_fsync,
        folder_not_synced,
        name_not_synced,
        rename_before_write,
        size_trusted_after_reboot,
        retried_fsync,
        lock_let_go_early,
        files_looked_up_first,
        buffer_thrown_away,
        holder_never_stopped,
        early_end_taken_for_whole,
        restart_taken_for_reboot,
        owed_forgotten,
    )
}
