"""A server in the test's own loop, and a client that writes and reads the bytes of HTTP itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

import tusserver
from tusserver.web.app import Uploads

OFFSET_TYPE = "application/offset+octet-stream"


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def offset(self) -> int:
        """Its `Upload-Offset`."""
        return int(self.headers["upload-offset"])


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, method: str, path: str, **fields: str | int) -> None:
        """Send the head of a request; `_` in a name is `-`."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test", "Tus-Resumable: 1.0.0"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def patch(self, path: str, offset: int, length: int, data: bytes = b"") -> None:
        """Send a PATCH with a body of `length` bytes, of which `data` goes out now."""
        await self.head("PATCH", path, Upload_Offset=offset, Content_Type=OFFSET_TYPE, Content_Length=length)
        await self.send(data)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read one response; an interim one is passed over."""
        while True:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status = int(head.split(" ", 2)[1])
            if status >= 200:
                break
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, value in fields.items()}
        size = 0 if bodiless or status in {204, 304} else int(headers.get("content-length", 0))
        return Answer(status, headers, await self.reader.readexactly(size))

    async def closed(self) -> bool:
        """Whether the other side ends the connection without another byte."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read() == b""
        return True

    def reset(self) -> None:
        """End the connection at once."""
        self.writer.transport.abort()


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    data: Path
    uploads: Uploads
    runner: web.AppRunner
    wires: list[Wire] = field(default_factory=list)

    async def open(self) -> Wire:
        """A new connection, reset at the end if it is still there."""
        wire = await Wire.open(self.port)
        self.wires.append(wire)
        return wire

    async def ask(self, method: str, path: str, data: bytes = b"", /, **fields: str | int) -> Answer:
        """One request on a connection of its own."""
        wire = await self.open()
        if data:
            fields |= {"Content_Length": len(data)}
        await wire.head(method, path, **fields)
        await wire.send(data)
        try:
            return await wire.answer(bodiless=method == "HEAD")
        finally:
            self.wires.remove(wire)
            wire.reset()

    async def create(self, length: int, **fields: str | int) -> str:
        """The path of a new upload."""
        answer = await self.ask("POST", "/files/", Upload_Length=length, **fields)
        assert answer.status == 201, answer
        return answer.headers["location"]

    async def offset(self, path: str) -> int:
        """What HEAD says."""
        answer = await self.ask("HEAD", path)
        assert answer.status == 200, answer
        return answer.offset

    async def reaches(self, path: str, offset: int) -> None:
        """Wait until HEAD says an offset; the test's own time-out ends it if that never happens."""
        while await self.offset(path) != offset:
            await asyncio.sleep(0.01)

    def file(self, path: str) -> bytes:
        """The content of a finished upload."""
        upload_id = path.rsplit("/", 1)[1]
        return (self.data / "files" / upload_id[:2] / upload_id / "content").read_bytes()


@contextlib.asynccontextmanager
async def served(data: Path, *, handler_cancellation: bool = False, **options: Any) -> AsyncIterator[Served]:
    """A server on a free port; `options` are those of `setup`, and `listeners` by the name of their event."""
    listeners = options.pop("listeners", {})
    app = web.Application()
    if "storage" not in options:
        options["upload_dir"] = data
    uploads = tusserver.setup(app, "/files/", **options)
    for name, listener in listeners.items():
        getattr(uploads, name).append(listener)
    runner = web.AppRunner(app, handler_cancellation=handler_cancellation, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = Served(runner.addresses[0][1], data, uploads, runner)
    try:
        yield server
    finally:
        for wire in server.wires:
            wire.reset()
        await runner.cleanup()
