"""A clock that jumps: a last byte in the future counts as received now, one in the past by the clock of then.

The law: what received a byte within the setting, by the clock of then and of now, is there; so is what is being written to, and every finished file.
"""

from __future__ import annotations

import os

import pytest

from tests.behaviour.odd import Odd

YEAR, WEEK = 365 * 86400.0, 7 * 86400.0


@pytest.fixture
def clock(odd: Odd) -> Odd:
    """The same, with a clock that the test sets; `now` is what it says."""
    odd.server.uploads.engine._clock = lambda: odd.now
    return odd


def receive(odd: Odd, seconds: float) -> None:
    """The last byte came so long after the start, by the clock of then."""
    os.utime(odd.place(odd.unfinished) / "content", (odd.now + seconds,) * 2)


async def is_there(odd: Odd, after: float) -> bool:
    """Whether the unfinished upload is there, by HEAD and after a round of the sweeper, when the clock says so much."""
    began, odd.now = odd.now, odd.now + after
    status = (await odd.server.ask("HEAD", odd.unfinished)).status
    await odd.sweep()
    assert (await odd.server.ask("HEAD", odd.unfinished)).status == status
    assert await odd.server.offset(odd.finished) == 4, "a finished file never expires"
    odd.now = began
    return status == 200


async def test_a_byte_from_a_time_that_has_not_come_keeps_an_upload(clock: Odd) -> None:
    receive(clock, YEAR)  # the clock was a year ahead, and was set right
    for after in (0, WEEK + 60, YEAR - 60, YEAR + WEEK - 60):
        assert await is_there(clock, after), f"gone after {after} s"
    assert not await is_there(clock, YEAR + WEEK + 60)


async def test_a_clock_that_goes_back_a_year_lets_nothing_expire(clock: Odd) -> None:
    receive(clock, 0)
    for after in (-YEAR, -YEAR + WEEK + 60, -60, WEEK - 60):
        assert await is_there(clock, after), f"gone after {after} s"


async def test_what_came_in_time_by_the_clock_of_then_stays_after_each_jump(clock: Odd) -> None:
    for jump in (YEAR, -YEAR, -YEAR, YEAR):
        clock.now += jump
        receive(clock, 0)
        assert await is_there(clock, 0)
        assert await is_there(clock, WEEK - 60)
    assert not await is_there(clock, WEEK + 60)


async def test_an_upload_that_is_being_written_to_outlives_any_jump(clock: Odd) -> None:
    wire = await clock.server.open()
    await wire.patch(clock.unfinished, 4, 996, b"x" * 500)
    await clock.server.reaches(clock.unfinished, 504)
    for jump in (YEAR, -2 * YEAR):
        assert await is_there(clock, jump)
    await wire.send(b"x" * 496)
    assert (await wire.answer()).offset == 1000
