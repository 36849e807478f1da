"""What every kind of lock must do: a kind's test derives from `LocksContract` and gives it `locks` with an upload named `ID` in them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from tusserver.errors import Locked
from tusserver.locks.base import Locks

ID = "0123456789abcdef" * 2


async def begun(work: Awaitable[object]) -> asyncio.Task[object]:
    """Start work, and let it get to where it waits."""
    task = asyncio.ensure_future(work)
    for _ in range(3):
        await asyncio.sleep(0.02)
    assert isinstance(task, asyncio.Task)
    return task


class LocksContract:
    """The suite."""

    async def test_a_free_lock_is_got_and_a_held_one_is_not(self, locks: Locks) -> None:
        hold = await locks.acquire(ID, wait=0)
        with pytest.raises(Locked):
            await locks.acquire(ID, wait=0)
        await hold.release()
        await (await locks.acquire(ID, wait=0)).release()

    async def test_letting_go_twice_is_letting_go_once(self, locks: Locks) -> None:
        hold = await locks.acquire(ID)
        await hold.release()
        other = await locks.acquire(ID)
        await hold.release()
        with pytest.raises(Locked):
            await locks.acquire(ID, wait=0)
        await other.release()

    async def test_a_contender_makes_the_holder_stop_and_gets_the_lock_when_it_lets_go(self, locks: Locks) -> None:
        stopped: list[str] = []
        hold = await locks.acquire(ID, stop=stopped.append)
        waiting = await begun(locks.acquire(ID, purpose="delete"))
        assert stopped == ["delete"]
        assert not waiting.done()
        await hold.release()
        await (await waiting).release()  # type: ignore[attr-defined]  # a Hold

    async def test_who_tries_without_waiting_stops_nobody(self, locks: Locks) -> None:
        stopped: list[str] = []
        async with locks.hold(ID, stop=stopped.append):
            with pytest.raises(Locked):
                await locks.acquire(ID, wait=0)
        assert stopped == []

    async def test_an_older_contender_is_refused_when_a_newer_one_comes(self, locks: Locks) -> None:
        hold = await locks.acquire(ID)
        older = await begun(locks.acquire(ID))
        newer = await begun(locks.acquire(ID))
        with pytest.raises(Locked):
            await older
        await hold.release()
        await (await newer).release()  # type: ignore[attr-defined]  # a Hold

    async def test_a_holder_that_does_not_let_go_is_waited_for_no_longer_than_said(self, locks: Locks) -> None:
        async with locks.hold(ID):
            with pytest.raises(Locked):
                await locks.acquire(ID, wait=0.05)

    async def test_a_holder_that_only_settles_is_waited_for(self, locks: Locks) -> None:
        hold = await locks.acquire(ID)
        waiting = await begun(locks.acquire(ID, wait=0.1))
        hold.settling = True
        await asyncio.sleep(0.2)
        await hold.release()
        await (await waiting).release()  # type: ignore[attr-defined]  # a Hold

    async def test_nobody_comes_between_the_holder_and_its_contender(self, locks: Locks) -> None:
        hold = await locks.acquire(ID)
        waiting = await begun(locks.acquire(ID))
        await hold.release()
        with pytest.raises(Locked):
            await locks.acquire(ID, wait=0)
        await (await waiting).release()  # type: ignore[attr-defined]  # a Hold

    async def test_a_new_holder_stops_at_once_for_who_came_while_it_was_given_the_lock(self, locks: Locks) -> None:
        stopped: list[str] = []
        hold = await locks.acquire(ID)
        waiting = await begun(locks.acquire(ID, stop=stopped.append))
        await hold.release()
        newest = asyncio.ensure_future(locks.acquire(ID))
        await asyncio.sleep(0)
        second = await waiting
        while not stopped and not newest.done():
            await asyncio.sleep(0.01)
        await second.release()  # type: ignore[attr-defined]  # a Hold
        await (await newest).release()

    async def test_a_contender_that_is_cancelled_leaves_nothing_behind(self, locks: Locks) -> None:
        hold = await locks.acquire(ID)
        waiting = await begun(locks.acquire(ID))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await hold.release()
        await (await locks.acquire(ID, wait=0)).release()

    async def test_a_cancellation_at_the_moment_of_the_hand_over_loses_no_lock(self, locks: Locks) -> None:
        hold = await locks.acquire(ID)
        waiting = await begun(locks.acquire(ID))
        await hold.release()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await (await locks.acquire(ID, wait=1)).release()

    async def test_closing_refuses_who_waits_and_who_comes_but_not_who_only_tries(self, locks: Locks) -> None:
        hold = await locks.acquire(ID)
        waiting = await begun(locks.acquire(ID))
        locks.close()
        with pytest.raises(Locked):
            await waiting
        await hold.release()
        with pytest.raises(Locked):
            await locks.acquire(ID)
        await (await locks.acquire(ID, wait=0)).release()

    async def test_locks_of_two_uploads_have_nothing_to_do_with_each_other(self, locks: Locks) -> None:
        async with locks.hold(ID), locks.hold(ID[::-1]):
            pass
