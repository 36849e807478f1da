"""tuspy 1.1.0, sync and async."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.process import MIB, ClientProcess, assert_stored, kill_midway, python_client
from tests.conftest import Serve
from tests.support.folder import DataFolder
from tests.support.raw import RawClient
from tests.support.relay import SlowLine

pytestmark = pytest.mark.clients
Source = Callable[[int], Path]
CHUNKS: dict[str, dict[str, Any]] = {"whole": {}, "chunks": {"chunk_size": MIB}}


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def tuspy(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ClientProcess]:
    """Starts an upload with tuspy."""

    def start(url: str, file: Path, *, store: str = "", **options: Any) -> ClientProcess:
        job = {"url": url, "file": str(file), "store": store, "options": options, "asynchronous": request.param}
        return python_client("tuspy_upload.py", job, tmp_path)

    return start


Tuspy = Callable[..., ClientProcess]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("size", [0, 1, 10 * MIB + 1])
def test_a_file_arrives_as_it_is(serve: Serve, data: DataFolder, source: Source, tuspy: Tuspy, size: int, chunks: str) -> None:
    server, file = serve(), source(size)
    with tuspy(server.url, file, **CHUNKS[chunks]) as client:
        assert_stored(data, client.wait().upload_id, file)


def test_the_empty_metadata_header_that_it_sends_by_default_means_none(
    serve: Serve, data: DataFolder, source: Source, tuspy: Tuspy
) -> None:
    server, file = serve(), source(1)
    with tuspy(server.url, file, metadata={}) as client:
        upload_id = client.wait().upload_id
    with RawClient(server.url) as raw:
        assert not raw.head(f"{raw.base}{upload_id}").headers.get("upload-metadata")
    assert_stored(data, upload_id, file)


def test_metadata_comes_back_unchanged(serve: Serve, data: DataFolder, source: Source, tuspy: Tuspy) -> None:
    server, file = serve(), source(1)
    with tuspy(server.url, file, metadata={"filename": "zażółć gęślą jaźń.txt"}) as client:
        upload_id = client.wait().upload_id
    with RawClient(server.url) as raw:
        assert raw.head(f"{raw.base}{upload_id}").headers["upload-metadata"] == "filename emHFvMOzxYLEhyBnxJnFm2zEhSBqYcW6xYQudHh0"
    assert_stored(data, upload_id, file)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_it_goes_on_where_it_was_after_its_process_was_killed(
    serve: Serve, data: DataFolder, source: Source, tuspy: Tuspy, tmp_path: Path, chunks: str
) -> None:
    server, file, store = serve(), source(10 * MIB + 1), str(tmp_path / "urls.json")
    with SlowLine(server.url, 5 * MIB) as line:
        with tuspy(line.url, file, store=store, **CHUNKS[chunks]) as client:
            kill_midway(client, line, data, 3 * MIB)
        with tuspy(line.url, file, store=store, **CHUNKS[chunks]) as client:
            assert_stored(data, client.wait().upload_id, file)
    assert len(server.requests("POST")) == 1


@pytest.mark.parametrize("how", ["kill9", "sigterm"])
def test_with_retries_it_survives_a_restart_of_the_server(
    serve: Serve, data: DataFolder, source: Source, tuspy: Tuspy, how: str
) -> None:
    server, file = serve(), source(10 * MIB + 1)
    with SlowLine(server.url, 5 * MIB) as line, tuspy(line.url, file, retries=5, retry_delay=1) as client:
        client.wait_for_bytes(data, 3 * MIB)
        getattr(server, how)()
        server.wait()
        server.restart()
        assert_stored(data, client.wait().upload_id, file)
    assert len(server.requests("POST")) == 1
