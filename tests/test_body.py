"""The byte stream of one request: what reaches the sink, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tusserver.body import Body, End, Lost
from tusserver.errors import NoSpace
from tusserver.model import Upload
from tusserver.storage.base import Sink


class Memory(Sink):
    """Keeps what it gets, up to its room."""

    def __init__(self, room: int = 10**9) -> None:
        self.data = b""
        self.room = room

    @property
    def offset(self) -> int:
        return len(self.data)

    async def write(self, pieces: Sequence[bytes]) -> None:
        self.data = (self.data + b"".join(pieces))[: self.room]
        if len(self.data) == self.room:
            raise NoSpace

    async def commit(self) -> Upload:
        return Upload(id="0" * 32)

    async def abort(self) -> Upload:
        return Upload(id="0" * 32)


class Script:
    """A reader that gives pieces, and then ends, dies, or waits for ever; `late` has arrived unread by then."""

    def __init__(self, *pieces: bytes, end: str = "whole", late: bytes = b"") -> None:
        self.pieces, self.end, self.late = list(pieces), end, late
        self.begun = 0
        self.waiting = asyncio.Event()

    async def begin(self) -> None:
        self.begun += 1

    async def read(self) -> Sequence[bytes]:
        if self.pieces:
            return [self.pieces.pop(0)]
        if self.end == "lost":
            raise Lost
        if self.end == "silent":
            self.waiting.set()
            await asyncio.sleep(3600)
        return []

    def buffered(self) -> Sequence[bytes]:
        return [self.late] if self.late else []


@pytest.mark.parametrize("cap", [None, 6, 7])
async def test_a_whole_body_is_stored(cap: int | None) -> None:
    sink, script, moves = Memory(), Script(b"abc", b"def"), []
    assert await Body(script, timeout=1).into(sink, cap, lambda: moves.append(sink.offset)) is End.WHOLE
    assert (sink.data, moves, script.begun) == (b"abcdef", [3, 6], 1)


async def test_a_body_past_its_cap_ends_without_the_piece_that_is_too_much() -> None:
    sink = Memory()
    assert await Body(Script(b"abc", b"def"), timeout=1).into(sink, 5) is End.OVERFLOW
    assert sink.data == b"abc"


async def test_what_arrived_before_the_connection_died_is_stored() -> None:
    sink = Memory()
    assert await Body(Script(b"abc", end="lost", late=b"de"), timeout=1).into(sink, None) is End.LOST
    assert sink.data == b"abcde"


async def test_a_body_that_says_nothing_for_too_long_ends_and_keeps_what_arrived() -> None:
    sink = Memory()
    assert await Body(Script(b"abc", end="silent", late=b"d"), timeout=0.01).into(sink, None) is End.STALLED
    assert sink.data == b"abcd"


async def test_a_body_that_waits_is_stopped_at_once_and_keeps_what_arrived() -> None:
    sink, script = Memory(), Script(b"abc", end="silent", late=b"d")
    body = Body(script, timeout=3600)
    task = asyncio.create_task(body.into(sink, None))
    await script.waiting.wait()
    body.stop("delete")
    body.stop("patch")
    assert await task is End.STOPPED
    assert (sink.data, body.stopped_for) == (b"abcd", "delete")


async def test_a_body_that_was_stopped_before_it_began_asks_for_nothing() -> None:
    sink, script = Memory(), Script(b"abc", late=b"d")
    body = Body(script, timeout=1)
    body.stop("patch")
    assert await body.into(sink, None) is End.STOPPED
    assert (sink.data, script.begun) == (b"d", 0)


async def test_a_full_sink_is_said_to_who_asked() -> None:
    sink = Memory(room=4)
    with pytest.raises(NoSpace):
        await Body(Script(b"abc", b"def"), timeout=1).into(sink, None)
    assert sink.data == b"abcd"
