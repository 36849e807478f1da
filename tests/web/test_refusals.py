"""Every refusal of the protocol page over a raw socket: the status, the reason, a server that still answers, and a disk that did not change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folder import DataFolder
from tests.support.raw import OCTETS, TUS, RawClient, Response, chunked, request
from tests.support.server import ServerProcess

NOBODY = "/files/" + "0" * 32
LIMIT = 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("rows") / "data"
    with ServerProcess(folder, "--max-size", str(LIMIT), "--sweep-interval", "1h").start() as running:
        yield running


@pytest.fixture
def disk(server: ServerProcess) -> DataFolder:
    return DataFolder(server.folder)


def make(server: ServerProcess, length: int | None = 10, body: bytes = b"", **headers: str) -> str:
    with RawClient(server.url) as client:
        return client.post(length, body, **headers).location


def refused(server: ServerProcess, disk: DataFolder, message: bytes, method: str = "PATCH") -> Response:
    """Send bytes; the answer must be a refusal that left the disk alone and the server alive."""
    before = disk.snapshot()
    with RawClient(server.url) as client:
        client.send(message)
        answer = client.read(method)
    assert 400 <= answer.status < 500
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert ("upload-offset" in answer.headers) == (answer.status == 409)
    if method != "HEAD":
        assert ": " in answer.text
        assert answer.text.count("\n") == 1
    assert str(disk.root) not in answer.text
    assert disk.snapshot() == before
    with RawClient(server.url) as client:
        assert client.ask("OPTIONS").status == 204
    return answer


POSTS: list[tuple[str, dict[str, str], bytes, int]] = [
    ("no length at all", {}, b"", 400),
    ("a length and a deferred one", {"Upload-Length": "1", "Upload-Defer-Length": "1"}, b"", 400),
    ("Upload-Defer-Length that is not 1", {"Upload-Defer-Length": "2"}, b"", 400),
    ("a length over the limit", {"Upload-Length": str(LIMIT + 1)}, b"", 413),
    ("a body of an unknown type", {"Upload-Length": "1", "Content-Type": "text/plain"}, b"x", 415),
    ("a body of no type", {"Upload-Length": "1"}, b"x", 415),
    ("a compressed body", {"Upload-Length": "1", **OCTETS, "Content-Encoding": "gzip"}, b"x", 415),
    ("a body longer than the length", {"Upload-Length": "1", **OCTETS}, b"xy", 413),
    ("Upload-Concat", {"Upload-Length": "1", "Upload-Concat": "partial"}, b"", 400),
    ("another expectation", {"Upload-Length": "1", "Expect": "miracles"}, b"", 417),
    *((f"the length {value!r}", {"Upload-Length": value}, b"", 400) for value in ("+5", "-1", "5.0", "0x5", "", "1 2", "9223372036854775808")),
    *(
        (f"the metadata {value!r}", {"Upload-Length": "1", "Upload-Metadata": value}, b"", 400)
        for value in ("a !", "a YQ==,a YQ==", ",", "a YQ==,,b YQ==", "k\u00e4y YQ==", "a " + "A" * 16384)
    ),
]


@pytest.mark.parametrize(("what", "headers", "body", "status"), POSTS, ids=[what for what, *_ in POSTS])
def test_a_creation_is_refused(
    server: ServerProcess, disk: DataFolder, what: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    assert refused(server, disk, request("POST", "/files/", {**TUS, **headers}, body)).status == status


PATCHES: list[tuple[str, dict[str, str], bytes, int]] = [
    ("of no type", {"Upload-Offset": "4"}, b"x", 415),
    ("of another type", {"Upload-Offset": "4", "Content-Type": "application/octet-stream"}, b"x", 415),
    ("that is compressed", {"Upload-Offset": "4", **OCTETS, "Content-Encoding": "br"}, b"x", 415),
    ("without an offset", OCTETS, b"x", 400),
    ("at a later offset", {"Upload-Offset": "5", **OCTETS}, b"x", 409),
    ("at an earlier offset", {"Upload-Offset": "0", **OCTETS}, b"x", 409),
    ("that is too long", {"Upload-Offset": "4", **OCTETS}, b"1234567", 413),
    ("with another length", {"Upload-Offset": "4", "Upload-Length": "11", **OCTETS}, b"x", 400),
    *((f"at the offset {value!r}", {"Upload-Offset": value, **OCTETS}, b"x", 400) for value in ("+4", "4.0", "0x4", "", "\u0664")),
]


@pytest.mark.parametrize(("what", "headers", "body", "status"), PATCHES, ids=[what for what, *_ in PATCHES])
def test_a_patch_is_refused(
    server: ServerProcess, disk: DataFolder, what: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    path = make(server, 10, b"1234")
    answer = refused(server, disk, request_utf8("PATCH", path, {**TUS, **headers}, body))
    assert answer.status == status
    if status == 409:
        assert answer.offset == 4


def request_utf8(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request whose fields may hold anything."""
    latin = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    return request(method, path, latin, body)


def test_a_field_of_tus_that_comes_twice_is_refused(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server)
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nContent-Type: {OCTETS['Content-Type']}\r\nContent-Length: 0\r\n"
    assert refused(server, disk, f"{head}Upload-Offset: 0\r\nUpload-Offset: 0\r\n\r\n".encode()).status == 400
    assert refused(server, disk, f"{head}Upload-Offset: 0\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()).status == 400


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0", "1.0.1", ""])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_another_version_is_refused_before_anything_else(
    server: ServerProcess, disk: DataFolder, method: str, version: str | None
) -> None:
    path = "/files/" if method == "POST" else NOBODY
    answer = refused(server, disk, request(method, path, {} if version is None else {"Tus-Resumable": version}, b""))
    assert (answer.status, answer.headers["tus-version"]) == (412, "1.0.0")


def test_head_may_leave_the_version_out_but_not_name_another(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server)
    with RawClient(server.url) as client:
        client.send(request("HEAD", path))
        assert client.read("HEAD").status == 200
    assert refused(server, disk, request("HEAD", path, {"Tus-Resumable": "0.2.2"}), "HEAD").status == 412


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        *((method, "/files/", "OPTIONS, POST") for method in ("GET", "PATCH", "DELETE", "PUT", "BREW")),
        *((method, NOBODY, "OPTIONS, HEAD, PATCH, GET, DELETE") for method in ("POST", "PUT", "BREW")),
    ],
)
def test_a_method_that_is_not_for_this_url_is_refused(
    server: ServerProcess, disk: DataFolder, method: str, path: str, allow: str
) -> None:
    answer = refused(server, disk, request("PATCH" if method == "BREW" else method, path, {**TUS, "X-HTTP-Method-Override": method}))
    assert answer.status == 405
    assert sorted(answer.headers["allow"].split(", ")) == sorted(allow.split(", "))


@pytest.mark.parametrize(
    "tail",
    [
        "0" * 32,
        "0" * 31,
        "0" * 33,
        "F" * 32,
        "../x",
        "..",
        "%2e%2e%2f" + "0" * 32,
        "%00",
        "0" * 31 + "%00",
        "x" * 10_000,
        "0" * 32 + "/",
        "0" * 32 + "/content",
        "00/" + "0" * 32,
    ],
)
@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
def test_an_id_of_another_shape_is_not_found(server: ServerProcess, disk: DataFolder, method: str, tail: str) -> None:
    headers = {**TUS, **(OCTETS if method == "PATCH" else {}), "Upload-Offset": "0"}
    assert refused(server, disk, request(method, "/files/" + tail, headers), method).status == 404


def test_a_chunked_body_past_the_length_is_refused_and_nothing_of_it_is_kept(server: ServerProcess) -> None:
    path = make(server, 10, b"1234")
    with RawClient(server.url) as client:
        head = request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "4", "Transfer-Encoding": "chunked"})
        client.send(head + chunked(b"56789", b"0", b"x"))
        answer = client.read()
        assert (answer.status, answer.closed, answer.offset) == (413, True, None)
    with RawClient(server.url) as client:
        assert client.head(path).offset == 4
        assert client.patch(path, 4, b"567890").status == 204


def test_a_chunked_body_that_fits_is_stored_and_the_connection_ends(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server, 10)
    with RawClient(server.url) as client:
        head = request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "0", "Transfer-Encoding": "chunked"})
        client.send(head + chunked(*(bytes([byte]) for byte in b"0123456789")))
        answer = client.read()
        assert (answer.status, answer.offset) == (204, 10)
        assert client.rest() == b""
    assert disk.content(path[-32:]).read_bytes() == b"0123456789"


def test_broken_framing_ends_the_connection_and_what_came_before_is_kept(server: ServerProcess) -> None:
    path = make(server, 10)
    with RawClient(server.url, timeout=20) as client:
        head = request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "0", "Transfer-Encoding": "chunked"})
        client.send(head + b"3\r\nabc\r\n")
        with RawClient(server.url) as poller:
            while poller.head(path).offset != 3:
                time.sleep(0.01)
        client.send(b"ZZ\r\n")
        client.rest()
    with RawClient(server.url) as client:
        assert client.head(path).offset == 3


@pytest.mark.parametrize("end", ["half_close", "reset"])
def test_a_connection_that_breaks_off_in_the_body_keeps_what_arrived(server: ServerProcess, end: str) -> None:
    path = make(server, 900)
    with RawClient(server.url) as client:
        client.send(request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "0", "Content-Length": "900"}) + b"x" * 500)
        with RawClient(server.url) as poller:
            while end == "reset" and poller.head(path).offset != 500:
                time.sleep(0.01)
        getattr(client, end)()
    with RawClient(server.url) as client:
        while client.head(path).offset != 500:
            time.sleep(0.01)
        assert client.patch(path, 500, b"x" * 400).status == 204


def test_a_body_without_a_byte_for_too_long_is_closed_without_an_answer(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", "--network-timeout", "0.3s").start() as server:
        path = make(server, 10)
        with RawClient(server.url) as client:
            client.send(request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "0", "Content-Length": "10"}) + b"01234")
            assert client.rest() == b""
        with RawClient(server.url) as client:
            assert client.head(path).offset == 5
            assert client.patch(path, 5, b"56789").status == 204


def test_the_hundred_goes_out_only_after_the_checks(server: ServerProcess) -> None:
    path = make(server, 10)
    head = {**TUS, **OCTETS, "Expect": "100-continue", "Content-Length": "10"}
    with RawClient(server.url) as client:
        client.send(request("PATCH", path, {**head, "Upload-Offset": "3"}))
        answer = client.read()
        assert (answer.status, answer.interim, client.rest()) == (409, (), b"")
    with RawClient(server.url) as client:
        client.send(request("PATCH", path, {**head, "Upload-Offset": "0"}))
        client._until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"0123456789")
        assert client.read().status == 204


SMUGGLED = b"GET /files/ HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_small_body_of_a_refused_request_is_dropped_and_the_connection_goes_on(server: ServerProcess) -> None:
    with RawClient(server.url) as client:
        for _ in range(3):
            assert client.patch(NOBODY, 0, SMUGGLED * 100).status == 404
        assert client.post(1).status == 201


@pytest.mark.parametrize("status", [404, 409, 415])
def test_a_large_body_does_not_hide_the_refusal_and_is_never_taken_for_a_request(server: ServerProcess, status: int) -> None:
    path = NOBODY if status == 404 else make(server, 10)
    headers = {**TUS, **(OCTETS if status != 415 else {}), "Upload-Offset": "7", "Content-Length": str(64 * 1024 * 1024)}
    with RawClient(server.url) as client:
        client.send(request("PATCH", path, headers))
        try:
            for _ in range(64):
                client.send(SMUGGLED * (1024 * 1024 // len(SMUGGLED)))
        except OSError:
            pass  # the server has closed
        answer = client.read()
        assert (answer.status, answer.closed) == (status, True)
        assert client._buffer == b""


def test_a_finished_upload_takes_nothing_more(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server, 4, b"data")
    with RawClient(server.url) as client:
        again = client.patch(path, 4, b"")
        assert (again.status, again.offset) == (204, 4)
    assert refused(server, disk, request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "4"}, b"x")).status == 413
    answer = refused(server, disk, request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "0"}, b"data"))
    assert (answer.status, answer.offset) == (409, 4)
    with RawClient(server.url) as client:
        head = request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "4", "Transfer-Encoding": "chunked"})
        client.send(head + chunked())
        assert client.read().status == 204
    with RawClient(server.url) as client:
        client.send(head + chunked(b"x"))
        assert client.read().status == 413
    assert disk.content(path[-32:]).read_bytes() == b"data"
