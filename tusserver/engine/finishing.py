"""How a full upload becomes a finished file, and an expired one nothing: tasks of the engine, one at a time for each upload.

The laws: an upload is told to be complete only when it is finished. A finish that failed for now is tried again by whoever touches the upload
next; one that was refused for good discards it. Nobody is stopped for it: the lock is tried, not asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from tusserver.engine.notify import Notifier
from tusserver.engine.tasks import Tasks
from tusserver.errors import Finishing, HookFailed, Locked, NotFound, Refuse, TusError
from tusserver.locks.base import Hold, Locks
from tusserver.model import Limits, Upload
from tusserver.storage.base import Storage, Writer

LOOK_AGAIN = 0.05
FIRST_BACK_OFF, LAST_BACK_OFF = 1.0, 3600.0
log = logging.getLogger("tusserver")


class Session:
    """An upload under its lock: ends by closing the writer and then letting go."""

    def __init__(self, hold: Hold, writer: Writer) -> None:
        self.hold = hold
        self.writer = writer

    async def close(self, tasks: Tasks) -> None:
        """End it; where a thread has yet to return that happens in the background."""
        self.hold.stop = None
        self.hold.settling = True
        ending = tasks.start(self._close())
        if not self.writer.busy:
            await ending

    async def _close(self) -> None:
        try:
            await self.writer.close()
        finally:
            await self.hold.release()


async def open_session(locks: Locks, storage: Storage, upload_id: str, *, dying: bool = False, **how: Any) -> Session:
    """Get an upload's lock (see `Locks.acquire` for `how`) and open it (see `Storage.open` for `dying`)."""
    hold = await locks.acquire(upload_id, **how)
    try:
        return Session(hold, await storage.open(upload_id, dying=dying))
    except BaseException:
        await hold.release()
        raise


class Finisher:
    """The finishes and expiries that are under way.

    Args:
        limits: Which uploads expire.
        wait: Seconds to wait for somebody else's finish.
    """

    def __init__(self, storage: Storage, locks: Locks, notifier: Notifier, tasks: Tasks, *, limits: Limits, wait: float) -> None:
        self._storage, self._locks, self._notifier, self._tasks = storage, locks, notifier, tasks
        self._limits, self._wait = limits, wait
        self._running: dict[str, asyncio.Task[Upload]] = {}
        self._back_off: dict[str, tuple[float, float]] = {}  # id → (not before, last pause), for the sweeper alone

    def adopt(self, session: Session, request: object = None) -> asyncio.Task[Upload]:
        """Finish the full upload of a session; the task ends the session."""
        return self._start(session.writer.upload.id, self._finish(session, request))

    def begin(self, upload_id: str) -> asyncio.Task[Upload]:
        """Finish a full upload, or join who does; the task raises `Locked` when somebody is writing to it."""
        return self._running.get(upload_id) or self._start(upload_id, self._take_up(upload_id))

    def _start(self, upload_id: str, work: Coroutine[Any, Any, Upload]) -> asyncio.Task[Upload]:
        task = self._running[upload_id] = self._tasks.start(work)
        task.add_done_callback(lambda done: self._ended(upload_id, done))
        return task

    def _ended(self, upload_id: str, task: asyncio.Task[Upload]) -> None:
        if self._running.get(upload_id) is task:
            del self._running[upload_id]
        if task.cancelled() or isinstance(task.exception(), Locked):
            return
        if task.exception() is None or isinstance(task.exception(), Refuse | NotFound):
            self._back_off.pop(upload_id, None)
            return
        pause = min(self._back_off.get(upload_id, (0.0, FIRST_BACK_OFF / 2))[1] * 2, LAST_BACK_OFF)
        self._back_off[upload_id] = (asyncio.get_running_loop().time() + pause, pause)

    def due(self, upload_id: str) -> bool:
        """Whether the sweeper may try again after a failure."""
        return self._back_off.get(upload_id, (0.0, 0.0))[0] <= asyncio.get_running_loop().time()

    async def _take_up(self, upload_id: str) -> Upload:
        session = await open_session(self._locks, self._storage, upload_id, wait=0)
        if session.writer.upload.finished or not session.writer.upload.full:
            await session.close(self._tasks)
            return session.writer.upload
        return await self._finish(session, None)

    async def _finish(self, session: Session, request: object) -> Upload:
        writer = session.writer
        session.hold.stop = None
        try:
            await self._notifier.before_finish(writer.upload, request)
            finished = await writer.finish(self._notifier.owe(writer.upload))
            self._notifier.finished(finished)
            log.info("upload %s is finished: %d bytes", finished.id, finished.offset)
            return finished
        except Refuse:
            await writer.remove()
            self._notifier.terminated(writer.upload, "refused")
            raise
        except TusError as error:
            log.warning("upload %s could not be finished: %s", writer.upload.id, error.line)
            raise
        except Exception as error:
            log.exception("upload %s could not be finished", writer.upload.id)
            raise HookFailed("the upload could not be finished") from error
        finally:
            await session.close(self._tasks)

    async def settled(self, upload: Upload) -> Upload:
        """A full upload once it is finished.

        Raises:
            Finishing: It takes longer than the limit.
            NotFound: It was refused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait
        while upload.full and not upload.finished:
            task = self.begin(upload.id)
            await asyncio.wait({task}, timeout=deadline - loop.time())
            if not task.done():
                raise Finishing
            try:
                return task.result()
            except Refuse:
                raise NotFound from None
            except Locked:
                if loop.time() + LOOK_AGAIN > deadline:
                    raise Finishing from None
            await asyncio.sleep(LOOK_AGAIN)
            upload = await self._storage.load(upload.id)
        return upload

    async def expire(self, upload: Upload, now: float) -> bool:
        """Remove an expired upload; False when it turned out to be alive (somebody writes to it, or just did)."""
        try:
            hold = await self._locks.acquire(upload.id, wait=0)
        except Locked:
            return False
        except NotFound:
            return True
        try:
            upload = await self._storage.load(upload.id)
            if not upload.expired(self._limits, now):
                return False
            await self._remove(upload.id)
        except NotFound:
            return True
        finally:
            await hold.release()
        self._notifier.terminated(upload, "expired")
        log.info("upload %s has expired", upload.id)
        return True

    async def _remove(self, upload_id: str) -> None:
        writer = await self._storage.open(upload_id, dying=True)
        try:
            await writer.remove(durable=False)
        finally:
            await writer.close()
