"""What is owed is delivered to every listener in the end, and to none twice while the process lives."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.bench import DONE, FULL, NOW, UPLOAD, Bench, errors, failing, hang, no, waiting
from tests.engine.outbox import settle, until
from tusserver.engine import notify
from tusserver.hooks.base import Event, Listener


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
    stopping = asyncio.ensure_future(bench.notifier.stop(timeout=60))
    await settle()
    assert stopping.done(), "nothing runs that is worth waiting for"
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


async def test_a_delivery_that_fails_while_stopping_is_not_waited_for_again(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.events.after_finish.append(waiting(gate, no))
    bench.finish()
    await settle()
    stopping = asyncio.ensure_future(bench.notifier.stop(timeout=60))
    await settle()
    gate.set()
    await settle()
    assert stopping.done()
    assert not bench.naps.asked
    assert list(bench.outbox.entries) == [UPLOAD.id]


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


async def test_numbers_go_on_from_what_an_earlier_process_owed(bench: Bench) -> None:
    bench.listen("after_finish", "before_terminate")
    bench.now = NOW + 5
    body = bench.notifier.owe(FULL)
    assert body is not None
    bench.outbox.entries[UPLOAD.id] = body
    bench.make()
    bench.now = NOW
    await bench.notifier.recover()
    await bench.notifier.before_terminate(DONE, None)
    assert bench.names == ["after_finish", "before_terminate"]
    assert bench.seen[0].number < bench.seen[1].number


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
    async def unhurried(event: Event) -> None:
        await asyncio.sleep(0)
        await listener(event)

    listener = failing(500, bench.note)
    bench.events.after_finish.append(unhurried)
    for number in range(500):
        upload = replace(FULL, id=f"{number:032x}")
        body = bench.notifier.owe(upload)
        assert body is not None
        bench.outbox.entries[upload.id] = body
    await bench.notifier.recover()
    await until(lambda: bench.naps.asleep == 500)
    assert not bench.outbox.held
    assert bench.outbox.most_held == notify.DELIVERIES
    await bench.naps.wake()
    await until(lambda: len(bench.seen) == 500)
