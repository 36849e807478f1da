"""Power cuts, modelled: the changes of a random life, cut off anywhere, in any of the ways that `trace.py` allows; and a second cut in the repair.

The first start is part of the life: what it makes is not safe by itself. `--tries N` makes N cuts for each durability.
"""

from __future__ import annotations

import copy
import random
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.reliability.faults import FAULTS
from tests.reliability.life import ABSENT, FINISHED, UNFINISHED, Life, Story
from tests.reliability.rubble import Rubble
from tests.reliability.test_crash_points import empty
from tests.reliability.trace import Recorder, Trace
from tests.reliability.verdict import judge, look, survey
from tests.support.tries import Tries
from tusserver.errors import TusError
from tusserver.storage.ground import Durability

pytestmark = pytest.mark.usefixtures("two_buckets")
CUTS_A_LIFE = 25
CAUGHT = ("dropped_fsync", "folder_not_synced", "name_not_synced", "rename_before_write", "size_trusted_after_reboot", "retried_fsync")
STEPS, UPLOADS = 14, 3
Act = Callable[[Life, Story], Awaitable[None]]


async def marked(life: Life, story: Story) -> None:
    """PATCH with a mark beside it."""
    await life.append(story, life.dice.randrange(1, 9000), mark=True)


async def appended(life: Life, story: Story) -> None:
    """PATCH."""
    await life.append(story, life.dice.randrange(1, 9000))


ACTS: dict[str, list[Act]] = {
    ABSENT: [Life.create],
    UNFINISHED: [
        *(appended, marked, marked, Life.overflow, Life.lose, Life.finish, Life.finish, Life.finish),
        *(Life.finish_in_vain, Life.delete, Life.expire, Life.sweep),
    ],
    FINISHED: [Life.delete, Life.take, Life.sweep],
}
"""What may be done in each state; a new feature adds its acts."""


async def live(root: Path, durability: Durability, dice: random.Random) -> Recorder:
    """A random life of some uploads, from the first start on."""
    disk = Recorder(root)
    stories = [
        Story(f"00{number:030x}", dice.randbytes(dice.choice((0, 1, 5000, 20_000, 60_000))), deferred=dice.random() < 0.3)
        for number in range(UPLOADS)
    ]
    life = Life(root, disk, durability, stories, dice=dice)
    await life.start()
    gone: set[str] = set()
    for _ in range(STEPS):
        story = dice.choice(stories)
        (state,) = story.kill.states
        if state != ABSENT or story.id not in gone:
            gone.add(story.id)
            await dice.choice(ACTS[state])(life, story)
    await life.stop()
    return disk


async def cut(root: Path, trace: Trace, durability: Durability, dice: random.Random) -> Counter[str]:
    """Cut the power somewhere in a life, perhaps once more while that is mended, and look at what is left."""
    stories = fall(root / "first", trace, dice)
    if dice.random() < 0.3:
        again = await mend(root / "first", stories, durability, dice)
        stories = fall(root / "second", again, dice)
        return await judge(root / "second", stories, durability, power=True, boot="third")
    return await judge(root / "first", stories, durability, power=True, boot="third")


def fall(root: Path, trace: Trace, dice: random.Random) -> list[Story]:
    """What a power cut at some moment leaves in a new place, and what had been said until then."""
    position = dice.randrange(trace.told[0][0], len(trace.changes) + 1)
    root.mkdir(parents=True)
    Rubble(trace.changes[:position], dice).rebuild(root)
    stories = copy.deepcopy(trace.last_told(position))
    assert isinstance(stories, list)
    return stories


async def mend(root: Path, stories: list[Story], durability: Durability, dice: random.Random) -> Trace:
    """The start after the first cut."""
    disk = Recorder(root)
    life = Life(root, disk, durability, stories, boot="second")
    await life.start()
    if life.durable:
        for story in stories:
            if await look(life, story, power=True) != ABSENT:
                await life.repair(story)
        await life.sweep()
    else:
        await survey(life)
    await life.stop()
    return disk.trace


async def power_cuts(memory: Path, durability: Durability, dice: random.Random, count: int) -> Counter[str]:
    """So many cuts, in as many lives as that takes."""
    seen: Counter[str] = Counter()
    for number in range(count):
        try:
            if number % CUTS_A_LIFE == 0:
                disk = await live(empty(memory / f"life{number}"), durability, dice)
                shutil.rmtree(memory / f"life{number}")
            seen += await cut(memory / "cut", disk.trace, durability, dice)
        except (AssertionError, TusError) as error:
            raise AssertionError(f"durability {durability}, cut {number}: {error}") from error
        shutil.rmtree(memory / "cut")
    return seen


@pytest.mark.parametrize("durability", ["finish", "patch", "none"])
async def test_a_power_cut_costs_what_the_durability_says(memory: Path, durability: Durability, tries: Tries) -> None:
    count = tries.count(300)
    seen = await power_cuts(memory, durability, tries.dice, count)
    tries.tell(f"{count} power cuts, then {dict(seen)}; 0 lost, 0 wrong")


@pytest.mark.parametrize("fault", CAUGHT)
async def test_a_fault_that_a_power_cut_shows_is_found(
    memory: Path, fault: str, tries: Tries, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAULTS[fault](monkeypatch.setattr)
    with pytest.raises(AssertionError, match="durability finish, cut"):
        await power_cuts(memory, "finish", tries.dice, 5000)
    tries.tell("found")
