"""tus-js-client 4.3.1 in Node."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.process import MIB, ClientProcess, assert_stored, kill_midway
from tests.conftest import Serve
from tests.support.folder import DataFolder
from tests.support.raw import RawClient
from tests.support.relay import SlowLine

pytestmark = pytest.mark.clients
Source = Callable[[int], Path]
SIZE = 10 * MIB + 1
NAMES = {"polish": "Zażółć gęślą jaźń.txt", "chinese": "可續傳的上傳檔案.txt"}


@pytest.fixture
def tus_js(node: list[str], tmp_path: Path) -> Callable[..., ClientProcess]:
    """Starts an upload with tus-js-client."""

    def start(url: str, file: Path, *, options: dict[str, Any] | None = None, **job: Any) -> ClientProcess:
        return ClientProcess(node, {"file": str(file), "options": {"endpoint": url, **(options or {})}, **job}, tmp_path)

    return start


TusJs = Callable[..., ClientProcess]
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "chunkSize": {"options": {"chunkSize": MIB}},
    "uploadDataDuringCreation": {"options": {"uploadDataDuringCreation": True}},
    "uploadDataDuringCreation in chunks": {"options": {"uploadDataDuringCreation": True, "chunkSize": 3 * MIB}},
    "uploadLengthDeferred": {"stream": True, "options": {"uploadLengthDeferred": True, "chunkSize": MIB}},
    "overridePatchMethod": {"options": {"overridePatchMethod": True, "chunkSize": 4 * MIB}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, SIZE])
def test_a_file_arrives_and_its_progress_reaches_the_total(
    serve: Serve, data: DataFolder, source: Source, tus_js: TusJs, way: str, size: int
) -> None:
    server, file = serve(), source(size)
    with tus_js(server.url, file, **WAYS[way]) as client:
        ended = client.wait()
    assert_stored(data, ended.upload_id, file)
    assert ended.all("progress") == [{"event": "progress", "sent": size, "total": size}]
    assert {answer["status"] for answer in ended.all("answer")} <= {201, 204}


@pytest.mark.parametrize(
    ("way", "methods"),
    [
        ("default", ["POST", "PATCH"]),
        ("uploadDataDuringCreation", ["POST"]),
        ("uploadDataDuringCreation in chunks", ["POST", "PATCH", "PATCH", "PATCH"]),
        ("overridePatchMethod", ["POST", "POST", "POST", "POST"]),
    ],
)
def test_no_request_is_sent_twice(
    serve: Serve, data: DataFolder, source: Source, tus_js: TusJs, way: str, methods: list[str]
) -> None:
    server, file = serve(), source(SIZE)
    with tus_js(server.url, file, **WAYS[way]) as client:
        ended = client.wait()
    assert_stored(data, ended.upload_id, file)
    assert [answer["method"] for answer in ended.all("answer")] == methods


def test_an_empty_file_is_there_after_its_creation(serve: Serve, data: DataFolder, source: Source, tus_js: TusJs) -> None:
    server, file = serve(), source(0)
    with tus_js(server.url, file) as client:
        assert_stored(data, client.wait().upload_id, file)


def test_metadata_comes_back_unchanged_from_head(serve: Serve, data: DataFolder, source: Source, tus_js: TusJs) -> None:
    server, file = serve(), source(1)
    with tus_js(server.url, file, options={"metadata": NAMES}) as client:
        upload_id = client.wait().upload_id
    with RawClient(server.url) as raw:
        pairs = raw.head(f"{raw.base}{upload_id}").headers["upload-metadata"].split(",")
    assert {key: base64.b64decode(value).decode() for key, value in (pair.split(" ") for pair in pairs)} == NAMES
    assert_stored(data, upload_id, file)


def test_after_abort_a_new_start_goes_on_where_it_was(serve: Serve, data: DataFolder, source: Source, tus_js: TusJs) -> None:
    server, file = serve(), source(SIZE)
    with SlowLine(server.url, 10 * MIB) as line, tus_js(line.url, file, abortAt=5 * MIB) as client:
        ended = client.wait()
    assert_stored(data, ended.upload_id, file)
    assert len(ended.all("aborted")) == 1
    assert len(server.requests("POST")) == 1


def test_abort_true_removes_the_upload(serve: Serve, data: DataFolder, source: Source, tus_js: TusJs) -> None:
    server, file = serve(), source(SIZE)
    with SlowLine(server.url, 10 * MIB) as line, tus_js(line.url, file, abortAt=5 * MIB, terminate=True) as client:
        ended = client.wait()
    (aborted,) = ended.all("aborted")
    with RawClient(server.url) as raw:
        assert raw.head(raw.base + aborted["url"].rsplit("/", 1)[1]).status == 404
    assert [answer["status"] for answer in ended.all("answer") if answer["method"] == "DELETE"] == [204]
    assert data.uploads() == data.files() == []


def test_a_new_process_finds_the_previous_upload_and_goes_on_with_it(
    serve: Serve, data: DataFolder, source: Source, tus_js: TusJs, tmp_path: Path
) -> None:
    server, file, store = serve(), source(SIZE), str(tmp_path / "urls.json")
    with SlowLine(server.url, 5 * MIB) as line:
        with tus_js(line.url, file, store=store) as client:
            kill_midway(client, line, data, 3 * MIB)
        with tus_js(line.url, file, store=store, resume=True) as client:
            ended = client.wait()
    assert_stored(data, ended.upload_id, file)
    assert [found["url"] for found in ended.all("found")] == [ended.all("success")[0]["url"]]
    assert [answer["method"] for answer in ended.all("answer")] == ["HEAD", "PATCH"]
    assert len(server.requests("POST")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill9", "sigterm"])
@pytest.mark.parametrize("way", ["default", "chunkSize"])
def test_its_default_retries_survive_three_restarts_of_the_server(
    serve: Serve, data: DataFolder, source: Source, tus_js: TusJs, how: str, way: str
) -> None:
    server, file = serve(), source(SIZE)
    with SlowLine(server.url, 4 * MIB) as line, tus_js(line.url, file, **WAYS[way]) as client:
        for arrived in (2, 4, 6):
            client.wait_for_bytes(data, arrived * MIB)
            getattr(server, how)()
            server.wait()
            server.restart()
        ended = client.wait()
    assert_stored(data, ended.upload_id, file)
    assert len(server.requests("POST")) == 1
