"""Stock tus-js-client against finishes that fail, take long, or are refused: never a success without a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.process import HERE, MIB, ClientProcess, Ended, assert_stored
from tests.conftest import Serve
from tests.support.folder import DataFolder, sha256
from tests.support.raw import RawClient
from tests.support.server import ServerProcess
from tests.support.waiting import until

pytestmark = [pytest.mark.clients, pytest.mark.slow]
Source = Callable[[int], Path]
SIZE = 5 * MIB + 1
HOOKED = (str(HERE / "servers" / "hooked.py"),)
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "chunkSize": {"chunkSize": MIB},
    "uploadDataDuringCreation": {"uploadDataDuringCreation": True},
}


def events(server: ServerProcess, name: str) -> list[str]:
    """The ids for which an event was delivered, in order."""
    words = [line.split() for line in server.log.splitlines()]
    return [line[2] for line in words if line[:2] == ["event", name]]


def upload(node: list[str], server: ServerProcess, file: Path, way: str) -> Ended:
    with ClientProcess(node, {"file": str(file), "options": {"endpoint": server.url, **WAYS[way]}}, file.parent) as client:
        return client.wait()


def assert_there_with_one_event(server: ServerProcess, data: DataFolder, ended: Ended, file: Path) -> None:
    """The upload that the client names is the only one, is the file, and was told once."""
    assert_stored(data, ended.upload_id, file)
    until(lambda: data.outbox() == [], "the event is delivered")
    assert events(server, "after_finish") == events(server, "after_create") == data.files() == [ended.upload_id]


TROUBLES = {"fails twice": ("--before-finish", "fails_twice"), "final fdatasync fails": ("--sync-fails-once",)}


@pytest.mark.parametrize("way", ["default", "chunkSize"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_finish_that_fails_for_now_ends_with_the_file_and_one_event(
    serve: Serve, data: DataFolder, source: Source, node: list[str], trouble: str, way: str
) -> None:
    server, file = serve(*TROUBLES[trouble], command=HOOKED), source(SIZE)
    ended = upload(node, server, file, way)
    assert_there_with_one_event(server, data, ended, file)
    assert [answer["status"] for answer in ended.all("answer") if answer["method"] == "PATCH"].count(503) == 1


@pytest.mark.parametrize(("trouble", "orphans"), [("fails twice", [SIZE, SIZE]), ("final fdatasync fails", [0])])
def test_a_creation_whose_finish_fails_is_made_again_by_the_client_and_each_upload_is_finished_once(
    serve: Serve, data: DataFolder, source: Source, node: list[str], trouble: str, orphans: list[int]
) -> None:
    server, file = serve(*TROUBLES[trouble], command=HOOKED), source(SIZE)
    ended = upload(node, server, file, "uploadDataDuringCreation")
    *earlier, last = events(server, "after_create")
    assert last == ended.upload_id
    with RawClient(server.url) as raw:  # the next touch tries the finish again
        assert [raw.head(raw.base + upload_id).offset for upload_id in earlier] == orphans
    until(lambda: data.outbox() == [], "the events are delivered")
    assert sorted(events(server, "after_finish")) == data.files() == sorted([last, *earlier[: orphans.count(SIZE)]])
    assert {sha256(data.content(upload_id)) for upload_id in data.files()} == {sha256(file)}


def test_a_finish_that_takes_twenty_seconds_ends_with_the_file_and_one_event(
    serve: Serve, data: DataFolder, source: Source, node: list[str]
) -> None:
    server, file = serve("--before-finish", "slow", command=HOOKED), source(SIZE)
    assert_there_with_one_event(server, data, upload(node, server, file, "default"), file)


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_finish_ends_with_the_listeners_words_and_no_file(
    serve: Serve, data: DataFolder, source: Source, node: list[str], way: str
) -> None:
    server, file = serve("--before-finish", "refuses", command=HOOKED), source(SIZE)
    ended = upload(node, server, file, way)
    (error,) = ended.all("error")
    assert (ended.status, error["status"], error["text"].strip()) == (1, 422, "this file has a virus")
    assert ended.all("success") == []
    until(lambda: data.uploads() == [], "the upload is discarded")
    assert data.files() == []
    assert events(server, "after_finish") == []
    (created,) = events(server, "after_create")
    with RawClient(server.url) as raw:
        assert raw.head(raw.base + created).status == 404
