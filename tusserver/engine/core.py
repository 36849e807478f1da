"""The engine: what happens, in what order. The only orchestrator, one method per command.

    load → check → lock → check again → write → finish → notify

The laws: whatever changes an upload runs in a task of the engine, to its end, so that no lost client and no cancelled handler leaves a lock held
or a byte uncounted; a request that will be refused stops nobody; offset = length is said only of a finished upload.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from tusserver.body import Body, End
from tusserver.config import Config
from tusserver.engine.finishing import Finisher, Session, open_session
from tusserver.engine.notify import Notifier
from tusserver.engine.tasks import Tasks
from tusserver.errors import ClientGone, Interrupted, NoSpace, NotFound, Passing, Stopping, StorageFailed, TooLarge, TusError
from tusserver.hooks.base import Events
from tusserver.locks.base import Locks
from tusserver.model import Upload
from tusserver.protocol import rules
from tusserver.protocol.command import Append, Create
from tusserver.storage.base import Content, Storage

BUCKETS = 256
LATE_THREADS = 0.5
T = TypeVar("T")
log = logging.getLogger("tusserver")


class Engine:
    """Uploads, for whatever speaks to clients.

    Args:
        storage: Where they live.
        locks: Who may write to one now.
        events: Who is told.
        config: Limits and times.
        clock: The present time in seconds since the epoch.
    """

    def __init__(
        self, *, storage: Storage, locks: Locks, events: Events, config: Config, clock: Callable[[], float] = time.time
    ) -> None:
        self.config = config
        self.storage = storage
        self.events = events
        self.stopping = False
        self._deadline = 0.0
        self._locks = locks
        self._clock = clock
        self._transfers = Tasks()
        self._endings = Tasks()
        self._bodies: set[Body] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._notifier = Notifier(events, storage, timeout=config.hook_timeout, take=self.take)
        self._finisher = Finisher(
            storage, locks, self._notifier, self._endings, limits=config.limits, wait=config.lock_wait
        )

    # -- life

    async def start(self) -> None:
        """Open the storage, deliver what is owed, begin to sweep; a second call does nothing."""
        if self._sweeper is None:
            await self.storage.start()
            self.events.freeze()
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    async def halt(self) -> None:
        """Cut every transfer, keep what it brought, refuse what comes; finishes have `shutdown_timeout` to end. Returns when all are answered."""
        now = asyncio.get_running_loop().time()
        if not self.stopping:  # called once by each mount, and by `stop`: all have the same time
            self.stopping, self._deadline = True, now + self.config.shutdown_timeout
        self._locks.close()
        for body in list(self._bodies):
            body.stop("stopping")
        await self._transfers.settle(self._deadline - now)

    async def stop(self) -> None:
        """Let go of everything; what could not end in time is left to the next start."""
        await self.halt()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait({self._sweeper})
        await self._endings.settle(LATE_THREADS)
        await self._notifier.stop()
        for tasks in (self._transfers, self._endings):  # a listener may have been cut in the middle of a `take`
            await tasks.settle(LATE_THREADS)
        await self.storage.stop()

    async def run(self, command: Coroutine[Any, Any, T], body: Body | None = None) -> T:
        """Run a command in a task of the engine; when the handler that waits for it is cancelled, its body counts as broken off."""
        task = self._transfers.start(command)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if body is not None:
                body.stop("lost")
            raise

    # -- commands

    async def find(self, upload_id: str, owner: str | None) -> Upload:
        """An upload of this owner, as it may be told: a full one is finished first, an expired one is gone.

        Raises:
            NotFound: None such.
            Finishing: It is full, and not finished in time.
        """
        upload = await self.storage.load(upload_id)
        if upload.owner != owner:
            raise NotFound
        if upload.expired(self.config.limits, self._clock()) and await self.run(self._finisher.expire(upload, self._clock())):
            raise NotFound
        return await self._finisher.settled(upload)

    async def create(self, command: Create, owner: str | None, request: object = None) -> Upload:
        """Make an upload, empty as yet; `fill` gives it what came with its creation."""
        self._refuse_while_stopping()
        rules.check_create(command, self.config.limits)
        await self._check_space(command.length)
        now = self._clock()
        upload = Upload(
            id=secrets.token_hex(16), owner=owner, length=command.length, metadata=command.metadata, created=now, touched=now
        )
        upload = await self._notifier.before_create(upload, request)
        await self.storage.create(upload)
        self._notifier.created(upload)
        return upload

    async def _check_space(self, length: int | None) -> None:
        free = await self.storage.free_space()
        if length is not None and free is not None and length > free:
            raise NoSpace("the upload is larger than the free space")

    async def fill(self, upload: Upload, command: Create, body: Body, request: object = None) -> Upload:
        """Store what came with the creation of an upload; one whose bytes are all in is finished."""
        append = Append(offset=0, length=None, content_length=command.content_length if command.with_body else 0)
        return await self._write(upload, append, body, request)

    async def append(self, upload: Upload, command: Append, body: Body, request: object = None) -> Upload:
        """Add a body to an upload that `find` gave, at the offset that the client names."""
        rules.check_append(upload, command, self.config.limits)
        if upload.finished and command.content_length == 0:
            return upload
        return await self._write(upload, command, body, request)

    async def terminate(self, upload_id: str, owner: str | None, request: object = None) -> None:
        """Delete an upload; a transfer on it is stopped first."""
        self._refuse_while_stopping()
        upload = await self._find_to_delete(upload_id, owner)
        rules.check_terminate(upload, self.config.limits)
        await self._notifier.before_terminate(upload, request)
        session = await open_session(self._locks, self.storage, upload_id, purpose="delete", dying=True, wait=self.config.lock_wait)
        try:
            rules.check_terminate(session.writer.upload, self.config.limits)
            await session.writer.remove()
            self._notifier.terminated(session.writer.upload, "client")
        finally:
            await session.close(self._endings)

    async def _find_to_delete(self, upload_id: str, owner: str | None) -> Upload:
        """A full upload whose finish fails for now must not be undeletable."""
        try:
            return await self.find(upload_id, owner)
        except Passing:
            upload = await self.storage.load(upload_id)
            if upload.owner != owner:
                raise NotFound from None
            return upload

    async def download(self, upload_id: str, owner: str | None) -> Content:
        """Open the file of a finished upload; the caller closes it."""
        upload = await self.find(upload_id, owner)
        rules.check_download(upload, self.config.limits)
        return await self.storage.content(upload_id)

    async def take(self, upload_id: str, target: Path) -> bool:
        """Move the file of a finished upload to where the application wants it."""
        return await self.run(self._take(upload_id, target))

    async def _take(self, upload_id: str, target: Path) -> bool:
        session = await open_session(self._locks, self.storage, upload_id, wait=self.config.lock_wait)
        try:
            return await session.writer.take(target)
        finally:
            await session.close(self._endings)

    # -- writing

    async def _write(self, upload: Upload, command: Append, body: Body, request: object) -> Upload:
        self._refuse_while_stopping()
        self._bodies.add(body)
        try:
            session = await open_session(self._locks, self.storage, upload.id, stop=body.stop, wait=self.config.lock_wait)
            return await self._write_locked(session, command, body, request)
        finally:
            self._bodies.discard(body)

    async def _write_locked(self, session: Session, command: Append, body: Body, request: object) -> Upload:
        handed_over = False
        try:
            end = await self._receive(session, command, body)
            upload = session.writer.upload
            if upload.full and not upload.finished and end is not End.OVERFLOW:
                handed_over = True
                upload = await self._finisher.adopt(session, request)
                self._mind(end, body, finished=True)
                return upload
            self._mind(end, body)
            return session.writer.upload
        finally:
            if not handed_over:
                await session.close(self._endings)

    async def _receive(self, session: Session, command: Append, body: Body) -> End:
        writer, limits = session.writer, self.config.limits
        rules.check_append(writer.upload, command, limits)
        cap = rules.cap(writer.upload, command, limits)
        declares = command.length is not None and writer.upload.length is None
        if declares:
            await writer.declare_length(command.length)
        if command.content_length == 0:
            return End.WHOLE
        if writer.upload.finished:  # a chunked body, which must turn out to be empty: nothing of it ever reaches the sink
            return await body.into(writer.append(), 0)
        sink = writer.append()
        try:
            end = await body.into(sink, cap, lambda: self._notifier.progress(writer.upload))
        except TusError:
            session.hold.stop = None
            with contextlib.suppress(NoSpace, StorageFailed):
                await sink.commit()
            raise
        session.hold.stop = None
        if end is not End.OVERFLOW:
            await sink.commit()
            return end
        await sink.abort()
        if declares:
            await writer.declare_length(None)  # of a request that is refused nothing stays
        return end

    def _mind(self, end: End, body: Body, *, finished: bool = False) -> None:
        """Raise what a body that did not end well is answered."""
        if end is End.OVERFLOW:
            raise TooLarge("the body goes on past the length of the upload; nothing of it is kept", close=True)
        if end is End.LOST or (end is End.STOPPED and body.stopped_for == "lost"):
            raise ClientGone
        if end is End.STALLED:
            raise ClientGone("no byte came for too long; what came is kept")
        if end is End.STOPPED and not finished:
            if body.stopped_for == "stopping":
                raise Stopping
            raise NotFound("the upload was deleted", close=True) if body.stopped_for == "delete" else Interrupted()

    def _refuse_while_stopping(self) -> None:
        if self.stopping:
            raise Stopping

    # -- sweeping

    async def _sweep_for_ever(self) -> None:
        tick = BUCKETS - 1  # the first tick delivers what is owed since before the start
        while True:
            await asyncio.sleep(self.config.sweep_interval)
            try:
                await self._sweep(tick)
            except TusError as error:
                log.warning("the sweeper could not work: %s", error.line)
            except Exception:
                log.exception("the sweeper could not work")
            tick = (tick + 1) % BUCKETS

    async def _sweep(self, tick: int) -> None:
        if tick == BUCKETS - 1:
            await self._notifier.recover()
        for upload in await self.storage.sweep(tick):
            if upload.expired(self.config.limits, self._clock()):
                await self.run(self._finisher.expire(upload, self._clock()))
            elif upload.full and self._finisher.due(upload.id):
                self._finisher.begin(upload.id)
