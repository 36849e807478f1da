"""The runner that is ours: what aiohttp's parser refuses, and how large a header may be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

import tusserver

FIELD = 60_000


async def hello(request: web.Request) -> web.Response:
    """Says how large a field came."""
    return web.Response(text=str(len(request.headers.get("X-Large", ""))))


async def broken(_request: web.Request) -> web.Response:
    """A handler with a fault."""
    raise RuntimeError("a fault of ours")


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/broken", broken)
    runner = tusserver.Runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield host, port
    finally:
        await runner.cleanup()


async def exchange(address: tuple[str, int], data: bytes) -> str:
    """Everything that comes back on a connection of its own."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


@pytest.mark.parametrize(
    "data",
    [
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 70_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["lower-case method", "NUL", "two lengths", "a field of 70,000 bytes", "TLS"],
)
async def test_what_the_parser_refuses_has_our_header_and_is_one_line_of_the_log(
    address: tuple[str, int], data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = await exchange(address, data)
    assert answer.split()[1] == "400"
    assert "\r\nTus-Resumable: 1.0.0\r\n" in answer
    (record,) = caplog.records
    assert (record.name, record.levelname, record.exc_info) == ("tusserver", "WARNING", None)
    assert record.getMessage().isprintable()


async def test_a_connection_that_was_used_before_is_refused_in_the_same_way(address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")
    writer.write(b"nonsense\r\n\r\n")
    answer = (await reader.read()).decode()
    assert answer.split()[1] == "400"
    assert "\r\nTus-Resumable: 1.0.0\r\n" in answer
    writer.close()
    await writer.wait_closed()


async def test_a_field_of_sixty_thousand_bytes_passes(address: tuple[str, int]) -> None:
    data = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Large: " + b"a" * FIELD + b"\r\n\r\n"
    assert (await exchange(address, data)).endswith(f"\r\n\r\n{FIELD}")


async def test_a_fault_of_a_handler_keeps_its_traceback(address: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    answer = await exchange(address, b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.split()[1] == "500"
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


def test_limits_of_the_host_win_and_handlers_are_not_cancelled() -> None:
    runner = tusserver.Runner(web.Application(), max_field_size=1000)
    assert runner._kwargs["max_field_size"] == 1000
    assert "handler_cancellation" not in runner._kwargs
