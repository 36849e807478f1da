"""Who is told what, in which order: one queue for each upload, and the outbox behind `after_finish`.

The laws: the events of one upload arrive in order, and a `before_*` is asked only when everything earlier has been delivered. Whoever observes
breaks nothing: a listener that raises or is late is logged. `after_finish` is owed, in the outbox, until every listener has had it. Memory does
not grow with the number of uploads ever seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from tusserver.engine.owed import build_owed, parse_owed
from tusserver.errors import HookFailed, Refuse, TusError
from tusserver.hooks.base import Event, Events, Listener, Listeners, Take
from tusserver.model import TerminateReason, Upload
from tusserver.protocol.headers import build_metadata
from tusserver.storage.base import Storage

PROGRESS_PAUSE = 1.0
FIRST_BACK_OFF, LAST_BACK_OFF = 1.0, 3600.0
DELIVERIES = 64  # each holds a descriptor: an outage that lasts must not use them up
NUMBERS = 4096
log = logging.getLogger("tusserver")
Job = Callable[[], Coroutine[Any, Any, None]]


@dataclass(eq=False)
class Line:
    """What is to be delivered for one upload, and how that stands.

    Args:
        upload_id: Whose line it is.
        jobs: The deliveries to come, the first in front.
        worker: Makes them one after the other; None when there are none.
        latest: Progress that waits to be told.
        rest: Runs for a second after a progress was told.
        owing: Whether `after_finish` stands in the line.
        stuck: Whether it waits there for a later try; nobody waits for it then.
        waiting: Those who go on when all that is in front of them has been delivered.
    """

    upload_id: str
    jobs: deque[Job] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None
    latest: Upload | None = None
    rest: asyncio.Task[None] | None = None
    owing: bool = False
    stuck: bool = False
    waiting: set[asyncio.Event] = field(default_factory=set)

    def let_pass(self) -> None:
        """Whoever waits goes on."""
        for passed in self.waiting:
            passed.set()


class Notifier:
    """Delivers the events of one engine.

    Args:
        events: The lists of listeners.
        storage: Has the outbox.
        timeout: Seconds that one listener may take.
        take: Moves a finished file away, for `Event.take`.
        sleep: Waits that many seconds: between two tries of `after_finish`, and between two `progress`.
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
        self._events, self._storage, self._timeout, self._take, self._sleep = events, storage, timeout, take, sleep
        self._clock = clock
        self._lines: dict[str, Line] = {}
        self._numbers: dict[str, int] = {}  # the last of each upload, the least recently used first
        self._slots = asyncio.Semaphore(DELIVERIES)
        self._told_unheard = False
        self._stopped = False

    def __len__(self) -> int:
        """How many uploads have something under way."""
        return len(self._lines)

    # -- asking

    async def before_create(self, upload: Upload, request: object) -> Upload:
        """Ask whether an upload may be made.

        Returns:
            The upload, with other metadata if a listener gave it some.

        Raises:
            Refuse: It may not.
            HookFailed: A listener failed or was late.
        """
        for listener in self._events.before_create:
            upload = await self._ask(listener, self._event("before_create", upload, request=request))
        return upload

    async def before_finish(self, upload: Upload, request: object) -> None:
        """Ask whether a full upload may become a file; progress whose time has not come is not told any more. Raises as `before_create`."""
        if (line := self._lines.get(upload.id)) is not None and line.rest is not None:
            line.latest = None
        await self._ask_all(self._events.before_finish, "before_finish", upload, request)

    async def before_terminate(self, upload: Upload, request: object) -> None:
        """Ask whether a client may delete an upload. Raises as `before_create`."""
        await self._ask_all(self._events.before_terminate, "before_terminate", upload, request)

    async def _ask_all(self, listeners: Listeners, name: str, upload: Upload, request: object) -> None:
        if not listeners:
            return
        await self._caught_up(upload.id)
        for listener in listeners:
            await self._ask(listener, self._event(name, upload, request=request))

    async def _ask(self, listener: Listener, event: Event) -> Upload:
        try:
            answer = await self._call(listener, event)
            if answer is None or event.name != "before_create":
                return event.upload
            return replace(event.upload, metadata=build_metadata(answer))
        except Refuse:
            raise
        except Exception:
            log.exception("upload %s: a listener of %s failed or was late", event.upload.id, event.name)
        raise HookFailed("the application could not decide")

    async def _call(self, listener: Listener, event: Event) -> Any:
        """Give a listener its time. That something it waited for was cancelled is its failure; that we are cancelled is not."""
        try:
            async with asyncio.timeout(self._timeout):
                return await listener(event)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("what the listener waited for was cancelled") from error

    async def _caught_up(self, upload_id: str) -> None:
        """Wait until what is queued now has been delivered; each delivery ends in time, and one that must be repeated holds nobody up."""
        line = self._lines.get(upload_id)
        if line is None or line.worker is None or line.stuck:
            return
        passed = asyncio.Event()
        line.waiting.add(passed)
        line.jobs.append(lambda: _set(passed))
        try:
            await passed.wait()
        finally:
            line.waiting.discard(passed)

    # -- telling

    def created(self, upload: Upload) -> None:
        """An upload was made."""
        self._tell(self._events.after_create, "after_create", upload)

    def terminated(self, upload: Upload, reason: TerminateReason) -> None:
        """An upload is gone, and with it the progress that still waits."""
        self._drop_progress(upload.id)
        self._tell(self._events.after_terminate, "after_terminate", upload, reason)
        self._numbers.pop(upload.id, None)

    def _tell(self, listeners: Listeners, name: str, upload: Upload, reason: TerminateReason | None = None) -> None:
        if listeners:
            event = self._event(name, upload, reason=reason)
            self._queue(self._line(upload.id), lambda: self._observe(listeners, event))

    def progress(self, upload: Upload) -> None:
        """Bytes came: told at most once a second, the latest wins."""
        if not self._events.progress or self._stopped:
            return
        line = self._line(upload.id)
        waiting, line.latest = line.latest, upload
        if waiting is None and line.rest is None:
            self._queue(line, lambda: self._tell_progress(line))

    def _drop_progress(self, upload_id: str) -> None:
        if (line := self._lines.get(upload_id)) is not None:
            line.latest = None

    async def _tell_progress(self, line: Line) -> None:
        if line.latest is None or line.rest is not None:
            return
        event, line.latest = self._event("progress", line.latest), None
        line.rest = asyncio.get_running_loop().create_task(self._rest(line))
        await self._observe(self._events.progress, event)

    async def _rest(self, line: Line) -> None:
        await self._sleep(PROGRESS_PAUSE)
        line.rest = None
        if line.latest is not None:
            self._queue(line, lambda: self._tell_progress(line))
        self._forget(line)

    async def _observe(self, listeners: Listeners, event: Event) -> None:
        for listener in listeners:
            await self._hears(listener, event)

    async def _hears(self, listener: Listener, event: Event) -> bool:
        """Whether a listener took an event without trouble."""
        try:
            await self._call(listener, event)
        except Exception:
            log.exception("upload %s: a listener of %s failed or was late", event.upload.id, event.name)
            return False
        return True

    # -- what is owed

    def owe(self, upload: Upload) -> bytes | None:
        """The body of the `after_finish` that will be owed, None when nobody listens; it is the last word: progress that still waits is not told."""
        self._drop_progress(upload.id)
        if not self._events.after_finish:
            return None
        return build_owed(self._event("after_finish", upload))

    def finished(self, upload: Upload) -> None:
        """A file is there, and its event is in the outbox: deliver it."""
        if self._events.after_finish:
            self._deliver(upload.id)

    async def recover(self) -> None:
        """Deliver what is owed and nobody delivers: since an earlier process, or a failure of the storage. Called again and again."""
        owed = await self._storage.owed()
        if self._events.after_finish:
            for upload_id in owed:
                self._deliver(upload_id)
        elif owed and not self._told_unheard:
            self._told_unheard = True
            log.warning("%d after_finish events are owed, and nobody listens to after_finish: they are left", len(owed))

    def _deliver(self, upload_id: str) -> None:
        line = self._line(upload_id)
        if not line.owing:
            line.owing = True
            self._queue(line, lambda: self._deliver_owed(line))

    async def _deliver_owed(self, line: Line) -> None:
        """Try until every listener has had the event. Between two tries nothing is held: an outage of hours costs no descriptor."""
        left, pause = list(self._events.after_finish), FIRST_BACK_OFF
        try:
            while not await self._try(line, left) and not self._stopped:
                line.stuck = True
                line.let_pass()
                await self._sleep(pause)
                pause = min(pause * 2, LAST_BACK_OFF)
        finally:
            line.owing = line.stuck = False

    async def _try(self, line: Line, left: list[Listener]) -> bool:
        """Offer the event to those who are `left`, and keep those who failed; whether there is nothing more to do."""
        if self._slots.locked():
            line.stuck = True
            line.let_pass()
        async with self._slots:
            line.stuck = False
            try:
                return await self._try_claimed(line.upload_id, left)
            except TusError as error:
                log.warning("upload %s: the event that is owed could not be delivered: %s", line.upload_id, error.line)
                return False

    async def _try_claimed(self, upload_id: str, left: list[Listener]) -> bool:
        owed = await self._storage.claim(upload_id)
        if owed is None:  # another process has it, or has delivered it
            return True
        try:
            event = self._parse(upload_id, owed.body)
            if event is None:
                return True
            left[:] = [listener for listener in left if not await self._hears(listener, event)]
            if not left:
                await owed.done()
            return not left
        finally:
            await owed.close()

    def _parse(self, upload_id: str, body: bytes) -> Event | None:
        try:
            event = parse_owed(body)
        except ValueError as error:
            log.error("upload %s: the event that is owed cannot be read, and is left: %s", upload_id, error)
            return None
        self._remember(upload_id, event.number)
        return replace(event, path=self._storage.path(upload_id), _take=self._take)

    # -- queues

    def _event(self, name: str, upload: Upload, *, request: object = None, reason: TerminateReason | None = None) -> Event:
        """A new event. It counts microseconds since the creation: so its number rises across restarts, and for who was forgotten."""
        number = int((self._clock() - upload.created) * 1_000_000)
        number = self._remember(upload.id, max(number, self._numbers.get(upload.id, 0) + 1))
        return Event(name=name, id=uuid.uuid4().hex, number=number, upload=upload, request=request, reason=reason)

    def _remember(self, upload_id: str, number: int) -> int:
        number = max(number, self._numbers.pop(upload_id, 0))
        self._numbers[upload_id] = number
        if len(self._numbers) > NUMBERS:
            del self._numbers[next(iter(self._numbers))]
        return number

    def _line(self, upload_id: str) -> Line:
        return self._lines.setdefault(upload_id, Line(upload_id))

    def _forget(self, line: Line) -> None:
        if line.worker is None and line.rest is None and self._lines.get(line.upload_id) is line:
            del self._lines[line.upload_id]

    def _queue(self, line: Line, job: Job) -> None:
        if self._stopped:
            self._forget(line)
            return
        line.jobs.append(job)
        if line.worker is None:
            line.worker = asyncio.get_running_loop().create_task(self._work(line))

    async def _work(self, line: Line) -> None:
        try:
            while line.jobs:
                try:
                    await line.jobs.popleft()()
                except Exception:
                    log.exception("upload %s: an event was not delivered", line.upload_id)
        finally:
            line.worker = None
            self._forget(line)

    async def stop(self, timeout: float = 0.5) -> None:
        """Take no more events, give running deliveries `timeout` seconds, and cancel the rest; what is owed stays owed."""
        self._stopped = True
        lines = list(self._lines.values())
        idle = {task for line in lines for task in (line.rest, line.worker if line.stuck else None) if task is not None}
        for task in idle:
            task.cancel()
        running = {line.worker for line in lines if line.worker is not None}
        late = (await asyncio.wait(running, timeout=timeout))[1] if running else set()
        for task in late:
            task.cancel()
        if ending := late | idle:
            await asyncio.wait(ending, timeout=timeout)  # a listener may have closed its ears
        for line in lines:
            line.let_pass()
        self._lines.clear()


async def _set(passed: asyncio.Event) -> None:
    passed.set()
