"""What is allowed, as tables of uploads and commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusserver.errors import Forbidden, Invalid, NotFinished, OffsetConflict, Taken, TooLarge, TusError
from tusserver.model import MAX_INTEGER, Limits, Upload
from tusserver.protocol.command import Append, Create
from tusserver.protocol.rules import cap, check_append, check_create, check_download, check_terminate

FREE = Limits()
SMALL = Limits(max_size=100)


def upload(offset: int, length: int | None, *, finished: bool = False, taken: bool = False) -> Upload:
    return Upload(id="0" * 32, offset=offset, length=length, finished=finished, taken=taken)


def create(length: int | None, content_length: int | None = 0) -> Create:
    return Create(length=length, with_body=content_length != 0, content_length=content_length)


# -- creation


@pytest.mark.parametrize(
    ("command", "limits"),
    [
        (create(0), SMALL),
        (create(100), SMALL),
        (create(None), SMALL),
        (create(MAX_INTEGER), FREE),
        (create(50, 50), SMALL),
        (create(50, 49), SMALL),
        (create(50, None), SMALL),
        (create(None, 100), SMALL),
        (create(None, None), SMALL),
        (create(0, None), FREE),
    ],
)
def test_a_creation_within_its_length_and_the_limit_passes(command: Create, limits: Limits) -> None:
    check_create(command, limits)


@pytest.mark.parametrize(
    ("command", "limits"),
    [
        (create(101), SMALL),
        (create(MAX_INTEGER), SMALL),
        (create(50, 51), SMALL),
        (create(0, 1), FREE),
        (create(None, 101), SMALL),
    ],
)
def test_a_creation_beyond_its_length_or_the_limit_is_too_large(command: Create, limits: Limits) -> None:
    with pytest.raises(TooLarge):
        check_create(command, limits)


# -- appending

DONE = upload(10, 10, finished=True)


@pytest.mark.parametrize(
    ("state", "command", "limits", "room"),
    [
        (upload(0, 10), Append(offset=0, content_length=10), FREE, 10),
        (upload(4, 10), Append(offset=4, content_length=6), FREE, 6),
        (upload(4, 10), Append(offset=4, content_length=0), FREE, 6),
        (upload(4, 10), Append(offset=4, content_length=None), FREE, 6),
        (upload(4, 10), Append(offset=4, length=10, content_length=1), FREE, 6),
        (upload(4, None), Append(offset=4, content_length=1000), FREE, None),
        (upload(4, None), Append(offset=4, content_length=96), SMALL, 96),
        (upload(4, None), Append(offset=4, content_length=None), SMALL, 96),
        (upload(4, None), Append(offset=4, length=9, content_length=5), SMALL, 5),
        (upload(4, None), Append(offset=4, length=9, content_length=None), FREE, 5),
        (upload(4, None), Append(offset=4, length=100, content_length=1), SMALL, 96),
        (upload(4, None), Append(offset=4, length=4, content_length=0), FREE, 0),
        (upload(4, 10), Append(offset=4, content_length=6), Limits(max_size=5), 6),
        (upload(10, 10), Append(offset=10, content_length=0), FREE, 0),
        (DONE, Append(offset=10, content_length=0), FREE, 0),
        (DONE, Append(offset=10, length=10, content_length=0), FREE, 0),
        (DONE, Append(offset=10, content_length=None), FREE, 0),
        (upload(0, 0, finished=True), Append(offset=0, content_length=0), FREE, 0),
    ],
)
def test_an_append_that_can_go_on_passes_and_has_room(state: Upload, command: Append, limits: Limits, room: int | None) -> None:
    check_append(state, command, limits)
    assert cap(state, command, limits) == room


@pytest.mark.parametrize(
    ("state", "command", "limits", "error"),
    [
        (upload(4, 10), Append(offset=4, content_length=7), FREE, TooLarge),
        (upload(4, None), Append(offset=4, content_length=97), SMALL, TooLarge),
        (upload(4, None), Append(offset=4, length=9, content_length=6), FREE, TooLarge),
        (upload(4, None), Append(offset=4, length=101, content_length=1), SMALL, TooLarge),
        (upload(4, None), Append(offset=4, length=3, content_length=0), FREE, Invalid),
        (upload(4, 10), Append(offset=4, length=11, content_length=1), FREE, Invalid),
        (upload(4, 10), Append(offset=4, length=9, content_length=1), FREE, Invalid),
        (DONE, Append(offset=10, length=11, content_length=0), FREE, Invalid),
        (DONE, Append(offset=10, content_length=1), FREE, TooLarge),
        (upload(10, 10), Append(offset=10, content_length=1), FREE, TooLarge),
    ],
)
def test_an_append_that_breaks_a_rule_is_refused(state: Upload, command: Append, limits: Limits, error: type[TusError]) -> None:
    with pytest.raises(error):
        check_append(state, command, limits)


@pytest.mark.parametrize(
    ("state", "given_offset", "told"),
    [
        (upload(4, 10), 0, 4),
        (upload(4, 10), 10, 4),
        (upload(0, 10), 4, 0),
        (upload(4, None), 5, 4),
        (DONE, 0, 10),
        (DONE, 11, 10),
        (upload(10, 10), 0, None),
        (upload(0, 0), 1, None),
    ],
)
def test_another_offset_is_a_conflict_that_tells_a_length_only_of_a_finished_upload(
    state: Upload, given_offset: int, told: int | None
) -> None:
    with pytest.raises(OffsetConflict) as caught:
        check_append(state, Append(offset=given_offset, content_length=1), FREE)
    assert caught.value.offset == told


def test_the_offset_is_looked_at_before_the_length_and_the_body() -> None:
    with pytest.raises(OffsetConflict):
        check_append(upload(4, 10), Append(offset=5, length=99, content_length=1000), SMALL)


@given(
    st.integers(0, 200),
    st.one_of(st.none(), st.integers(0, 200)),
    st.one_of(st.none(), st.integers(0, 200)),
    st.one_of(st.none(), st.integers(0, 200)),
    st.one_of(st.none(), st.integers(0, 200)),
)
def test_no_append_that_passes_ends_past_a_length_or_makes_two(
    offset: int, length: int | None, declared: int | None, content_length: int | None, max_size: int | None
) -> None:
    state, limits = upload(min(offset, 200 if length is None else length), length), Limits(max_size=max_size)
    command = Append(offset=state.offset, length=declared, content_length=content_length)
    try:
        check_append(state, command, limits)
    except (Invalid, TooLarge):
        return
    room = cap(state, command, limits)
    assert content_length is None or room is None or content_length <= room
    known = length if length is not None else declared
    if known is None:
        assert room == (None if max_size is None else max(0, max_size - state.offset))
    else:
        assert room == known - state.offset
        assert declared in {None, known}


# -- termination and download


@pytest.mark.parametrize(
    ("state", "terminate", "allowed"),
    [
        (upload(4, 10), "all", True),
        (upload(4, 10), "unfinished", True),
        (upload(10, 10), "unfinished", True),
        (upload(4, 10), "none", False),
        (DONE, "all", True),
        (DONE, "unfinished", False),
        (DONE, "none", False),
    ],
)
def test_what_may_be_deleted_is_what_the_limits_say(state: Upload, terminate: str, *, allowed: bool) -> None:
    limits = {"all": FREE, "unfinished": Limits(terminate="unfinished"), "none": Limits(terminate="none")}[terminate]
    if allowed:
        check_terminate(state, limits)
    else:
        with pytest.raises(Forbidden):
            check_terminate(state, limits)


def test_a_finished_file_may_be_downloaded() -> None:
    check_download(DONE, FREE)


@pytest.mark.parametrize(
    ("state", "limits", "error"),
    [
        (upload(4, 10), FREE, NotFinished),
        (upload(10, 10), FREE, NotFinished),
        (upload(10, 10, finished=True, taken=True), FREE, Taken),
        (DONE, Limits(download=False), Forbidden),
        (upload(4, 10), Limits(download=False), Forbidden),
    ],
)
def test_nothing_else_may_be_downloaded(state: Upload, limits: Limits, error: type[TusError]) -> None:
    with pytest.raises(error):
        check_download(state, limits)


@pytest.mark.parametrize(("state", "told"), [(upload(4, 10), 4), (upload(4, None), 4), (upload(10, 10), None)])
def test_a_download_too_early_tells_the_offset_but_never_the_length(state: Upload, told: int | None) -> None:
    with pytest.raises(NotFinished) as caught:
        check_download(state, FREE)
    assert caught.value.offset == told
