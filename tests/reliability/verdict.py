"""Whether what is on a disk keeps the promises: a new process looks at each upload, goes on with it to its end, and sweeps.

The invariants: what was acknowledged is visible; the visible prefix is what was sent; nothing past a refused point; offset = length only in
`files/`; one id in one tree; every finished file has had its event or still owes it, and nothing else has; nothing is left over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.reliability.life import ABSENT, FINISHED, UNFINISHED, Life, Story
from tusserver.errors import NotFound, TusError
from tusserver.model import Upload
from tusserver.storage.disk import Disk
from tusserver.storage.ground import Durability


class Hasty(Disk):
    """A disk that syncs nothing: whoever looks after a cut does not wait for the next."""

    def fdatasync(self, fd: int) -> None:
        """Sync nothing."""

    def fsync(self, fd: int) -> None:
        """Sync nothing."""


async def judge(
    root: Path, stories: Sequence[Story], durability: Durability, *, power: bool, boot: str, disk: Disk | None = None
) -> Counter[str]:
    """Look at everything with a new process, and count what was seen; `AssertionError` if a promise is broken."""
    life = Life(root, disk or Hasty(), durability, list(stories), boot=boot)
    await life.start()
    try:
        if power and not life.durable:
            return await survey(life)
        seen = Counter([await look(life, story, power=power) for story in stories])
        await life.sweep()
        await life.sweep()
        for story in stories:
            await end(life, story)
        await life.sweep()
        clean(life)
        return seen
    finally:
        await life.stop()


async def survey(life: Life) -> Counter[str]:
    """Without any promise: whatever is there, the server lives on."""
    for story in life.stories:
        for job in (life.storage.load, life.storage.open):
            try:
                found = await job(story.id)
                if not isinstance(found, Upload):
                    await found.close()
            except TusError:
                continue
    await life.tick()
    return Counter(["no promise"])


async def look(life: Life, story: Story, *, power: bool) -> str:
    """What a client sees before anything is repaired; from then on, in this process, that is what is there."""
    expect = story.power if power else story.kill
    assert len(trees(life, story)) <= 1, f"{story.id} is in two trees"
    upload = await seen_by(life, story)
    state = ABSENT if upload is None else FINISHED if upload.finished else UNFINISHED
    assert state in expect.states, f"{story.id} is {state}, and may be {expect.states}"
    story.kill.states, story.kill.least = {state}, upload.offset if upload else 0
    if upload is not None and state == UNFINISHED:
        assert expect.least <= upload.offset <= expect.most, f"{story.id} has {upload.offset} of {expect.least} … {expect.most} bytes"
        compare(life.root / "data/uploads" / story.id[:2] / story.id / "content", story, upload.offset)
    return state


async def seen_by(life: Life, story: Story) -> Upload | None:
    """The upload, None if there is none."""
    try:
        return await life.storage.load(story.id)
    except NotFound:
        return None
    except TusError as error:
        raise AssertionError(f"{story.id} cannot be read: {error.line}") from error


def beginning(content: Path, offset: int) -> bytes:
    """The first bytes of a file; of none, where a cut has spared the record alone."""
    return content.read_bytes()[:offset] if offset else b""


def compare(content: Path, story: Story, offset: int) -> None:
    """The first bytes are what was sent."""
    found = beginning(content, offset)
    assert any(found == variant[:offset] for variant in story.variants), f"{story.id} has wrong bytes among its first {offset}"


async def end(life: Life, story: Story) -> None:
    """A client goes on with it to its end; a file is whole; events are told for files alone."""
    upload = await seen_by(life, story)
    if upload is None:
        assert story.id not in life.events or (story.finishing and story.deleting), f"an event for {story.id}, which never was"
        return
    if not upload.finished:
        assert story.id not in life.events, f"an event for {story.id}, which is not finished"
        await continued(life, story, upload)
    await life.quiet()
    assert story.told or story.id in life.events, f"no event for {story.id}"
    upload = await life.storage.load(story.id)
    assert upload.finished, f"{story.id} cannot be finished"
    if story.taken:  # its event is owed until it has been taken, so it is taken again
        await life.engine.take(story.id, life.taken(story))
    places = [life.storage._layout.content(story.id), life.taken(story)]
    found = [place.read_bytes() for place in places if place.exists()]
    assert len(found) == 1, f"{story.id} is in {len(found)} places"
    assert found[0] in story.variants, f"the file of {story.id} is wrong"


async def continued(life: Life, story: Story, upload: Upload) -> None:
    """Upload what is missing, with the bytes of the variant that is there."""
    content = beginning(life.root / "data/uploads" / story.id[:2] / story.id / "content", upload.offset)
    variant = next(variant for variant in story.variants if content == variant[: upload.offset])
    async with life.opened(story) as writer:
        assert writer.upload.offset == upload.offset, f"{story.id} had {upload.offset} bytes and is opened with {writer.upload.offset}"
        if writer.upload.length is None:
            await writer.declare_length(len(variant))
        sink = writer.append()
        await sink.write([variant[upload.offset :]])
        await sink.commit()
    await life.engine._finisher.begin(story.id)


def trees(life: Life, story: Story) -> list[Path]:
    """The folders of an upload."""
    return list(life.root.glob(f"data/*/{story.id[:2]}/{story.id}"))


def clean(life: Life) -> None:
    """Nothing is left but whole uploads."""
    data = life.root / "data"
    for folder in ("trash", "outbox", "run"):
        assert not list((data / folder).iterdir()), f"{folder}/ is not empty: {list((data / folder).iterdir())}"
    known = {story.id for story in life.stories}
    for path in data.glob("*/??/*"):
        assert path.name in known, f"{path} is left"
        names = {entry.name for entry in path.iterdir()}
        assert {"upload.json"} <= names <= {"upload.json", "content"}, f"{path} has {names}"
    extra = {path.name for path in data.iterdir()} - {"secret", "uploads", "files", "trash", "outbox", "run"}
    assert not extra, f"{extra} is left"
