"""The body of an aiohttp request as a reader that loses nothing.

aiohttp throws away what it has buffered once a connection died; this reader takes it first. It needs private names of aiohttp's stream for that
(`_buffer`, `_read_nowait_chunk`, `_cursor`) and of its protocol (`_parser`, `_messages`): where one is missing it does without what the name gives,
and `COMPLETE` is False.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.web_protocol import RequestHandler

from tusserver.body import Lost
from tusserver.errors import BodyConsumed, ExpectationFailed

FRAMING_LOOK = 0.5
COMPLETE = all(hasattr(StreamReader, name) for name in ("_read_nowait_chunk",)) and "_messages" in RequestHandler.__slots__


class RequestReader:
    """Reads one request.

    Args:
        request: Whose body it is; nothing may have been read of it.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._content: Any = request.content
        self._parser: Any = getattr(request.protocol, "_parser", None)
        self._chunked = is_chunked(request)
        expect = request.headers.get("Expect", "") if request.version >= HttpVersion11 else ""
        self._expectation = expect.lower()
        self.begun = not expect

    def check_expectation(self) -> None:
        """The client waits for nothing that is not known.

        Raises:
            ExpectationFailed: It does.
        """
        if self._expectation not in {"", "100-continue"}:
            raise ExpectationFailed("Expect can only be 100-continue")

    async def begin(self) -> None:
        """Send the 100 that the client may be waiting for."""
        if not self.begun:
            self.begun = True
            with contextlib.suppress(ConnectionError):
                await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._request.writer.output_size = 0

    async def read(self) -> Sequence[bytes]:
        """Wait for bytes; nothing at the end of the body."""
        if pieces := self._drain():
            return pieces
        try:
            data = await self._read()
        except TimeoutError:
            raise
        except Exception as error:  # aiohttp sets whatever ended the connection
            raise Lost from error
        return [data] if data else []

    async def _read(self) -> bytes:
        if not self._chunked:
            return await self._content.readany()  # type: ignore[no-any-return]  # a StreamReader
        while True:
            try:
                async with asyncio.timeout(FRAMING_LOOK):
                    return await self._content.readany()  # type: ignore[no-any-return]  # a StreamReader
            except TimeoutError:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                self._check_framing()

    def _check_framing(self) -> None:
        """A message behind a body that has not ended is aiohttp's note that the framing broke; the body is not told."""
        if not self._content.is_eof() and getattr(self._request.protocol, "_messages", None):
            raise Lost

    def buffered(self) -> Sequence[bytes]:
        """What has arrived and was not read."""
        pieces = self._drain()
        if self._content.exception() is not None and self._parser is not None:
            with contextlib.suppress(Exception):  # the parser of a dead connection still holds what came while it was paused
                self._content.set_read_chunk_size(sys.maxsize // 4)
                self._parser.feed_data(b"")
            pieces += self._drain()
        return pieces

    def _drain(self) -> list[bytes]:
        pieces = []
        while getattr(self._content, "_buffer", None):
            pieces.append(self._content._read_nowait_chunk(-1))  # noqa: SLF001  # see the module
        return pieces


def is_chunked(request: web.BaseRequest) -> bool:
    """Whether the body's length is not known."""
    return "Transfer-Encoding" in request.headers


def check_untouched(request: web.Request) -> None:
    """The body must come to us whole.

    Raises:
        BodyConsumed: A middleware of the host has read of it.
    """
    if getattr(request, "_read_bytes", None) is not None or getattr(request.content, "_cursor", None):
        raise BodyConsumed
