"""The process dies just before each change of disk, and half-way through each write: who comes after sees what the model allows.

Each scene is an operation of DESIGN's table, on an upload that has come so far. A new feature adds its scenes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.reliability.faults import FAULTS
from tests.reliability.life import Life, Story
from tests.reliability.trace import Died, Recorder
from tests.reliability.verdict import judge
from tests.support.tries import Tries
from tusserver.errors import TusError
from tusserver.storage.ground import Durability

Act = Callable[[Life, Story], Awaitable[None]]
ID = "00" + "a" * 30
DATA = random.Random(1).randbytes(10_000)


async def create_deferred(life: Life, story: Story) -> None:
    """POST without a length."""
    story.deferred = True
    await life.create(story)


async def append_with_mark(life: Life, story: Story) -> None:
    """PATCH with a mark beside it."""
    await life.append(story, mark=True)


async def nothing(life: Life, story: Story) -> None:
    """The start alone."""


async def take_elsewhere(life: Life, story: Story) -> None:
    """The application takes the file to another file system: it is copied."""
    rename = life.disk.rename

    def another(name: str, parent: int, target: str, target_parent: int) -> None:
        if (name, target) == ("content", story.id):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(name, parent, target, target_parent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(life.disk, "rename", another)
        await life.take(story)


async def delete_on_a_full_disk(life: Life, story: Story) -> None:
    """There is no room for another name in the trash until the content is cut."""
    rename, full = life.disk.rename, [True]

    def once(name: str, parent: int, target: str, target_parent: int) -> None:
        if name == story.id and full and full.pop():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(name, parent, target, target_parent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(life.disk, "rename", once)
        await life.delete(story)


async def on_trial(life: Life, story: Story) -> None:
    """What a request on trial leaves when it is killed: bytes past the number in `keep`."""
    folder = life.storage._layout.bucket("uploads", story.id) + f"/{story.id}"
    Path(folder, "keep").write_text(str(story.kill.least))
    with Path(folder, "content").open("ab") as content:
        content.write(b"on trial")
    life.tell()


HALF = (Life.create, Life.append)
SCENES: dict[str, tuple[tuple[Act, ...], Act]] = {
    "start": ((), nothing),
    "create": ((), Life.create),
    "create_deferred": ((), create_deferred),
    "append": (HALF, Life.append),
    "mark": (HALF, append_with_mark),
    "second_mark": ((*HALF, append_with_mark), append_with_mark),
    "refused": (HALF, Life.overflow),
    "failed_mark": (HALF, Life.lose),
    "failed_mark_after_a_good_one": ((Life.create, append_with_mark), Life.lose),
    "failed_finish": (HALF, Life.finish_in_vain),
    "on_trial": ((*HALF, on_trial), Life.append),
    "declare_length": ((create_deferred, Life.append), Life.declare),
    "finish": (HALF, Life.finish),
    "finish_deferred": ((create_deferred, Life.append), Life.finish),
    "delete_unfinished": (HALF, Life.delete),
    "delete_finished": ((Life.create, Life.finish), Life.delete),
    "expire": (HALF, Life.expire),
    "take": ((Life.create, Life.finish), Life.take),
    "take_elsewhere": ((Life.create, Life.finish), take_elsewhere),
    "delete_on_a_full_disk": (HALF, delete_on_a_full_disk),
    "delete_a_file_on_a_full_disk": ((Life.create, Life.finish), delete_on_a_full_disk),
    "sweep": ((Life.create, Life.finish, Life.delete), Life.sweep),
    "repair": (HALF, Life.repair),
}


def empty(root: Path) -> Path:
    """A place for a data folder, and one to which files are taken."""
    for name in ("data", "taken"):
        (root / name).mkdir(parents=True)
    return root


async def run(root: Path, story: Story, acts: tuple[Act, ...], durability: Durability, *, left: int = 2**63, boot: str = "first") -> Recorder:
    """One process: its start, and then these acts, with so many changes of disk and no more."""
    disk = Recorder(root)
    life = Life(root, disk, durability, [story], boot=boot)
    disk.left = left if nothing in acts else disk.left
    with contextlib.suppress(Died, TusError):
        await life.start()
        disk.left = left
        for act in acts:
            await act(life, story)
    await life.stop()
    return disk


async def die(root: Path, name: str, durability: Durability, number: int) -> tuple[bool, Counter[str]]:
    """Do a scene with so many changes of disk and no more, and look at what is left."""
    before, act = SCENES[name]
    story, boot = Story(ID, DATA), "first"
    empty(root)
    if before:
        await run(root, story, before, durability)
    if act == Life.repair:
        boot, story.kill.least = "second", story.power.least
    disk = await run(root, story, (act,), durability, left=number, boot=boot)
    try:
        seen = await judge(root, [story], durability, power=False, boot=boot)
    except AssertionError as error:
        raise AssertionError(f"{name}, durability {durability}, death before change {number}: {error}") from error
    shutil.rmtree(root)
    return disk.died, seen


async def scene(memory: Path, name: str, durability: Durability) -> Counter[str]:
    """Die before each change of one scene; what was seen then."""
    seen: Counter[str] = Counter()
    died = True
    while died:
        died, outcome = await die(memory / f"{name}{seen.total()}", name, durability, seen.total())
        seen += outcome
    assert seen.total() > 1 or durability == "none", f"{name} changes nothing"
    return seen


@pytest.mark.usefixtures("two_buckets")
@pytest.mark.parametrize("durability", ["finish", "patch", "none"])
async def test_a_death_before_any_change_of_disk_is_survived(memory: Path, durability: Durability, tries: Tries) -> None:
    seen = [await scene(memory, name, durability) for name in SCENES]
    total = sum(seen, Counter())
    tries.tell(f"{len(SCENES)} operations, {total.total()} deaths, then {dict(total)}; 0 lost, 0 wrong")


@pytest.mark.usefixtures("two_buckets")
async def test_a_record_that_gets_its_name_before_its_content_is_found(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS["rename_before_write"](monkeypatch.setattr)
    with pytest.raises(AssertionError, match="mark, durability finish, death before change"):
        await scene(memory, "mark", "finish")
