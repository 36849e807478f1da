"""GET of a finished file: what the protocol layer has selected of it, sent by the kernel where it can be."""

from __future__ import annotations

import asyncio
import os
from email.utils import formatdate

from aiohttp import web

from tusserver.protocol import disposition, ranges, tus1
from tusserver.protocol.message import Request
from tusserver.storage.base import Content

REFUSALS = {
    412: "precondition_failed: the file is not the one that If-Match or If-Unmodified-Since means",
    416: "range_not_satisfiable: the file ends before the bytes that Range asks for",
}


def headers(message: Request, content: Content) -> tuple[ranges.Selection, dict[str, str]]:
    """What is selected, and what is said about it."""
    selection = ranges.decide(message.headers, size=content.size, etag=content.etag, modified=content.modified)
    fields = {
        "Tus-Resumable": tus1.VERSION,
        "ETag": content.etag,
        "Last-Modified": formatdate(content.modified, usegmt=True),
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
    }
    if selection.status in {200, 206}:
        fields |= disposition.describe(content.upload.metadata)
        fields |= {"Upload-Offset": str(content.size), "Upload-Length": str(content.size)}
    if selection.status == 206:
        fields["Content-Range"] = f"bytes {selection.start}-{selection.stop - 1}/{content.size}"
    if selection.status == 416:
        fields["Content-Range"] = f"bytes */{content.size}"
    return selection, fields


async def send(request: web.Request, message: Request, content: Content, extra: dict[str, str]) -> web.StreamResponse:
    """Send a finished file, or the part that was asked for; closes `content`."""
    try:
        selection, fields = headers(message, content)
        if (line := REFUSALS.get(selection.status)) is not None:
            return web.Response(status=selection.status, headers=fields | extra, text=f"{line}\n")
        response = web.StreamResponse(status=selection.status, headers=fields | extra)
        count = selection.stop - selection.start if selection.status in {200, 206} else 0
        if selection.status != 304:
            response.content_length = count
        await response.prepare(request)
        if count and request.method != "HEAD":  # one that is overridden to a GET: who reads its answer still expects no body
            await _send_bytes(request, response, content, selection.start, count)
        await response.write_eof()
    finally:
        content.close()
    return response


async def _send_bytes(request: web.Request, response: web.StreamResponse, content: Content, start: int, count: int) -> None:
    writer = request.writer
    writer.send_headers()
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    with os.fdopen(os.dup(content.fileno()), "rb", buffering=0) as file:
        await asyncio.get_running_loop().sendfile(transport, file, start, count)
    writer.output_size += count  # for the access log
