"""Events arrive in order, and observers break nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.engine.bench import ASKED, DONE, FULL, NOW, TOLD, UPLOAD, Bench, cancelled_inside, errors, failing, hang, no, waiting
from tests.engine.outbox import settle, until
from tusserver.engine import notify
from tusserver.errors import HookFailed, Refuse
from tusserver.hooks.base import Event, Listener

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


async def test_an_after_finish_that_waits_for_others_holds_no_question_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "DELIVERIES", 1)
    bench.events.after_finish.append(hang)
    bench.listen("before_terminate")
    bench.make()
    bench.finish(replace(FULL, id="b" * 32))
    await settle()
    bench.finish()
    await bench.notifier.before_terminate(DONE, None)
    assert bench.names == ["before_terminate"]
    await bench.notifier.stop(timeout=0.01)


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


async def test_progress_whose_time_has_not_come_is_not_told_while_the_finish_is_asked_for(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.events.before_finish.append(waiting(gate, bench.note))
    bench.listen("progress")
    bench.notifier.progress(UPLOAD.at(1, NOW))
    await settle()
    bench.notifier.progress(FULL)
    asking = asyncio.ensure_future(bench.ask("before_finish"))
    await settle()
    await bench.naps.wake()
    assert offsets(bench) == [1]
    gate.set()
    await asking


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
