"""Answering a request whose body was not read to its end, so that the client sees the answer and not a reset.

The law: a small rest is read and dropped, and the connection goes on. Otherwise the answer is sent, our side is shut down, what still comes is
dropped for a moment, and the connection ends: unread bytes of a body are never taken for the next request.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from tusserver.web.reader import RequestReader, is_chunked

SMALL = 1024 * 1024
DROP_BYTES = 4 * 1024 * 1024
DROP_SECONDS = 2.0
HURRY_SECONDS = 0.3


async def dismiss(request: web.Request, response: web.StreamResponse, reader: RequestReader, *, hurry: bool) -> web.StreamResponse:
    """Send an answer, whatever is left of the request.

    Args:
        hurry: The server is stopping: no time for leisurely clients.
    """
    if is_chunked(request):
        response.force_close()
    if request.content.is_eof() and reader.begun:
        drop_buffered(request)
        return response
    seconds = HURRY_SECONDS if hurry else DROP_SECONDS
    small = (request.content_length or SMALL + 1) <= SMALL
    if reader.begun and small and response.keep_alive is not False and await drop(request, SMALL, seconds):
        return response
    await answer_and_close(request, response, seconds if reader.begun else 0)
    return response


def drop_buffered(request: web.Request) -> None:
    """Forget what has arrived of a body that is complete."""
    with contextlib.suppress(Exception):
        request.content.read_nowait()


async def drop(request: web.Request, most: int, seconds: float) -> bool:
    """Read and forget; True when the body came to its end."""
    with contextlib.suppress(TimeoutError, Exception):
        async with asyncio.timeout(seconds):
            while most > 0 and not request.content.at_eof():
                most -= len(await request.content.readany())
    return request.content.at_eof()


async def answer_and_close(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    """Answer, shut down our side, drop what comes for a while, close."""
    response.force_close()
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()
    transport = request.transport
    if transport is not None and seconds > 0:
        if transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                transport.write_eof()
        await drop(request, DROP_BYTES, seconds)
    close(request)


def close(request: web.Request) -> None:
    """End the connection at once; what has been written is still sent."""
    request.protocol.force_close()
