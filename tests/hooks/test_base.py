"""The lists that listeners are appended to, and what a listener is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tusserver.hooks.base import Event, Events
from tusserver.model import Upload

UPLOAD = Upload(id="a" * 32)
NAMES = ("before_create", "after_create", "progress", "before_finish", "after_finish", "before_terminate", "after_terminate")


async def listener(event: Event) -> None:
    """Hears it."""


def test_there_is_a_list_for_each_event() -> None:
    assert tuple(vars(Events())) == NAMES


def test_two_mounts_have_lists_of_their_own() -> None:
    first, second = Events(), Events()
    first.after_finish.append(listener)
    assert second.after_finish == []


@pytest.mark.parametrize("name", NAMES)
def test_nobody_can_be_appended_once_the_application_has_started(name: str) -> None:
    events = Events()
    getattr(events, name).append(listener)
    events.freeze()
    with pytest.raises(RuntimeError, match="before the application starts"):
        getattr(events, name).append(listener)
    assert getattr(events, name) == [listener]


def test_one_mount_that_has_started_does_not_freeze_another() -> None:
    Events().freeze()
    later = Events()
    later.progress.append(listener)
    assert later.progress == [listener]


async def test_taking_names_the_upload_and_the_target_as_a_path() -> None:
    asked: list[tuple[str, Path]] = []

    async def take(upload_id: str, target: Path) -> bool:
        asked.append((upload_id, target))
        return len(asked) == 1

    event = Event(name="after_finish", id="1", number=1, upload=UPLOAD, _take=take)
    assert await event.take("/srv/film.mkv")
    assert not await event.take(Path("/srv/film.mkv"))
    assert asked == [(UPLOAD.id, Path("/srv/film.mkv"))] * 2


async def test_only_a_finished_file_can_be_taken() -> None:
    with pytest.raises(RuntimeError, match="before_finish has no file to take"):
        await Event(name="before_finish", id="1", number=1, upload=UPLOAD).take("/srv/film.mkv")
