"""Who is told what, in which order: one queue for each upload, and the outbox behind `after_finish`.

The laws: the events of one upload arrive in order, and a `before_*` is asked only when everything earlier has been delivered. Whoever observes
breaks nothing: a listener that raises or is late is logged. `after_finish` is owed, in the outbox, until every listener has had it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from tusserver.errors import HookFailed, Passing, Refuse, TusError
from tusserver.hooks.base import Event, Events, Listener, Listeners, Take
from tusserver.model import Metadata, TerminateReason, Upload
from tusserver.protocol.headers import build_metadata
from tusserver.storage.base import Storage

PROGRESS_PAUSE = 1.0
FIRST_BACK_OFF, LAST_BACK_OFF = 1.0, 3600.0
VERSION = 1
log = logging.getLogger("tusserver")
Job = Callable[[], Coroutine[Any, Any, None]]


@dataclass(eq=False)
class Line:
    """What is to be delivered for one upload."""

    jobs: list[Job] = field(default_factory=list)
    worker: asyncio.Task[None] | None = None
    number: int = 0
    progress: Upload | None = None
    finished: bool = False
    urgent: asyncio.Event = field(default_factory=asyncio.Event)  # something else than progress waits


class Notifier:
    """Delivers the events of one engine.

    Args:
        events: The lists of listeners.
        storage: Has the outbox.
        timeout: Seconds that one listener may take.
        take: Moves a finished file away, for `Event.take`.
        sleep: Waits; tests put another one in.
        clock: The present time in seconds since the epoch.
    """

    def __init__(
        self,
        events: Events,
        storage: Storage,
        *,
        timeout: float,
        take: Take,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._events, self._storage, self._timeout, self._take, self._sleep = events, storage, timeout, take, sleep
        self._lines: dict[str, Line] = {}
        self._told_unheard = False

    def __len__(self) -> int:
        return len(self._lines)

    # -- asking

    async def before_create(self, upload: Upload, request: object) -> Upload:
        """Ask whether an upload may be made; a listener may give it other metadata.

        Raises:
            Refuse: It may not.
            HookFailed: A listener failed or was late.
        """
        for listener in self._events.before_create:
            answer = await self._ask(listener, self._event("before_create", upload, request=request))
            if answer is not None:
                upload = replace(upload, metadata=build_metadata(answer))
        return upload

    async def before_finish(self, upload: Upload, request: object) -> None:
        """Ask whether a full upload may become a file."""
        await self._ask_all(self._events.before_finish, "before_finish", upload, request)

    async def before_terminate(self, upload: Upload, request: object) -> None:
        """Ask whether a client may delete an upload."""
        await self._ask_all(self._events.before_terminate, "before_terminate", upload, request)

    async def _ask_all(self, listeners: Listeners, name: str, upload: Upload, request: object) -> None:
        if not listeners:
            return
        await self._caught_up(upload.id)
        for listener in listeners:
            await self._ask(listener, self._event(name, upload, request=request))

    async def _ask(self, listener: Listener, event: Event) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await listener(event)
        except Refuse:
            raise
        except TimeoutError:
            log.error("upload %s: a listener of %s took longer than %g s", event.upload.id, event.name, self._timeout)  # no stack
        except Exception:
            log.exception("upload %s: a listener of %s failed", event.upload.id, event.name)
        raise HookFailed("the application could not decide") from None

    async def _caught_up(self, upload_id: str) -> None:
        """Wait for what was queued before; an `after_finish` that nobody takes holds nothing up."""
        line = self._lines.get(upload_id)
        if line is not None and not line.finished:
            reached = asyncio.Event()
            self._queue(upload_id, lambda: _set(reached))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await reached.wait()

    # -- telling

    def created(self, upload: Upload) -> None:
        """An upload was made."""
        self._tell(self._events.after_create, "after_create", upload)

    def terminated(self, upload: Upload, reason: TerminateReason) -> None:
        """An upload is gone."""
        self._tell(self._events.after_terminate, "after_terminate", upload, reason)

    def progress(self, upload: Upload) -> None:
        """Bytes came: told at most once a second, the latest wins."""
        if not self._events.progress:
            return
        line = self._line(upload.id)
        waiting, line.progress = line.progress, upload
        if waiting is None:
            self._queue(upload.id, lambda: self._tell_progress(line), urgent=False)

    async def _tell_progress(self, line: Line) -> None:
        upload, line.progress = line.progress, None
        if upload is not None:
            await self._observe(self._events.progress, self._event("progress", upload))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_PAUSE):
                    await line.urgent.wait()

    def _tell(self, listeners: Listeners, name: str, upload: Upload, reason: TerminateReason | None = None) -> None:
        if listeners:
            event = self._event(name, upload, reason=reason)
            self._queue(upload.id, lambda: self._observe(listeners, event))

    async def _observe(self, listeners: Listeners, event: Event) -> None:
        for listener in listeners:
            await self._hears(listener, event)

    async def _hears(self, listener: Listener, event: Event) -> bool:
        """Whether a listener took an event without trouble."""
        try:
            async with asyncio.timeout(self._timeout):
                await listener(event)
        except Exception:
            log.exception("upload %s: a listener of %s failed or was late", event.upload.id, event.name)
            return False
        return True

    # -- what is owed

    def owe(self, upload: Upload) -> bytes | None:
        """The body of the `after_finish` that will be owed; None when nobody listens."""
        if not self._events.after_finish:
            return None
        return build_owed(self._event("after_finish", replace(upload, finished=True)))

    def finished(self, upload: Upload) -> None:
        """A file is there, and its event is owed: deliver it."""
        if self._events.after_finish:
            self._deliver(upload.id)

    async def recover(self) -> None:
        """Deliver what an earlier process still owes."""
        owed = await self._storage.owed()
        if owed and not self._events.after_finish:
            if not self._told_unheard:
                log.warning("%d after_finish events are owed, and nobody listens to after_finish", len(owed))
            self._told_unheard = True
            return
        for upload_id in owed:
            self._deliver(upload_id)

    def _deliver(self, upload_id: str) -> None:
        line = self._line(upload_id)
        if not line.finished:
            line.finished = True
            self._queue(upload_id, lambda: self._deliver_owed(upload_id, line))

    async def _deliver_owed(self, upload_id: str, line: Line) -> None:
        owed = None
        try:
            owed = await self._storage.claim(upload_id)
            if owed is not None:
                await self._insist(parse_owed(owed.body), upload_id)
                await owed.done()
        except (ValueError, TypeError, KeyError):
            log.exception("upload %s: the event that is owed cannot be read", upload_id)
        except Passing as error:
            log.warning("upload %s: the event that is owed could not be delivered: %s", upload_id, error.line)
        finally:
            line.finished = False
            if owed is not None:
                await owed.close()

    async def _insist(self, event: Event, upload_id: str) -> None:
        event = replace(event, path=self._storage.path(upload_id), _take=self._take)
        left, pause = list(self._events.after_finish), FIRST_BACK_OFF
        while left := [listener for listener in left if not await self._hears(listener, event)]:
            await self._sleep(pause)
            pause = min(pause * 2, LAST_BACK_OFF)

    # -- queues

    def _event(self, name: str, upload: Upload, *, request: object = None, reason: TerminateReason | None = None) -> Event:
        """A new event. Its number rises within the upload, across restarts as well: it counts microseconds since the creation."""
        line = self._lines.get(upload.id)
        number = max((line.number if line else 0) + 1, int((self._clock() - upload.created) * 1_000_000))
        if line is not None:
            line.number = number
        return Event(name=name, id=uuid.uuid4().hex, number=number, upload=upload, request=request, reason=reason)

    def _line(self, upload_id: str) -> Line:
        return self._lines.setdefault(upload_id, Line())

    def _queue(self, upload_id: str, job: Job, *, urgent: bool = True) -> None:
        line = self._line(upload_id)
        line.jobs.append(job)
        if urgent:
            line.urgent.set()
        if line.worker is None:
            line.worker = asyncio.get_running_loop().create_task(self._work(upload_id, line))

    async def _work(self, upload_id: str, line: Line) -> None:
        try:
            while line.jobs:
                job = line.jobs.pop(0)
                if len(line.jobs) == (line.progress is not None):
                    line.urgent.clear()
                await job()
        except TusError:
            log.exception("upload %s: an event was not delivered", upload_id)
        finally:
            line.worker = None
            if self._lines.get(upload_id) is line and not line.jobs:
                del self._lines[upload_id]

    async def stop(self, timeout: float = 0.5) -> None:
        """Give deliveries a moment to end; what is owed stays owed."""
        workers = {line.worker for line in self._lines.values() if line.worker is not None}
        if not workers:
            return
        _, late = await asyncio.wait(workers, timeout=timeout)
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late)


async def _set(reached: asyncio.Event) -> None:
    reached.set()


def build_owed(event: Event) -> bytes:
    """An event as it stands in the outbox."""
    upload = event.upload
    fields = {
        "v": VERSION,
        "id": event.id,
        "number": event.number,
        "upload": {
            "id": upload.id,
            "owner": upload.owner,
            "length": upload.length,
            "metadata": upload.metadata.raw,
            "created": upload.created,
            "touched": upload.touched,
        },
    }
    return json.dumps(fields).encode()


def parse_owed(body: bytes) -> Event:
    """The event of an entry of the outbox.

    Raises:
        ValueError, KeyError, TypeError: It is none.
    """
    fields = json.loads(body)
    if fields["v"] != VERSION:
        raise ValueError("an event of another version")
    upload = fields["upload"]
    length = upload["length"]
    values = upload | {"metadata": Metadata(upload["metadata"]), "offset": length, "finished": True}
    return Event(name="after_finish", id=fields["id"], number=fields["number"], upload=Upload(**values))
