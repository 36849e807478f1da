"""A faulty line: a TCP relay in front of a server, each connection of which may have one fault, as bad networks have them.

The law: what the fault does not touch passes as it was sent, in order, and the end of one direction is passed on as such. Every connection ends:
one on which nothing passes any more is closed when its fault says so. Once one side is gone, what the other still sends is read and dropped, since
a client that cannot get rid of its bytes would never end.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

PIECE = 64 * 1024
DRIBBLE = 2048
RESET = struct.pack("ii", 1, 0)


class Way(enum.Flag):
    """A direction."""

    UP = enum.auto()  # from the client to the server
    DOWN = enum.auto()
    BOTH = UP | DOWN


class Kind(enum.StrEnum):
    """What a fault does, from its byte on."""

    DELAY = "delay"  # `seconds` of pause before each piece
    BANDWIDTH = "bandwidth"  # `seconds` of pause for each byte
    DRIBBLE = "one byte at a time"  # the first few KiB
    DUPLICATE = "duplicate"  # what the client sends goes to a second connection as well, `seconds` late, whose answers go nowhere
    STALL = "stall"  # nothing passes; closed after `seconds`
    RESET = "reset"  # both sides
    CUT = "cut"  # both sides are closed
    HALF_CLOSE = "half-close"  # the other end is told that nothing more comes; what comes is dropped
    VANISH = "vanish"  # the client sees its connection closed, the server sees nothing for `seconds`


@dataclass(frozen=True)
class Fault:
    """What happens to one connection.

    Args:
        kind: What.
        after: How many bytes pass untouched, counted in each direction.
        ways: In which direction it acts; a duplicate, and a client that vanishes, only upwards.
        seconds: What the kind says.
    """

    kind: Kind
    after: int = 0
    ways: Way = Way.UP
    seconds: float = 0

    @property
    def name(self) -> str:
        """What it is counted as."""
        return f"{self.kind} of the answer" if self.ways is Way.DOWN else str(self.kind)


class Link:
    """One connection through the line: a client's socket, and the one to the server.

    Args:
        dial: Opens a connection to the server.
        fault: None when it has none.
    """

    def __init__(self, client: socket.socket, server: socket.socket, dial: Callable[[], Awaitable[socket.socket]], fault: Fault | None) -> None:
        self.fault = fault
        self.struck = False
        self.passed = {Way.UP: 0, Way.DOWN: 0}
        self._source = {Way.UP: client, Way.DOWN: server}
        self._target = {Way.UP: server, Way.DOWN: client}
        self._dial = dial
        self._twin: asyncio.Queue[bytes] | None = None
        self._dropping = Way(0)
        self._limit = asyncio.timeout(None)
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        """Let both directions through until both have ended, or the fault ends them."""
        with contextlib.suppress(TimeoutError):
            async with self._limit, self._tasks:
                for way in (Way.UP, Way.DOWN):
                    self._tasks.create_task(self._pump(way))

    def shut(self) -> None:
        """Close it in both directions; the sockets stay."""
        for end in self._source.values():
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    # -- bytes

    async def _pump(self, way: Way) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # a reset ends it as a close does
            while piece := await loop.sock_recv(self._source[way], PIECE):
                await self._pass(way, piece)
        if way not in self._dropping:
            self._end(way)
        if way is Way.UP and self._twin is not None:
            self._twin.put_nowait(b"")

    async def _pass(self, way: Way, piece: bytes) -> None:
        fault = self.fault
        if fault is None or way not in fault.ways:
            await self.send(way, piece)
            return
        room = max(fault.after - self.passed[way], 0)
        if not self.struck and room:
            await self.send(way, piece[:room])
            piece = piece[room:]
        if self.passed[way] >= fault.after or self.struck:
            self.struck = True
            await ACTS[fault.kind](self, way, fault, piece)

    async def send(self, way: Way, data: bytes) -> None:
        """Give bytes to the other end, unless it is gone."""
        if way in self._dropping:
            return
        try:
            await asyncio.get_running_loop().sock_sendall(self._target[way], data)
            self.passed[way] += len(data)
        except OSError:
            self._dropping |= way

    # -- what faults do

    def _end(self, way: Way) -> None:
        with contextlib.suppress(OSError):
            self._target[way].shutdown(socket.SHUT_WR)

    def end_in(self, seconds: float) -> None:
        """Close both sides, so much later."""
        if self._limit.when() is None:
            self._limit.reschedule(asyncio.get_running_loop().time() + seconds)

    async def delay(self, way: Way, fault: Fault, rest: bytes) -> None:
        await asyncio.sleep(fault.seconds)
        await self.send(way, rest)

    async def bandwidth(self, way: Way, fault: Fault, rest: bytes) -> None:
        await self.send(way, rest)
        if way not in self._dropping:
            await asyncio.sleep(fault.seconds * len(rest))

    async def dribble(self, way: Way, fault: Fault, rest: bytes) -> None:
        slow = max(fault.after + DRIBBLE - self.passed[way], 0)
        for byte in rest[:slow]:
            await self.send(way, bytes([byte]))
            await asyncio.sleep(0)
        await self.send(way, rest[slow:])

    async def duplicate(self, way: Way, fault: Fault, rest: bytes) -> None:
        if self._twin is None:
            self._twin = asyncio.Queue()
            self._tasks.create_task(self._run_twin(self._twin, fault.seconds))
        self._twin.put_nowait(rest)
        await self.send(way, rest)

    async def _run_twin(self, pieces: asyncio.Queue[bytes], late: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(late)
        with contextlib.suppress(OSError), await self._dial() as twin:
            answers = self._tasks.create_task(drain(twin))
            try:
                while piece := await pieces.get():
                    await loop.sock_sendall(twin, piece)
                twin.shutdown(socket.SHUT_WR)
                await answers
            finally:
                answers.cancel()

    async def stall(self, way: Way, fault: Fault, rest: bytes) -> None:
        self._dropping |= way
        self.end_in(fault.seconds)

    async def reset(self, way: Way, fault: Fault, rest: bytes) -> None:
        for end in self._source.values():
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await self.cut(way, fault, rest)

    async def cut(self, way: Way, fault: Fault, rest: bytes) -> None:
        self._dropping = Way.BOTH
        self.end_in(0)

    async def half_close(self, way: Way, fault: Fault, rest: bytes) -> None:
        if way not in self._dropping:
            self._dropping |= way
            self._end(way)

    async def vanish(self, way: Way, fault: Fault, rest: bytes) -> None:
        self._dropping = Way.BOTH
        self._end(Way.DOWN)
        self.end_in(fault.seconds)


ACTS: dict[Kind, Callable[[Link, Way, Fault, bytes], Awaitable[None]]] = {
    Kind.DELAY: Link.delay,
    Kind.BANDWIDTH: Link.bandwidth,
    Kind.DRIBBLE: Link.dribble,
    Kind.DUPLICATE: Link.duplicate,
    Kind.STALL: Link.stall,
    Kind.RESET: Link.reset,
    Kind.CUT: Link.cut,
    Kind.HALF_CLOSE: Link.half_close,
    Kind.VANISH: Link.vanish,
}


async def drain(source: socket.socket) -> None:
    """Read to the end, and forget."""
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(source, PIECE):
            pass


class FaultyLine:
    """Relays to a server, in a thread of its own; a context manager.

    Args:
        url: The creation URL of the server; its port may be told later, with `lead_to`.
        plan: The fault of each connection, in the order in which they come; without one once it is used up.
    """

    def __init__(self, url: str, plan: Iterator[Fault | None]) -> None:
        self.links: list[Link] = []
        self._parts = urlsplit(url)
        self._plan = plan
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0)
        self._loop = asyncio.new_event_loop()
        self._serving = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        """The creation URL as seen through the line."""
        return urlunsplit(self._parts._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}"))

    @property
    def struck(self) -> Counter[str]:
        """How many faults have acted, by name."""
        return Counter(link.fault.name for link in self.links if link.fault is not None and link.struck)

    def lead_to(self, port: int) -> None:
        """Say where the server listens, for one that had to know the URL of the line before it started."""
        self._parts = self._parts._replace(netloc=f"{self._parts.hostname}:{port}")

    def cut(self) -> None:
        """Break off all connections that there are; what was on its way is lost."""
        self._loop.call_soon_threadsafe(self._shut)

    def _shut(self) -> None:
        for link in self.links:
            link.shut()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as links:
            while True:
                client, _ = await self._loop.sock_accept(self._listener)
                links.create_task(self._connect(client, next(self._plan, None)))

    async def _connect(self, client: socket.socket, fault: Fault | None) -> None:
        client.settimeout(0)
        with client, contextlib.suppress(OSError), await self._dial() as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, server, self._dial, fault)
            self.links.append(link)
            await link.run()

    async def _dial(self) -> socket.socket:
        server = socket.socket()
        server.settimeout(0)
        try:
            await self._loop.sock_connect(server, (self._parts.hostname or "", self._parts.port or 80))
        except BaseException:
            server.close()
            raise
        return server

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join()
        self._listener.close()
        self._loop.close()
