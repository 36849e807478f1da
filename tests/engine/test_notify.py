"""Events arrive in order, observers break nothing, and what is owed is delivered to everybody in the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engine.outbox import Naps, Outbox, settle, until
from tusserver.engine import notify
from tusserver.engine.notify import Notifier
from tusserver.errors import HookFailed, Refuse
from tusserver.hooks.base import Event, Events, Listener
from tusserver.model import Upload

NOW = 1_000.0
UPLOAD = Upload(id="a" * 32, length=10, created=NOW, touched=NOW)
FULL = UPLOAD.at(10, NOW)
DONE = replace(FULL, finished=True)
ASKED = ("before_create", "before_finish", "before_terminate")
TOLD = ("after_create", "progress", "after_terminate")


class Bench:
    """A notifier with everything around it that a test may want to turn."""

    def __init__(self) -> None:
        self.events, self.outbox, self.naps = Events(), Outbox(), Naps()
        self.seen: list[Event] = []
        self.now = NOW
        self.taken: list[tuple[str, Path]] = []
        self.notifier = self.make()

    def make(self, timeout: float = 60.0) -> Notifier:
        """A notifier on the same outbox, as after a restart."""
        self.notifier = Notifier(self.events, self.outbox, timeout=timeout, take=self._take, sleep=self.naps.sleep, clock=lambda: self.now)
        return self.notifier

    async def _take(self, upload_id: str, target: Path) -> bool:
        self.taken.append((upload_id, target))
        return True

    def listen(self, *names: str) -> None:
        """Note these events."""
        for name in names:
            getattr(self.events, name).append(self.note)

    async def note(self, event: Event) -> None:
        """The listener that notes."""
        self.seen.append(event)

    @property
    def names(self) -> list[str]:
        """What was noted."""
        return [event.name for event in self.seen]

    def finish(self, upload: Upload = FULL) -> None:
        """What the engine does when a file is there."""
        body = self.notifier.owe(upload)
        if body is not None:
            self.outbox.entries[upload.id] = body
        self.notifier.finished(replace(upload, finished=True))

    def ask(self, name: str) -> Awaitable[Upload | None]:
        """What the engine does before `name`."""
        method: Callable[[Upload, object], Awaitable[Upload | None]] = getattr(self.notifier, name)
        return method(FULL, None)

    def tell(self, name: str) -> None:
        """What the engine does after `name`."""
        match name:
            case "after_create":
                self.notifier.created(UPLOAD)
            case "progress":
                self.notifier.progress(UPLOAD)
            case _:
                self.notifier.terminated(UPLOAD, "client")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Nothing is left running, claimed or in memory when a test has ended."""
    bench = Bench()
    yield bench
    await bench.notifier.stop(timeout=1)
    assert len(bench.notifier) == 0
    assert not bench.outbox.held
    assert not [task for task in asyncio.all_tasks() if "Notifier." in repr(task)]


def failing(times: int, then: Listener) -> Listener:
    """A listener that raises at first."""
    left = times

    async def listener(event: Event) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise LookupError("the database is away")
        await then(event)

    return listener


def waiting(gate: asyncio.Event, then: Listener) -> Listener:
    """A listener that takes its time."""

    async def listener(event: Event) -> None:
        await gate.wait()
        await then(event)

    return listener


async def hang(event: Event) -> None:
    """A listener that never returns."""
    await asyncio.Event().wait()


async def cancelled_inside(event: Event) -> None:
    """A listener that waits for something which somebody else cancels."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def no(event: Event) -> None:
    """A listener that refuses."""
    raise Refuse(409, "not today")


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged as an error, which must have a traceback."""
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert all(record.name == "tusserver" and record.exc_info for record in records)
    return records


# -- asking


async def test_a_request_is_handed_to_who_is_asked(bench: Bench) -> None:
    bench.listen("before_create")
    request = object()
    assert await bench.notifier.before_create(UPLOAD, request) == UPLOAD
    assert [(event.upload, event.request, event.path) for event in bench.seen] == [(UPLOAD, request, None)]


async def test_the_next_listener_sees_the_metadata_that_the_one_before_gave(bench: Bench) -> None:
    async def rename(event: Event) -> dict[str, str | bytes]:
        return {"name": event.upload.metadata.get("name", "") + "ż", "raw": b"\xff\x00", "empty": ""}

    bench.events.before_create += [rename, bench.note, rename]
    upload = await bench.notifier.before_create(UPLOAD, None)
    assert bench.seen[0].upload.metadata["name"] == "ż"
    assert upload.metadata["name"] == "żż"
    assert upload.metadata.raw == "name xbzFvA==,raw /wA=,empty"


@pytest.mark.parametrize("name", ASKED)
async def test_a_refusal_passes_as_it_is_and_nobody_else_is_asked(bench: Bench, name: str, caplog: pytest.LogCaptureFixture) -> None:
    getattr(bench.events, name).append(no)
    bench.listen(name)
    with pytest.raises(Refuse) as caught:
        await bench.ask(name)
    assert (caught.value.status, caught.value.line) == (409, "not today")
    assert not bench.seen
    assert not caplog.records


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("listener", [failing(100, hang), hang, cancelled_inside], ids=["raises", "is late", "is cancelled"])
async def test_a_listener_that_fails_is_trouble_that_passes(
    bench: Bench, name: str, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(bench.events, name).append(listener)
    bench.make(timeout=0.01)
    with pytest.raises(HookFailed) as caught:
        await bench.ask(name)
    assert caught.value.__context__ is None
    assert "database" not in caught.value.line
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("answer", [{"two words": "x"}, {"": "x"}, {"key": 7}, 7])
async def test_metadata_that_cannot_be_sent_is_the_listeners_failure(
    bench: Bench, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def listener(event: Event) -> Any:
        return answer

    bench.events.before_create.append(listener)
    with pytest.raises(HookFailed):
        await bench.notifier.before_create(UPLOAD, None)
    assert len(errors(caplog)) == 1


async def test_whoever_waits_for_an_answer_can_be_cancelled(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.events.before_finish.append(hang)
    asking = asyncio.ensure_future(bench.ask("before_finish"))
    await settle()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not caplog.records


@pytest.mark.parametrize("name", ["before_finish", "before_terminate"])
async def test_nobody_is_asked_before_everything_earlier_was_delivered(bench: Bench, name: str) -> None:
    gate = asyncio.Event()
    bench.events.after_create.append(waiting(gate, bench.note))
    bench.listen("progress", name)
    bench.notifier.created(UPLOAD)
    bench.notifier.progress(UPLOAD)
    asking = asyncio.ensure_future(bench.ask(name))
    await settle()
    assert bench.names == []
    gate.set()
    await asking
    assert bench.names == ["after_create", "progress", name]


async def test_a_late_observer_holds_a_question_up_no_longer_than_its_time(bench: Bench) -> None:
    bench.events.after_create.append(hang)
    bench.listen("after_create", "before_finish")
    bench.make(timeout=0.01)
    bench.notifier.created(UPLOAD)
    await bench.ask("before_finish")
    assert bench.names == ["after_create", "before_finish"]


async def test_an_after_finish_that_must_be_repeated_holds_no_question_up(bench: Bench) -> None:
    bench.events.after_finish.append(failing(100, bench.note))
    bench.listen("before_terminate")
    bench.finish()
    await bench.notifier.before_terminate(DONE, None)
    await until(lambda: bench.naps.asleep)
    await bench.notifier.before_terminate(DONE, None)
    assert bench.names == ["before_terminate", "before_terminate"]


# -- telling


async def test_the_events_of_one_upload_arrive_in_order_with_rising_numbers(bench: Bench) -> None:
    bench.listen(*ASKED, *TOLD, "after_finish")
    await bench.notifier.before_create(UPLOAD, None)
    bench.notifier.created(UPLOAD)
    bench.notifier.progress(UPLOAD)
    await bench.notifier.before_finish(FULL, None)
    bench.finish()
    await bench.notifier.before_terminate(DONE, None)
    bench.notifier.terminated(DONE, "client")
    await settle()
    assert bench.names == [
        "before_create", "after_create", "progress", "before_finish", "after_finish", "before_terminate", "after_terminate"
    ]  # fmt: skip
    numbers = [event.number for event in bench.seen]
    assert numbers == sorted(set(numbers))
    assert len({event.id for event in bench.seen}) == len(bench.seen)
    assert bench.seen[-1].reason == "client"


async def test_numbers_rise_across_a_restart(bench: Bench) -> None:
    bench.listen("after_create", "before_finish")
    bench.now = NOW + 5
    bench.notifier.created(UPLOAD)
    await settle()
    bench.make()
    bench.now = NOW + 6
    await bench.ask("before_finish")
    assert bench.seen[0].number < bench.seen[1].number


async def test_numbers_rise_when_the_clock_is_set_back(bench: Bench) -> None:
    bench.listen("after_create", "before_finish")
    bench.now = NOW + 5
    bench.notifier.created(UPLOAD)
    bench.now = NOW - 5
    await bench.ask("before_finish")
    assert bench.seen[0].number < bench.seen[1].number


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("listener", [failing(1, hang), hang, cancelled_inside, no], ids=["raises", "is late", "is cancelled", "refuses"])
async def test_an_observer_that_fails_is_logged_and_skipped(
    bench: Bench, name: str, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(bench.events, name).append(listener)
    bench.listen(name)
    bench.make(timeout=0.01)
    bench.tell(name)
    await until(lambda: bench.seen)
    assert bench.names == [name]
    assert len(errors(caplog)) == 1


async def test_one_slow_upload_does_not_hold_up_another(bench: Bench) -> None:
    async def slow(event: Event) -> None:
        await (hang(event) if event.upload.id == UPLOAD.id else bench.note(event))

    bench.events.after_create.append(slow)
    bench.notifier.created(UPLOAD)
    bench.notifier.created(replace(UPLOAD, id="b" * 32))
    await settle()
    assert [event.upload.id for event in bench.seen] == ["b" * 32]


@pytest.mark.parametrize("name", TOLD)
async def test_an_event_that_nobody_listens_to_costs_nothing(bench: Bench, name: str) -> None:
    before = asyncio.all_tasks()
    bench.tell(name)
    assert len(bench.notifier) == 0
    assert asyncio.all_tasks() == before


async def test_memory_does_not_grow_with_the_uploads_that_were_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "NUMBERS", 10)
    bench.listen("after_create", "progress")
    for number in range(50):
        upload = replace(UPLOAD, id=f"{number:032x}")
        bench.notifier.created(upload)
        bench.notifier.progress(upload)
    await settle()
    await bench.naps.wake()
    assert len(bench.seen) == 100
    assert len(bench.notifier) == 0
    assert len(bench.notifier._numbers) == 10


async def test_an_upload_that_is_gone_leaves_nothing_in_memory(bench: Bench) -> None:
    bench.listen("after_create", "after_terminate")
    bench.notifier.created(UPLOAD)
    bench.notifier.terminated(UPLOAD, "expired")
    await settle()
    assert bench.names == ["after_create", "after_terminate"]
    assert not bench.notifier._numbers
    assert len(bench.notifier) == 0


# -- progress


def offsets(bench: Bench) -> list[int]:
    """Of the progress that was told."""
    return [event.upload.offset for event in bench.seen if event.name == "progress"]


async def test_of_the_progress_within_a_second_the_latest_wins(bench: Bench) -> None:
    bench.listen("progress")
    for offset in range(1, 5):
        bench.notifier.progress(UPLOAD.at(offset, NOW))
        await settle()
    assert offsets(bench) == [1]
    await bench.naps.wake()
    assert offsets(bench) == [1, 4]
    await bench.naps.wake()
    assert offsets(bench) == [1, 4]
    assert set(bench.naps.asked) == {notify.PROGRESS_PAUSE}


async def test_progress_is_not_queued_behind_itself(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.events.progress.append(waiting(gate, bench.note))
    for offset in range(1, 8):
        bench.notifier.progress(UPLOAD.at(offset, NOW))
        await settle()
        await bench.naps.wake()
    gate.set()
    await settle()
    assert offsets(bench) == [1, 7]


async def test_another_event_does_not_bring_progress_forward(bench: Bench) -> None:
    bench.listen("progress", "before_terminate")
    bench.notifier.progress(UPLOAD.at(1, NOW))
    await settle()
    bench.notifier.progress(UPLOAD.at(2, NOW))
    await bench.ask("before_terminate")
    await settle()
    assert bench.names == ["progress", "before_terminate"]
    await bench.naps.wake()
    assert offsets(bench) == [1, 2]


@pytest.mark.parametrize("end", ["finish", "terminate"])
async def test_no_progress_is_told_after_the_end(bench: Bench, end: str) -> None:
    bench.listen("progress", "after_finish", "after_terminate")
    bench.notifier.progress(UPLOAD.at(1, NOW))
    await settle()
    bench.notifier.progress(UPLOAD.at(2, NOW))
    if end == "finish":
        await bench.ask("before_finish")
        bench.finish()
    else:
        bench.notifier.terminated(UPLOAD, "client")
    await settle()
    await bench.naps.wake()
    assert bench.names == ["progress", f"after_{end}"]


# -- what is owed


async def test_a_finished_file_comes_with_its_path_and_can_be_taken(bench: Bench) -> None:
    async def listener(event: Event) -> None:
        assert await event.take("/srv/a")
        await bench.note(event)

    bench.events.after_finish.append(listener)
    bench.finish()
    await settle()
    assert bench.seen[0].upload == DONE
    assert bench.seen[0].path == Path("/data/files") / UPLOAD.id / "content"
    assert bench.taken == [(UPLOAD.id, Path("/srv/a"))]
    assert not bench.outbox.entries


async def test_nothing_is_owed_when_nobody_listens(bench: Bench) -> None:
    bench.listen("after_create", "progress")
    bench.finish()
    assert not bench.outbox.entries
    assert len(bench.notifier) == 0


async def test_only_the_listener_that_failed_is_told_again_with_growing_pauses(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def named(name: str, failures: int) -> Listener:
        async def heard(event: Event) -> None:
            await bench.note(event)
            calls.append(name)

        return failing(failures, heard)

    bench.events.after_finish += [named("a", 0), named("b", 14), named("c", 1)]
    bench.finish()
    await settle()
    assert calls == ["a"]
    await bench.naps.wake()
    assert calls == ["a", "c"]
    for _ in range(20):
        await bench.naps.wake()
    assert calls == ["a", "c", "b"]
    assert bench.naps.asked == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]
    assert len({(event.id, event.number) for event in bench.seen}) == 1
    assert not bench.outbox.entries
    assert len(errors(caplog)) == 15


async def test_a_listener_that_is_late_is_told_again(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.events.after_finish.append(waiting(gate, bench.note))
    bench.make(timeout=0.01)
    bench.finish()
    await until(lambda: bench.naps.asleep)
    assert list(bench.outbox.entries) == [UPLOAD.id]
    gate.set()
    await bench.naps.wake()
    assert bench.names == ["after_finish"]
    assert not bench.outbox.entries


async def test_an_entry_that_could_not_be_removed_is_removed_later_and_nobody_told_twice(bench: Bench) -> None:
    bench.listen("after_finish")
    bench.outbox.failures_of_done = 2
    bench.finish()
    for _ in range(3):
        await settle()
        await bench.naps.wake()
    assert bench.names == ["after_finish"]
    assert not bench.outbox.entries


async def test_what_comes_after_a_finish_waits_for_it(bench: Bench) -> None:
    bench.events.after_finish.append(failing(1, bench.note))
    bench.listen("after_terminate")
    bench.finish()
    bench.notifier.terminated(DONE, "client")
    await settle()
    assert bench.names == []
    await bench.naps.wake()
    assert bench.names == ["after_finish", "after_terminate"]


async def test_stopping_during_the_back_off_leaves_the_event_owed_to_the_next_process(bench: Bench) -> None:
    bench.events.after_finish.append(failing(1, bench.note))
    bench.finish()
    await settle()
    body = bench.outbox.entries[UPLOAD.id]
    await bench.notifier.stop()
    assert bench.outbox.entries == {UPLOAD.id: body}
    assert not bench.outbox.held
    await bench.make().recover()
    await settle()
    assert bench.names == ["after_finish"]
    assert bench.seen[0].upload == DONE
    assert not bench.outbox.entries


async def test_stopping_cancels_a_delivery_that_does_not_end_and_leaves_it_owed(bench: Bench) -> None:
    bench.events.after_finish.append(hang)
    bench.finish()
    await settle()
    await bench.notifier.stop(timeout=0.01)
    assert list(bench.outbox.entries) == [UPLOAD.id]


async def test_stopping_waits_for_a_delivery_that_ends(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.events.after_finish.append(waiting(gate, bench.note))
    bench.finish()
    await settle()
    stopping = asyncio.ensure_future(bench.notifier.stop(timeout=60))
    await settle()
    assert not stopping.done()
    gate.set()
    await stopping
    assert bench.names == ["after_finish"]
    assert not bench.outbox.entries


async def test_after_the_stop_nothing_is_delivered_and_a_finish_stays_owed(bench: Bench) -> None:
    bench.listen("after_create", "progress", "after_finish")
    await bench.notifier.stop()
    bench.notifier.created(UPLOAD)
    bench.notifier.progress(UPLOAD)
    bench.finish()
    await settle()
    assert bench.names == []
    assert list(bench.outbox.entries) == [UPLOAD.id]


async def test_whoever_waits_to_ask_is_not_forgotten_by_a_stop(bench: Bench) -> None:
    bench.events.after_create.append(hang)
    bench.listen("before_finish")
    bench.notifier.created(UPLOAD)
    asking = asyncio.ensure_future(bench.ask("before_finish"))
    await settle()
    await bench.notifier.stop(timeout=0.01)
    await asking
    assert bench.names == ["before_finish"]


# -- recovery


async def test_recovery_delivers_nothing_that_is_being_delivered(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.events.after_finish.append(waiting(gate, bench.note))
    bench.finish()
    await bench.notifier.recover()
    await settle()
    await bench.notifier.recover()
    gate.set()
    await settle()
    await bench.notifier.recover()
    await settle()
    assert bench.names == ["after_finish"]


async def test_recovery_repeats_nothing_that_waits_for_its_next_try(bench: Bench) -> None:
    bench.events.after_finish.append(failing(1, bench.note))
    bench.listen("after_finish")
    bench.finish()
    await settle()
    await bench.notifier.recover()
    await settle()
    assert bench.names == ["after_finish"]
    await bench.naps.wake()
    assert bench.names == ["after_finish", "after_finish"]
    assert not bench.outbox.entries


async def test_an_entry_that_another_process_holds_is_left_to_it(bench: Bench) -> None:
    bench.listen("after_finish")
    body = bench.notifier.owe(FULL)
    assert body is not None
    bench.outbox.entries[UPLOAD.id] = body
    other = await bench.outbox.claim(UPLOAD.id)
    assert other is not None
    await bench.notifier.recover()
    await settle()
    assert bench.names == []
    await other.close()
    await bench.notifier.recover()
    await settle()
    assert bench.names == ["after_finish"]


async def test_what_is_owed_is_left_when_nobody_listens_any_more_and_that_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.outbox.entries = {"a" * 32: b"x", "b" * 32: b"y"}
    await bench.notifier.recover()
    await bench.notifier.recover()
    assert len(bench.outbox.entries) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "2 after_finish events are owed, and nobody listens to after_finish: they are left"
    ]


async def test_an_entry_that_cannot_be_read_is_named_and_left(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.listen("after_finish")
    bench.outbox.entries[UPLOAD.id] = b"{"
    await bench.notifier.recover()
    await settle()
    assert bench.names == []
    assert bench.outbox.entries == {UPLOAD.id: b"{"}
    assert [UPLOAD.id in record.getMessage() for record in caplog.records] == [True]


async def test_an_outage_uses_up_no_descriptors(bench: Bench) -> None:
    bench.events.after_finish.append(failing(500, bench.note))
    for number in range(500):
        upload = replace(FULL, id=f"{number:032x}")
        body = bench.notifier.owe(upload)
        assert body is not None
        bench.outbox.entries[upload.id] = body
    await bench.notifier.recover()
    await until(lambda: bench.naps.asleep == 500)
    assert not bench.outbox.held
    assert bench.outbox.most_held <= notify.DELIVERIES
    await bench.naps.wake()
    await until(lambda: len(bench.seen) == 500)
