"""Two at once, in every order: a reader in the midst of each operation, and a lock that is let go while a thread still works under it.

The laws: who looks while an operation is under way sees the upload as it was before or as it is after, never "gone" in between; no thread
changes an upload whose lock has been let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from tests.reliability.faults import FAULTS
from tests.reliability.life import ABSENT, FINISHED, UNFINISHED, Life, Story
from tests.reliability.test_crash_points import DATA, HALF, ID, empty
from tests.reliability.trace import Recorder
from tests.support.tries import Tries
from tests.support.wire import Served, served
from tusserver.errors import NotFound
from tusserver.locks.host import HostHold
from tusserver.storage.disk import Disk
from tusserver.storage.local import LocalStorage

Act = Callable[[Life, Story], Awaitable[None]]


class Pausing(Recorder):
    """A disk that stops before one change until it is let go on."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.stop_at: int | None = None
        self.made = 0
        self.paused, self.go_on = threading.Event(), threading.Event()

    def _live(self) -> None:
        self.made += 1
        if self.made - 1 == self.stop_at:
            self._lock.release()  # others may go on
            self.paused.set()
            self.go_on.wait()
            self._lock.acquire()
        super()._live()


async def deleted_and_swept(life: Life, story: Story) -> None:
    """A finished file is deleted, and the trash emptied at once."""
    await life.delete(story)
    await life.tick()


SCENES: dict[str, tuple[tuple[Act, ...], Act, set[str]]] = {
    "create": ((), Life.create, {ABSENT, UNFINISHED}),
    "append": (HALF, Life.append, {UNFINISHED}),
    "finish": (HALF, Life.finish, {UNFINISHED, FINISHED}),
    "take": ((Life.create, Life.finish), Life.take, {FINISHED}),
    "delete": ((*HALF,), deleted_and_swept, {UNFINISHED, ABSENT}),
    "delete_finished": ((Life.create, Life.finish), deleted_and_swept, {FINISHED, ABSENT}),
}
STEPS = ("layout.Layout.open", "local.LocalStorage._read", "ground._content_state", "local.finished_upload")
"""What a reader does: in front of each of its steps the operation may go on to its end."""


class Order:
    """One order of two: the operation stops before a change, the reader begins, and before one of its steps the operation ends.

    Args:
        change: Before which change of disk.
        step: Before which step of the reader.
    """

    def __init__(self, root: Path, change: int, step: int) -> None:
        self.story, self.disk = Story(ID, DATA), Pausing(empty(root))
        self.life = Life(root, self.disk, "finish", [self.story])
        self.change, self.step = change, step
        self.steps = 0
        self.ended = threading.Event()

    async def run(self, before: tuple[Act, ...], act: Act) -> str | None:
        """What the reader saw; None when there is no such change, or no such step."""
        await self.life.start()
        for earlier in before:
            await earlier(self.life, self.story)
        self.disk.stop_at = self.disk.made + self.change
        work = asyncio.ensure_future(act(self.life, self.story))
        work.add_done_callback(self._end)
        try:
            await asyncio.to_thread(self.disk.paused.wait)
            seen = None if self.ended.is_set() else await asyncio.to_thread(self.look)
        finally:
            self.disk.go_on.set()
            await work
            await self.life.stop()
        return seen if self.steps >= self.step else None

    def _end(self, _work: asyncio.Future[None]) -> None:
        self.ended.set()
        self.disk.paused.set()

    def look(self) -> str:
        """The reader, in a thread; a storage of its own would be another process's."""
        with pytest.MonkeyPatch.context() as patch:
            for step in STEPS:
                name = f"tusserver.storage.{step}"
                patch.setattr(name, self._stepping(resolve_name(name), threading.get_ident()))
            try:
                upload = self.life.storage.look(ID)
            except NotFound:
                return ABSENT
        return FINISHED if upload.finished else UNFINISHED

    def _stepping(self, function: Callable[..., Any], reader: int) -> Callable[..., Any]:
        def step(*args: Any) -> Any:
            if threading.get_ident() == reader:
                self.steps += 1
                if self.steps == self.step:
                    self.disk.go_on.set()
                    self.ended.wait()
            return function(*args)

        return step


async def orders(memory: Path, name: str) -> Counter[str]:
    """All orders of a reader and one operation; `AssertionError` if one of them shows what must not be seen."""
    before, act, allowed = SCENES[name]
    seen: Counter[str] = Counter()
    change, step = 0, 1
    while True:
        number = seen.total()
        state = await Order(memory / f"{name}{change}.{step}", change, step).run(before, act)
        if state is None and step == 1:
            return seen
        if state is None:
            change, step = change + 1, 1
            continue
        assert state in allowed, f"{name}: {state} is seen, order {number}: change {change}, step {step}"
        seen[state] += 1
        step += 1


@pytest.mark.usefixtures("two_buckets")
async def test_a_reader_in_the_midst_of_any_operation_sees_before_or_after(memory: Path, tries: Tries) -> None:
    seen = {name: await orders(memory, name) for name in SCENES}
    total = sum(seen.values(), Counter())
    tries.tell(f"{len(SCENES)} operations, {total.total()} orders, {dict(total)} seen; 0 wrong")
    assert set(seen["finish"]) == {UNFINISHED, FINISHED}


@pytest.mark.usefixtures("two_buckets")
async def test_a_reader_that_looks_among_the_files_first_is_found(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS["files_looked_up_first"](monkeypatch.setattr)
    with pytest.raises(AssertionError, match="absent is seen"):
        await orders(memory, "finish")


class Witness(Disk):
    """A disk that knows which uploads a thread is working on, and whose first fdatasync takes as long as it is told."""

    def __init__(self) -> None:
        self.working: Counter[str] = Counter()
        self.unguarded: list[str] = []
        self.syncing, self.go_on = threading.Event(), threading.Event()

    def fdatasync(self, fd: int) -> None:
        """Sync, slowly."""
        name = upload_of(fd)
        self.working[name] += 1
        self.syncing.set()
        self.go_on.wait(20)
        super().fdatasync(fd)
        self.working[name] -= 1


def upload_of(fd: int) -> str:
    """The id of the upload that a descriptor is part of."""
    found = re.search(r"[0-9a-f]{32}", os.readlink(f"/proc/self/fd/{fd}"))
    assert found is not None
    return found[0]


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    """Looks whenever a lock is let go; marks are set at once."""
    disk, release = Witness(), HostHold.release

    async def watched(hold: HostHold) -> None:
        if hold._fd >= 0 and disk.working[upload_of(hold._fd)]:
            disk.unguarded.append(upload_of(hold._fd))
        await release(hold)

    monkeypatch.setattr(HostHold, "release", watched)
    monkeypatch.setattr("tusserver.storage.local_sink.MARK_BYTES", 1)
    yield disk
    disk.go_on.set()


async def take_over(server: Served, disk: Witness) -> None:
    """A PATCH is stopped by another while a mark is being set, which takes its time."""
    path = await server.create(100)
    first, second = await server.open(), await server.open()
    await first.patch(path, 0, 100, b"x" * 40)
    await asyncio.to_thread(disk.syncing.wait)
    await server.reaches(path, 40)
    await second.patch(path, 40, 60, b"y" * 60)
    assert (await first.answer()).status == 423
    disk.go_on.set()
    assert (await second.answer()).status == 204
    assert server.file(path) == b"x" * 40 + b"y" * 60


@pytest.mark.parametrize("fault", [None, "lock_let_go_early"])
async def test_no_lock_is_let_go_while_a_thread_works_under_it(
    tmp_path: Path, witness: Witness, fault: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault:
        FAULTS[fault](monkeypatch.setattr)
    async with served(tmp_path / "data", storage=LocalStorage(tmp_path / "data", disk=witness)) as server:
        with contextlib.suppress(*[AssertionError] if fault else []):  # two at once in one record may show themselves as well
            await take_over(server, witness)
    assert bool(witness.unguarded) == bool(fault)
