"""Uploads in one storage: what is done to them, and the small model of what may then be seen of each.

The laws of the model, for what a client may see after the process died (`kill`) and after a power cut (`power`):
- from the moment something is begun its outcome may be seen; from the moment it was acknowledged nothing else may;
- what the storage has taken survives a death; a power cut spares what was marked, finished or deleted, and with `patch` what was acknowledged;
- past a refused point there is nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import os
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.trace import Recorder
from tusserver.config import Config
from tusserver.engine.core import Engine
from tusserver.errors import NoSpace, NotFound, StorageFailed
from tusserver.hooks.base import Event, Events
from tusserver.locks.memory import MemoryLocks
from tusserver.model import Limits, Upload
from tusserver.storage.disk import Disk
from tusserver.storage.ground import Durability
from tusserver.storage.local import LocalStorage
from tusserver.storage.local_sink import LocalSink
from tusserver.storage.local_writer import LocalWriter

NOW, EXPIRE = time.time(), 3600.0
ABSENT, UNFINISHED, FINISHED = "absent", "unfinished", "finished"


@dataclass
class Expect:
    """What may be seen of one upload.

    Args:
        states: One of these.
        least: An unfinished one has at least so many bytes.
        most: And at most so many.
    """

    states: set[str] = field(default_factory=lambda: {ABSENT})
    least: int = 0
    most: int = 0


@dataclass
class Story:
    """One upload, and what has been said of it.

    Args:
        id: Its id.
        data: The file.
        deferred: Whether its length is not known at creation.
        variants: What its bytes may be: the file, and a body that may yet be refused.
        finishing: Whether a finish was ever begun.
        deleting: And whether a deletion was.
        taken: Whether the application has begun to take the file.
        told: Whether the listener had its event.
    """

    id: str
    data: bytes
    deferred: bool = False
    kill: Expect = field(default_factory=Expect)
    power: Expect = field(default_factory=Expect)
    variants: list[bytes] = field(default_factory=list)
    finishing: bool = False
    deleting: bool = False
    taken: bool = False
    told: bool = False

    @property
    def full(self) -> bool:
        """All of its bytes are there."""
        return not self.deferred and self.kill.least == len(self.data)

    def begin(self, state: str) -> None:
        """This may be seen from now on."""
        for expect in (self.kill, self.power):
            expect.states.add(state)
        self.finishing = self.finishing or state == FINISHED
        self.deleting = self.deleting or state == ABSENT

    def done(self, state: str, *, durable: bool) -> None:
        """Nothing else may be seen from now on; after a power cut only if it is durable."""
        self.kill.states = {state}
        if durable:
            self.power.states = {state}

    def send(self, upto: int) -> None:
        """So many bytes may be seen."""
        self.kill.most = self.power.most = upto

    def safe(self, upto: int) -> None:
        """So many bytes survive a power cut."""
        self.power.least = upto
        self.power.states.discard(ABSENT)

    def fall_back(self, upto: int) -> None:
        """What comes after was refused, or lost and said so."""
        self.kill.least, self.power.least = (min(expect.least, upto) for expect in (self.kill, self.power))
        self.send(upto)


class Life:
    """One process with one storage.

    Args:
        root: The data folder is below it, and the place to which files are taken.
        disk: What changes the disk.
        boot: Names the time since the machine was started.
        stories: The uploads there.
        dice: How many bytes come.
    """

    def __init__(
        self,
        root: Path,
        disk: Disk,
        durability: Durability,
        stories: list[Story],
        *,
        boot: str = "first",
        dice: random.Random | None = None,
    ) -> None:
        self.root, self.disk, self.durability, self.stories = root, disk, durability, stories
        self.dice = dice or random.Random(0)
        self.storage = LocalStorage(root / "data", durability=durability, disk=disk)
        self.storage._ground = dataclasses.replace(self.storage._ground, boot=boot)
        events = Events()
        events.after_finish.append(self._told)
        config = Config(limits=Limits(expire_after=EXPIRE))
        self.engine = Engine(storage=self.storage, locks=MemoryLocks(), events=events, config=config, clock=lambda: NOW)
        self.events: list[str] = []

    async def _told(self, event: Event) -> None:
        self.events.append(event.upload.id)
        for story in self.stories:
            story.told = story.told or story.id == event.upload.id
        self.tell()

    def tell(self) -> None:
        """What has been said of the uploads is noted beside the changes."""
        if isinstance(self.disk, Recorder):
            self.disk.trace.tell(copy.deepcopy(self.stories))

    @property
    def patch(self) -> bool:
        """Whether each acknowledgement is durable."""
        return self.durability == "patch"

    @property
    def durable(self) -> bool:
        """Whether anything is."""
        return self.durability != "none"

    # -- what is done

    async def start(self) -> None:
        """Open the storage."""
        self.tell()
        await self.storage.start()

    async def stop(self) -> None:
        """End, politely or dead."""
        await self.engine.stop()

    @contextlib.asynccontextmanager
    async def opened(self, story: Story) -> AsyncIterator[LocalWriter]:
        """A writer for the time of a block; `tell` at its end."""
        writer = await self.storage.open(story.id)
        try:
            yield writer
        finally:
            await writer.close()
        self.tell()

    async def create(self, story: Story) -> None:
        """POST."""
        story.begin(UNFINISHED)
        story.variants = [story.data]
        self.tell()
        length = None if story.deferred else len(story.data)
        await self.storage.create(Upload(id=story.id, length=length, created=NOW, touched=NOW))
        story.done(UNFINISHED, durable=self.patch)
        self.tell()

    async def append(self, story: Story, count: int = 3000, *, mark: bool = False) -> None:
        """PATCH; with a mark beside it when half of it is in."""
        async with self.opened(story) as writer:
            sink, start = writer.append(), writer.upload.offset
            end = min(start + count, len(story.data))
            for stop in ((start + end) // 2, end):
                story.send(stop)
                self.tell()
                await sink.write([story.data[sink.offset : stop]])
                story.kill.least = stop
                if mark and stop != end:
                    await self.mark(sink, writer)
            if isinstance(self.disk, Recorder):
                self.disk.gate.set()
            await writer.jobs.settle()
            self.marked(story, writer)
            await sink.commit()
            if self.patch:
                self.marked(story, writer)

    async def mark(self, sink: LocalSink, writer: LocalWriter) -> None:
        """Begin a mark, which ends before the next bytes come or only after them."""
        if isinstance(self.disk, Recorder) and self.dice.random() < 0.5:
            self.disk.gate.clear()
            self.disk.syncing.clear()
        sink._start_mark()
        if isinstance(self.disk, Recorder) and not self.disk.gate.is_set() and self.durable:
            await asyncio.to_thread(self.disk.syncing.wait)
        else:
            await writer.jobs.settle()

    def marked(self, story: Story, writer: LocalWriter) -> None:
        """What is synced now is safe."""
        if self.durable and writer.synced and writer.failed is None:
            story.safe(max(writer.synced, story.power.least))
            self.tell()

    async def overflow(self, story: Story, count: int = 2000) -> None:
        """A chunked PATCH that is refused in the end, although a mark was set in it."""
        async with self.opened(story) as writer:
            sink, start = writer.append(), writer.upload.offset
            junk = bytes(byte ^ 0xFF for byte in story.data[start : start + count])
            story.variants = [story.data, story.data[:start] + junk + story.data[start + len(junk) :]]
            story.send(start + len(junk))
            self.tell()
            await sink.write([junk])
            sink._start_mark()
            await writer.jobs.settle()
            await sink.abort()
            story.fall_back(start)
            story.variants = [story.data]

    async def lose(self, story: Story, count: int = 2000) -> None:
        """A PATCH beside which a sync fails: the offset falls back to what was synced."""
        assert isinstance(self.disk, Recorder)
        async with self.opened(story) as writer:
            sink, start = writer.append(), writer.upload.offset
            story.kill.least = writer.synced
            story.send(min(start + count, len(story.data)))
            self.tell()
            await sink.write([story.data[start : start + count]])
            self.disk.failing_syncs = 1 if self.durable else 0
            sink._start_mark()
            await writer.jobs.settle()
            with contextlib.suppress(StorageFailed, NoSpace):
                await sink.commit()
            self.disk.failing_syncs = 0
            story.fall_back(writer.upload.offset)
            story.kill.least = writer.upload.offset
            self.marked(story, writer)

    async def declare(self, story: Story) -> None:
        """The length of a deferred upload becomes known."""
        async with self.opened(story) as writer:
            if writer.upload.length is None:
                await writer.declare_length(len(story.data))
        story.deferred = False
        self.tell()

    async def finish(self, story: Story) -> None:
        """The last byte comes in, and the file is made; then its event is delivered."""
        if story.deferred:
            await self.declare(story)
        await self.append(story, len(story.data))
        await self.complete(story)

    async def finish_in_vain(self, story: Story) -> None:
        """The last byte comes in, and cannot be made durable: the offset falls back to what was synced."""
        assert isinstance(self.disk, Recorder)
        if not self.durable:
            return
        await self.append(story, len(story.data))
        story.kill.least = story.power.least
        self.disk.failing_syncs = 1
        with contextlib.suppress(StorageFailed, NoSpace):
            await self.engine._finisher.begin(story.id)
        self.disk.failing_syncs = 0
        upload = await self.storage.load(story.id)
        story.fall_back(upload.offset)
        story.kill.least = upload.offset
        self.tell()

    async def delete(self, story: Story) -> None:
        """DELETE, which finishes a full upload first."""
        if story.full and story.kill.states == {UNFINISHED}:
            story.begin(FINISHED)
        story.begin(ABSENT)
        self.tell()
        await self.engine.terminate(story.id, None)
        story.done(ABSENT, durable=self.durable)
        self.tell()

    async def expire(self, story: Story) -> None:
        """Nothing has come for too long, and the sweeper passes by."""
        folder = self.storage.folder(story.id)
        os.utime("content", (NOW - 2 * EXPIRE,) * 2, dir_fd=folder)
        os.close(folder)
        story.begin(ABSENT)
        await self.sweep()
        story.done(ABSENT, durable=False)
        self.tell()

    async def take(self, story: Story) -> None:
        """The application moves the file away."""
        story.taken = True
        self.tell()
        await self.engine.take(story.id, self.taken(story))

    def taken(self, story: Story) -> Path:
        """Where a file that was taken lies."""
        return self.root / "taken" / story.id

    async def repair(self, story: Story) -> None:
        """The next writer after a crash; a full upload is finished."""
        with contextlib.suppress(NotFound):
            async with self.opened(story) as writer:
                full = writer.upload.full and not writer.upload.finished
            if full:
                await self.complete(story)

    async def complete(self, story: Story) -> None:
        """A full upload becomes a file; then its event is delivered."""
        story.begin(FINISHED)
        self.tell()
        await self.engine._finisher.begin(story.id)
        story.done(FINISHED, durable=self.durable)
        self.tell()
        await self.quiet()

    async def sweep(self, story: Story | None = None) -> None:
        """The sweeper passes by once; it finishes what is full."""
        full = [one for one in self.stories if one.kill.states == {UNFINISHED} and one.full]
        for one in full:
            one.begin(FINISHED)
        self.tell()
        await self.tick()
        for one in full:  # one whose finish failed just now has to wait
            if (await self.storage.load(one.id)).finished:
                one.done(FINISHED, durable=self.durable)
            else:
                one.done(UNFINISHED, durable=False)
                one.power.states.discard(FINISHED)
        self.tell()
        await self.quiet()

    async def tick(self) -> None:
        """A full round of the sweeper."""
        await self.engine._sweep(255)
        await self.engine._sweep(0)
        await self.engine._endings.settle(5)

    async def quiet(self) -> None:
        """Wait until nothing is to be delivered any more, or what is cannot be."""
        for _ in range(500):
            if not len(self.engine._notifier) or getattr(self.disk, "died", False):
                return
            await asyncio.sleep(0.001)
