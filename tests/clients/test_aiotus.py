"""aiotus 1.1.0. It cannot follow a `Location` that is only a path, so the server is told its public URL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.process import MIB, ClientProcess, assert_stored, kill_midway, python_client
from tests.conftest import Serve
from tests.support.folder import DataFolder
from tests.support.relay import SlowLine
from tests.support.server import ServerProcess

pytestmark = pytest.mark.clients
Source = Callable[[int], Path]
CHUNKS: dict[str, dict[str, Any]] = {"chunks of 4 MiB": {}, "chunks of 64 KiB": {"chunksize": 64 * 1024}, "whole": {"chunksize": 64 * MIB}}


@contextlib.contextmanager
def public_line(serve: Serve) -> Iterator[tuple[ServerProcess, SlowLine]]:
    """A server that is reached by a slow line, and says so in `Location`."""
    with SlowLine("http://127.0.0.1:0/files/", 10 * MIB) as line:
        server = serve("--public-url", line.url.removesuffix("/files/"))
        line.lead_to(server.port)
        yield server, line


def aiotus(url: str, file: Path, *, location: str = "", metadata: dict[str, str] | None = None, **options: Any) -> ClientProcess:
    job = {"url": url, "file": str(file), "location": location, "metadata": metadata or {}, "options": options}
    return python_client("aiotus_upload.py", job, file.parent)


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("size", [0, 1, 10 * MIB + 1])
def test_a_file_arrives_as_it_is(serve: Serve, data: DataFolder, source: Source, size: int, chunks: str) -> None:
    file = source(size)
    with public_line(serve) as (_, line), aiotus(line.url, file, **CHUNKS[chunks]) as client:
        assert_stored(data, client.wait().upload_id, file)


def test_metadata_comes_back_unchanged(serve: Serve, data: DataFolder, source: Source) -> None:
    metadata, file = {"filename": "zażółć gęślą jaźń.txt", "title": "可續傳上傳", "empty": ""}, source(1)
    with public_line(serve) as (_, line), aiotus(line.url, file, metadata=metadata) as client:
        ended = client.wait()
    assert_stored(data, ended.upload_id, file)
    assert ended.all("success")[0]["metadata"] == metadata


@pytest.mark.parametrize("chunks", CHUNKS)
def test_an_upload_goes_on_where_it_was_after_the_process_was_killed(
    serve: Serve, data: DataFolder, source: Source, chunks: str
) -> None:
    file = source(10 * MIB + 1)
    with public_line(serve) as (server, line):
        with aiotus(line.url, file, **CHUNKS[chunks]) as client:
            kill_midway(client, line, data, 3 * MIB)
        (upload_id,) = data.uploads()
        with aiotus(line.url, file, location=f"{line.url}{upload_id}", **CHUNKS[chunks]) as client:
            assert_stored(data, client.wait().upload_id, file)
        assert len(server.requests("POST")) == 1


@pytest.mark.parametrize("how", ["kill9", "sigterm"])
def test_its_own_retries_survive_a_restart_of_the_server(serve: Serve, data: DataFolder, source: Source, how: str) -> None:
    file = source(10 * MIB + 1)
    with public_line(serve) as (server, line), aiotus(line.url, file) as client:
        client.wait_for_bytes(data, 3 * MIB)
        getattr(server, how)()
        server.wait()
        server.restart()
        assert_stored(data, client.wait().upload_id, file)
        assert len(server.requests("POST")) == 1
