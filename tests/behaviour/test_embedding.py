"""The server inside somebody else's aiohttp application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

import tusserver
from tests.support.wire import OFFSET_TYPE, Wire

TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Upload-Offset": "0", "Content-Type": OFFSET_TYPE}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def upload(client: TestClient[web.Request, web.Application], base: str, data: bytes) -> str:
    """Upload in two requests; returns the path."""
    async with client.post(base, headers={**TUS, "Upload-Length": str(len(data))}) as answer:
        assert answer.status == 201, await answer.text()
        path = answer.headers["Location"]
    async with client.patch(path, data=data, headers=BODY) as answer:
        assert answer.status == 204, await answer.text()
    async with client.get(path) as answer:
        assert await answer.read() == data
    return path


@pytest.mark.parametrize("base", ["/files/", "/files"])
async def test_it_works_beside_the_routes_of_the_host(aiohttp_client: AiohttpClient, tmp_path: Path, base: str) -> None:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    tusserver.setup(app, "/files/", upload_dir=tmp_path)
    client = await aiohttp_client(app)
    assert (await upload(client, base, b"some bytes")).startswith("/files/")
    async with client.get("/") as answer:
        assert await answer.text() == "hello"


async def test_it_works_in_a_sub_application(aiohttp_client: AiohttpClient, tmp_path: Path) -> None:
    app, sub = web.Application(), web.Application()
    tusserver.setup(sub, "/", upload_dir=tmp_path)
    app.add_subapp("/api/up", sub)
    client = await aiohttp_client(app)
    for base in ("/api/up", "/api/up/"):
        assert (await upload(client, base, b"some bytes")).startswith("/api/up/")


async def test_it_works_at_the_root_and_leaves_other_paths_to_the_host(aiohttp_client: AiohttpClient, tmp_path: Path) -> None:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    tusserver.setup(app, "/", upload_dir=tmp_path)
    app.router.add_get("/hello", hello)
    client = await aiohttp_client(app)
    path = await upload(client, "/", b"some bytes")
    assert len(path) == 33
    async with client.get("/hello") as answer:
        assert await answer.text() == "hello"


async def test_two_mounts_with_folders_of_their_own_do_not_mix(aiohttp_client: AiohttpClient, tmp_path: Path) -> None:
    app = web.Application()
    tusserver.setup(app, "/a/", upload_dir=tmp_path / "a")
    tusserver.setup(app, "/b/", upload_dir=tmp_path / "b", max_size=3)
    client = await aiohttp_client(app)
    path = await upload(client, "/a/", b"some bytes")
    async with client.head(path.replace("/a/", "/b/")) as answer:
        assert answer.status == 404
    async with client.post("/b/", headers={**TUS, "Upload-Length": "4"}) as answer:
        assert answer.status == 413


async def test_two_mounts_of_one_storage_share_their_uploads(aiohttp_client: AiohttpClient, tmp_path: Path) -> None:
    app = web.Application()
    storage = tusserver.LocalStorage(tmp_path)
    tusserver.setup(app, "/a/", storage=storage)
    tusserver.setup(app, "/b/", storage=storage)
    client = await aiohttp_client(app)
    path = await upload(client, "/a/", b"some bytes")
    async with client.head(path.replace("/a/", "/b/")) as answer:
        assert answer.status == 200


async def test_two_storages_on_one_folder_are_refused(tmp_path: Path) -> None:
    app = web.Application()
    tusserver.setup(app, "/a/", upload_dir=tmp_path)
    tusserver.setup(app, "/b/", upload_dir=tmp_path)
    runner = web.AppRunner(app)
    with pytest.raises(tusserver.StorageUnfit, match="same storage object"):
        await runner.setup()
    await runner.cleanup()


def test_one_storage_with_two_configurations_is_refused(tmp_path: Path) -> None:
    app, storage = web.Application(), tusserver.LocalStorage(tmp_path)
    tusserver.setup(app, "/a/", storage=storage)
    with pytest.raises(ValueError, match="mounted already"):
        tusserver.setup(app, "/b/", storage=storage, max_size=1)
    with pytest.raises(ValueError, match="not both"):
        tusserver.setup(app, "/c/", storage=storage, upload_dir=tmp_path)


async def test_a_body_that_a_middleware_ate_is_a_clear_500(
    aiohttp_client: AiohttpClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @web.middleware
    async def greedy(request: web.Request, handler: Handler) -> web.StreamResponse:
        await request.read()
        return await handler(request)

    app = web.Application(middlewares=[greedy])
    tusserver.setup(app, "/files/", upload_dir=tmp_path)
    client = await aiohttp_client(app)
    async with client.post("/files/", headers={**TUS, "Upload-Length": "4"}) as answer:
        path = answer.headers["Location"]
    async with client.patch(path, data=b"data", headers=BODY) as answer:
        assert answer.status == 500
        assert (await answer.text()).startswith("body_consumed: ")
    async with client.head(path) as answer:
        assert answer.headers["Upload-Offset"] == "0"
    assert "middleware" in caplog.text


async def test_listeners_cannot_be_added_once_it_runs(aiohttp_client: AiohttpClient, tmp_path: Path) -> None:
    async def listener(_event: tusserver.Event) -> None:
        """Hear nothing."""

    app = web.Application()
    uploads = tusserver.setup(app, "/files/", upload_dir=tmp_path)
    uploads.after_finish.append(listener)
    await aiohttp_client(app)
    with pytest.raises(RuntimeError, match="before the application starts"):
        uploads.after_finish.append(listener)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_what_owner_raises_passes_as_it_is_with_our_header(aiohttp_client: AiohttpClient, tmp_path: Path, status: int) -> None:
    errors = {401: web.HTTPUnauthorized, 403: web.HTTPForbidden, 404: web.HTTPNotFound}

    async def owner(_request: web.Request) -> str:
        raise errors[status](text="not you", headers={"X-Why": "because"})

    app = web.Application()
    tusserver.setup(app, "/files/", upload_dir=tmp_path, owner=owner)
    client = await aiohttp_client(app)
    async with client.post("/files/", headers={**TUS, "Upload-Length": "4"}) as answer:
        assert (answer.status, await answer.text()) == (status, "not you\n")
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert answer.headers["X-Why"] == "because"


async def test_an_owner_service_that_is_down_is_trouble_that_passes(
    aiohttp_client: AiohttpClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def owner(_request: web.Request) -> str:
        raise ConnectionRefusedError

    app = web.Application()
    tusserver.setup(app, "/files/", upload_dir=tmp_path, owner=owner)
    client = await aiohttp_client(app)
    async with client.post("/files/", headers={**TUS, "Upload-Length": "4"}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    async with client.head("/files/" + "0" * 32) as answer:
        assert answer.status == 423
    caplog.clear()


async def test_the_shutdown_of_the_host_commits_and_answers_open_transfers(tmp_path: Path) -> None:
    app = web.Application()
    tusserver.setup(app, "/files/", upload_dir=tmp_path)
    runner = web.AppRunner(app, shutdown_timeout=60)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    wires = []
    for number in range(10):
        wire = await Wire.open(runner.addresses[0][1])
        await wire.head("POST", "/files/", Upload_Length=1000)
        path = (await wire.answer()).headers["location"]
        await wire.patch(path, 0, 1000, b"x" * number)
        wires.append((path, wire))
    await asyncio.sleep(0.2)
    started = asyncio.get_running_loop().time()
    await runner.cleanup()
    assert asyncio.get_running_loop().time() - started < 30  # nobody waited for the 60 s of the host
    for number, (path, wire) in enumerate(wires):
        answer = await wire.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["connection"] == "close"
        content = tmp_path / "uploads" / path[-32:-30] / path[-32:] / "content"
        assert content.stat().st_size == number
        wire.reset()
