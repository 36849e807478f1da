"""What the protocol page promises beside refusals, over a raw socket against a server process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folder import DataFolder
from tests.support.raw import OCTETS, TUS, RawClient, chunked, metadata, request
from tests.support.server import ServerProcess
from tests.web.test_refusals import LIMIT, NOBODY, make, refused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("rows") / "data"
    with ServerProcess(folder, "--max-size", str(LIMIT), "--sweep-interval", "1h").start() as running:
        yield running


@pytest.fixture
def disk(server: ServerProcess) -> DataFolder:
    return DataFolder(server.folder)


def test_a_deferred_length_is_declared_once(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server, None)
    with RawClient(server.url) as client:
        head = client.head(path)
        assert (head.headers["upload-defer-length"], "upload-length" in head.headers) == ("1", False)
        assert client.patch(path, 0, b"1234").offset == 4
        for bad, status in (("3", 400), (str(LIMIT + 1), 413), ("x", 400)):
            assert client.patch(path, 4, b"", Upload_Length=bad).status == status
            assert "upload-length" not in client.head(path).headers
        assert client.patch(path, 4, b"5", Upload_Length="6").offset == 5
        assert client.patch(path, 5, b"", Upload_Length="6").status == 204
        assert client.patch(path, 5, b"", Upload_Length="7").status == 400
        assert client.head(path).headers["upload-length"] == "6"
        assert client.patch(path, 5, b"6").status == 204
    assert disk.content(path[-32:]).read_bytes() == b"123456"


def test_a_length_that_came_with_a_refused_body_is_not_kept(server: ServerProcess) -> None:
    path = make(server, None)
    with RawClient(server.url) as client:
        fields = {**TUS, **OCTETS, "Upload-Offset": "0", "Upload-Length": "3", "Transfer-Encoding": "chunked"}
        client.send(request("PATCH", path, fields) + chunked(b"12", b"34"))
        assert client.read().status == 413
    with RawClient(server.url) as client:
        head = client.head(path)
        assert (head.offset, head.headers["upload-defer-length"], "upload-length" in head.headers) == (0, "1", False)


def test_a_length_that_equals_the_offset_finishes_a_deferred_upload(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server, None)
    with RawClient(server.url) as client:
        assert client.patch(path, 0, b"1234").status == 204
        assert client.patch(path, 4, b"", Upload_Length="4").status == 204
    assert disk.content(path[-32:]).read_bytes() == b"1234"


@pytest.mark.parametrize("path", ["/files", "/files/"])
def test_both_spellings_of_the_creation_url_answer_without_a_redirect(server: ServerProcess, path: str) -> None:
    with RawClient(server.url) as client:
        assert client.ask("POST", path, {"Upload-Length": "1"}).location.startswith("/files/")
        assert client.ask("OPTIONS", path).status == 204


def test_options_tells_what_the_server_can_do(server: ServerProcess) -> None:
    with RawClient(server.url) as client:
        for path in ("/files/", NOBODY):
            client.send(request("OPTIONS", path))
            answer = client.read("OPTIONS")
            assert answer.status == 204
            assert answer.headers["tus-version"] == "1.0.0"
            assert answer.headers["tus-max-size"] == str(LIMIT)
            assert answer.headers["tus-extension"] == "creation,creation-with-upload,creation-defer-length,termination,expiration"


def test_what_is_switched_off_stays_off_and_is_not_advertised(tmp_path: Path) -> None:
    flags = ("--disable-termination", "--disable-download", "--expire-after", "0")
    with ServerProcess(tmp_path / "data", *flags).start() as server, RawClient(server.url) as client:
        assert client.ask("OPTIONS").headers["tus-extension"] == "creation,creation-with-upload,creation-defer-length"
        path = client.post(4, b"data").location
        assert client.delete(path).status == 405
        assert client.ask("POST", path, {"X-HTTP-Method-Override": "DELETE"}).status == 405
        assert client.get(path).status == 405
        assert "upload-expires" not in client.head(client.post(4).location).headers


def test_finished_uploads_alone_can_be_kept_from_deletion(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", "--disable-termination=finished").start() as server, RawClient(server.url) as client:
        assert client.delete(client.post(4).location).status == 204
        assert client.delete(client.post(4, b"data").location).status == 403


def test_a_delete_removes_and_a_second_finds_nothing(server: ServerProcess, disk: DataFolder) -> None:
    for body in (b"", b"data"):
        path = make(server, 4, body)
        with RawClient(server.url) as client:
            assert client.delete(path).status == 204
            assert client.delete(path).status == 404
            assert client.head(path).status == 404
            assert client.ask("POST", make(server), {"X-HTTP-Method-Override": "delete"}).status == 204
        assert path[-32:] not in disk.uploads() + disk.files()


def test_an_unfinished_upload_expires_and_a_finished_one_does_not(tmp_path: Path) -> None:
    disk = DataFolder(tmp_path / "data")
    with ServerProcess(disk.root, "--expire-after", "1s", "--sweep-interval", "5ms").start() as server, RawClient(server.url) as client:
        done, touched, swept = client.post(4, b"data"), client.post(4, b"da"), client.post(4)
        assert "upload-expires" not in done.headers
        assert touched.headers["upload-expires"].endswith("GMT")
        while client.head(touched.location).status == 200:
            time.sleep(0.05)
        assert client.patch(touched.location, 2, b"ta").status == 404
        while disk.uploads() or disk.trash():
            time.sleep(0.05)
        assert client.head(swept.location).status == 404
        assert client.head(done.location).offset == 4


NAMES = ["a" * 255, "\u6587\u4ef6" * 60 + ".txt", "upload.json", "..", "a/b", "a\x01\x7f\nb", 'q"uo\\te.txt', "na\u00efve \u20ac.txt", ""]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_file_of_any_name_comes_back_under_a_safe_one(server: ServerProcess, disk: DataFolder, name: str) -> None:
    said = metadata(filename=name)
    path = make(server, 4, b"data", Upload_Metadata=said)
    with RawClient(server.url) as client:
        assert client.head(path).headers["upload-metadata"] == said.strip()
        answer = client.get(path)
    assert answer.body == b"data"
    shown = answer.headers["content-disposition"]
    assert shown.startswith("attachment")
    assert not set("/\x01\x7f\n") & set(shown)
    assert sorted(entry.name for entry in disk.file(path[-32:]).iterdir()) == ["content", "upload.json"]


def test_a_download_takes_ranges(server: ServerProcess) -> None:
    path = make(server, 10, b"0123456789")
    with RawClient(server.url) as client:
        whole = client.get(path)
        assert (whole.status, whole.body) == (200, b"0123456789")
        assert whole.headers["x-content-type-options"] == "nosniff"
        assert (whole.headers["cache-control"], whole.offset) == ("private, no-cache", 10)
        etag = whole.headers["etag"]
        part = client.get(path, Range="bytes=2-4")
        assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        assert client.get(path, Range="bytes=-3").body == b"789"
        assert client.get(path, Range="bytes=2-4", If_Range=etag).status == 206
        for fields in ({"If_Range": '"other"'}, {"If_Range": "W/" + etag}):
            assert client.get(path, Range="bytes=2-4", **fields).body == b"0123456789"
        for junk in ("bytes=0-1,3-4", "bytes=4-2", "lines=1-2", "bytes=x"):
            assert client.get(path, Range=junk).status == 200
        beyond = client.get(path, Range="bytes=10-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */10")
        assert beyond.text.startswith("range_not_satisfiable: ")
        client.send(request("GET", path, {"If-None-Match": etag}))
        assert client._head()[0] == 304
        assert client.ask("GET", path).headers["upload-length"] == "10"


def test_an_unfinished_upload_cannot_be_downloaded_and_says_how_far_it_is(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server, 10, b"0123")
    answer = refused(server, disk, request("GET", path))
    assert (answer.status, answer.offset, answer.headers["cache-control"]) == (409, 4, "no-store")


def test_head_says_what_post_said_and_is_not_cached(server: ServerProcess) -> None:
    said = "filename ZmlsZQ==,empty"
    path = make(server, 10, Upload_Metadata=said)
    with RawClient(server.url) as client:
        head = client.head(path)
    assert (head.status, head.offset, head.headers["upload-length"]) == (200, 0, "10")
    assert head.headers["upload-metadata"] == said
    assert head.headers["cache-control"] == "no-store"
    assert "upload-expires" in head.headers


@pytest.mark.parametrize(
    ("flags", "headers", "location"),
    [
        ((), {"X-Forwarded-Host": "evil.example"}, "/files/"),
        (("--public-url", "https://up.example.com/x"), {}, "https://up.example.com/x/files/"),
        (("--behind-proxy",), {"X-Forwarded-Host": "up.example.com", "X-Forwarded-Proto": "https"}, "https://up.example.com/files/"),
        (("--behind-proxy",), {"X-Forwarded-Host": "a b", "X-Forwarded-Prefix": "/api"}, "/api/files/"),
    ],
)
def test_location_is_what_the_client_can_reach(tmp_path: Path, flags: tuple[str, ...], headers: dict[str, str], location: str) -> None:
    with ServerProcess(tmp_path / "data", *flags).start() as server, RawClient(server.url) as client:
        answer = client.ask("POST", None, {"Upload-Length": "1", **headers})
        assert answer.headers["location"][:-32] == location


def test_cors_is_on_every_answer_errors_included(server: ServerProcess) -> None:
    page = {"Origin": "https://page.example"}
    with RawClient(server.url) as client:
        for method, path in (("OPTIONS", "/files/"), ("HEAD", NOBODY), ("PUT", "/files/"), ("POST", "/files/")):
            answer = client.ask(method, path, page)
            assert answer.headers["access-control-allow-origin"] == "https://page.example", method
            assert answer.headers["vary"] == "Origin"
            assert "Retry-After" in answer.headers["access-control-expose-headers"]
        preflight = client.ask("OPTIONS", None, {**page, "Access-Control-Request-Method": "PATCH"})
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-max-age"] == "86400"


def test_cors_can_be_switched_off(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", "--disable-cors").start() as server, RawClient(server.url) as client:
        assert not [name for name in client.ask("OPTIONS", None, {"Origin": "https://a.example"}).headers if name.startswith("access-")]
