"""Rows of the protocol page that need more than one request, odd bytes or a connection that misbehaves, over a raw socket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.folder import DataFolder
from tests.support.raw import OCTETS, TUS, ConnectionClosed, RawClient, Response, chunked, metadata, request
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.web.test_refusals import LIMIT, NOBODY, SMUGGLED, make, refused

CHUNKED = {"Transfer-Encoding": "chunked"}
LAST = request("OPTIONS", "/files/", {"Connection": "close"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("rows") / "data"
    with ServerProcess(folder, "--max-size", str(LIMIT), "--sweep-interval", "1h").start() as running:
        yield running
        assert "Traceback" not in running.log
        assert " ERROR " not in running.log


@pytest.fixture
def disk(server: ServerProcess) -> DataFolder:
    return DataFolder(server.folder)


def answer_to(server: ServerProcess, message: bytes, method: str = "POST") -> Response:
    with RawClient(server.url) as client:
        client.send(message)
        return client.read(method)


def offset(server: ServerProcess, path: str) -> int | None:
    with RawClient(server.url) as client:
        return client.head(path).offset


def twice(method: str, path: str, name: str, value: str, **others: str) -> bytes:
    head = request(method, path, {**TUS, **others}).removesuffix(b"\r\n")
    return head + f"{name}: {value}\r\n{name}: {value}\r\n\r\n".encode()


# -- every request


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "HEAD", "GET"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upload-Length", "1"),
        ("Upload-Offset", "0"),
        ("Upload-Defer-Length", "1"),
        ("Upload-Metadata", "a YQ=="),
        ("Upload-Checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="),
        ("Upload-Concat", "partial"),
        ("X-HTTP-Method-Override", "DELETE"),
    ],
)
def test_no_field_of_tus_comes_twice_needed_or_not(server: ServerProcess, disk: DataFolder, method: str, name: str, value: str) -> None:
    path = "/files/" if method == "POST" else make(server)
    message = twice(method, path, name, value)
    assert refused(server, disk, message, method).status == 400


@pytest.mark.parametrize(("version", "status"), [("0.2.2", 412), ("1.0.0", 404)])
def test_the_version_comes_before_existence_and_existence_before_the_headers(
    server: ServerProcess, disk: DataFolder, version: str, status: int
) -> None:
    wrong = {"Tus-Resumable": version, "Content-Type": "text/plain", "Upload-Offset": "x"}
    assert refused(server, disk, request("PATCH", NOBODY, wrong, b"x")).status == status
    assert refused(server, disk, request("PUT", NOBODY, wrong, b"x")).status == 405


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("verb", ["patch", "PATCH", " Patch "])
def test_an_overridden_method_does_what_it_says(server: ServerProcess, method: str, verb: str) -> None:
    path = make(server)
    headers = {**TUS, **OCTETS, "Upload-Offset": "0", "X-HTTP-Method-Override": verb}
    answer = answer_to(server, request(method, path, headers, b"abc"), method)
    assert (answer.status, answer.offset) == (204, 3)


def test_an_override_comes_before_the_version_and_the_preflight(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server)
    assert answer_to(server, request("PATCH", path, {"X-HTTP-Method-Override": "options"})).status == 204
    assert answer_to(server, request("POST", path, {"X-HTTP-Method-Override": "HEAD"})).offset == 0
    changing = {"X-HTTP-Method-Override": "PATCH", **OCTETS, "Upload-Offset": "0"}
    assert refused(server, disk, request("GET", path, changing, b"abc")).status == 412


def test_a_head_that_is_overridden_to_a_get_has_no_body(server: ServerProcess) -> None:
    path = make(server, 4, b"data")
    with RawClient(server.url) as client:
        client.send(request("HEAD", path, {"X-HTTP-Method-Override": "GET"}) + LAST)
        assert client.read("HEAD").headers["content-length"] == "4"
        assert client.read("OPTIONS").status == 204


@pytest.mark.parametrize(
    "message",
    [
        b"get /files/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /files/\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /files/ HTTP/1.1\r\nHost: x\r\nUpload-Metadata: a\0b\r\n\r\n",
        b"POST /files/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /files/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST /files/ HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
        b"POST /files/ HTTP/1.1\r\n\r\n",
        b"POST /files/ HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=[
        "lower-case method",
        "NUL in the path",
        "NUL in a field",
        "two lengths",
        "length and chunked",
        "2^64",
        "no host",
        "70,000",
        "no HTTP",
    ],
)
def test_what_is_no_request_is_refused_with_our_header(server: ServerProcess, disk: DataFolder, message: bytes) -> None:
    answer = refused(server, disk, message)
    assert answer.status == 400
    assert "\0" not in answer.text


@pytest.mark.parametrize("path", ["/files", "/files/", "/files//", "/files/.", "/files/..", "/files/%2e%2e/", "/files/?x=y", "/files?x=y"])
@pytest.mark.parametrize("method", ["OPTIONS", "POST", "HEAD", "PATCH", "GET", "DELETE"])
def test_no_spelling_of_a_url_is_redirected(server: ServerProcess, method: str, path: str) -> None:
    answer = answer_to(server, request(method, path, {**TUS, "Upload-Length": "1"}), method)
    assert not 300 <= answer.status < 400
    assert answer.headers["tus-resumable"] == "1.0.0"


@pytest.mark.parametrize("headers", [{"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}, CHUNKED])
def test_a_body_comes_whole_through_an_upgrade_that_is_not_taken_or_in_chunks(server: ServerProcess, headers: dict[str, str]) -> None:
    path = make(server, 20)
    body = chunked(b"0123456789") if headers is CHUNKED else b"0123456789"
    assert answer_to(server, request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "0", **headers}, body)).offset == 10


# -- connections


@pytest.mark.parametrize("refusal", ["404", "409", "413", "415"])
def test_requests_behind_a_small_refused_body_are_answered_and_the_body_is_none_of_them(server: ServerProcess, refusal: str) -> None:
    path = NOBODY if refusal == "404" else make(server)
    headers = {**TUS, **(OCTETS if refusal != "415" else {}), "Upload-Offset": "7" if refusal == "409" else "0"}
    with RawClient(server.url) as client:
        client.send(request("PATCH", path, headers, SMUGGLED * 3) + request("POST", "/files/", {**TUS, "Upload-Length": "1"}) + LAST)
        assert [client.read(method).status for method in ("PATCH", "POST", "OPTIONS")] == [int(refusal), 201, 204]
        assert client.rest() == b""


@pytest.mark.parametrize("at", ["0", "7"])
def test_nothing_behind_a_chunked_body_is_taken_for_a_request(server: ServerProcess, at: str) -> None:
    path = make(server, 100)
    body = chunked(SMUGGLED, end=False) + b"0\r\nX-Trailer: y\r\n\r\n"
    with RawClient(server.url) as client:
        client.send(request("PATCH", path, {**TUS, **OCTETS, **CHUNKED, "Upload-Offset": at}) + body + SMUGGLED)
        assert client.read().status == (204 if at == "0" else 409)
        assert client.rest() == b""


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET", "DELETE"])
def test_a_body_that_nobody_asked_for_is_dropped(server: ServerProcess, method: str) -> None:
    path = make(server, 4, b"data")
    with RawClient(server.url) as client:
        client.send(request(method, path, TUS, SMUGGLED) + LAST)
        assert client.read(method).status in {200, 204}
        assert client.read("OPTIONS").status == 204
        assert client.rest() == b""


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("framing", "body"), [({"Content-Length": "900"}, b"x" * 50), (CHUNKED, b"64\r\n" + b"x" * 50)], ids=["length", "chunked"]
)
def test_a_client_that_says_no_more_is_lost_and_what_it_sent_is_kept(
    server: ServerProcess, disk: DataFolder, method: str, framing: dict[str, str], body: bytes
) -> None:
    known = set(disk.uploads())
    path = make(server, 900) if method == "PATCH" else "/files/"
    headers = {**TUS, **OCTETS, **framing, "Upload-Offset" if method == "PATCH" else "Upload-Length": "0" if method == "PATCH" else "900"}
    with RawClient(server.url) as client:
        client.send(request(method, path, headers) + body)
        until(lambda: bool(set(disk.uploads()) - known), "the upload exists")
        client.half_close()
        assert client.rest() == b""
    (upload_id,) = set(disk.uploads()) - known
    until(lambda: offset(server, f"/files/{upload_id}") == 50, "what came is kept")
    assert answer_to(server, request("DELETE", f"/files/{upload_id}", TUS)).status == 204


@pytest.mark.parametrize("rest", [b"ZZ\r\n", b"2\r\ndefgh\r\n", b"-1\r\n", b"2\r\nde\r\n\r\n\r\n"])
def test_wherever_the_framing_breaks_the_bytes_before_are_kept_and_the_lock_is_free(server: ServerProcess, rest: bytes) -> None:
    path = make(server)
    with RawClient(server.url, timeout=20) as client:
        client.send(request("PATCH", path, {**TUS, **OCTETS, **CHUNKED, "Upload-Offset": "0"}) + b"3\r\nabc\r\n")
        until(lambda: offset(server, path) == 3, "the first chunk is stored")
        client.send(rest)
        client.rest()
    kept = offset(server, path)
    assert kept in {3, 5}
    with RawClient(server.url) as client:
        assert client.patch(path, kept, b"x" * (10 - kept)).status == 204


def test_a_refused_request_that_waits_for_its_100_gets_none_and_the_connection_ends(server: ServerProcess, disk: DataFolder) -> None:
    for headers, status in (({"Upload-Length": "1"}, 415), ({"Upload-Length": "1", **OCTETS}, 413), (OCTETS, 400)):
        before = disk.snapshot()
        with RawClient(server.url) as client:
            client.send(request("POST", "/files/", {**TUS, **headers, "Expect": "100-continue", "Content-Length": "9"}))
            answer = client.read()
            assert (answer.status, answer.interim, client.rest()) == (status, (), b"")
        assert disk.snapshot() == before


def test_a_creation_whose_checks_have_passed_gets_its_100(server: ServerProcess) -> None:
    with RawClient(server.url) as client:
        client.send(request("POST", "/files/", {**TUS, **OCTETS, **CHUNKED, "Upload-Length": "4", "Expect": "100-continue"}))
        client._until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(chunked(b"data"))
        assert (answer := client.read()).status == 201
        assert answer.offset == 4


@pytest.mark.parametrize("status", [400, 413, 415])
def test_a_creation_with_a_large_body_sees_why_it_is_refused(server: ServerProcess, disk: DataFolder, status: int) -> None:
    headers = {**TUS, **(OCTETS if status != 415 else {}), **({"Upload-Length": "1"} if status != 400 else {})}
    before = disk.snapshot()
    with RawClient(server.url) as client:
        client.send(request("POST", "/files/", {**headers, "Content-Length": str(16 * 1024 * 1024)}))
        with contextlib.suppress(OSError):
            for _ in range(16):
                client.send(b"x" * 1024 * 1024)
        answer = client.read()
        assert (answer.status, answer.closed) == (status, True)
        with contextlib.suppress(ConnectionClosed, OSError):
            assert client.rest() == b""
    assert disk.snapshot() == before


# -- creation


def test_an_empty_file_is_complete_at_its_creation(server: ServerProcess, disk: DataFolder) -> None:
    for headers in ({}, OCTETS):
        answer = answer_to(server, request("POST", "/files/", {**TUS, "Upload-Length": "0", **headers}))
        assert answer.status == 201
        assert "upload-expires" not in answer.headers
        assert disk.content(answer.location[-32:]).read_bytes() == b""
        with RawClient(server.url) as client:
            assert client.head(answer.location).offset == 0
            assert (got := client.get(answer.location)).status == 200
            assert got.body == b""


@pytest.mark.parametrize("length", ["4", "10", None])
def test_a_creation_takes_the_first_bytes_along(server: ServerProcess, length: str | None) -> None:
    with RawClient(server.url) as client:
        answer = client.post(None if length is None else int(length), b"data")
        assert (answer.status, answer.offset) == (201, 4)
        head = client.head(answer.location)
        assert (head.status, head.offset, head.headers.get("upload-length")) == (200, 4, length)
        assert ("upload-expires" in head.headers) == (length != "4")


def test_a_chunked_creation_past_its_length_keeps_nothing_of_the_body_and_says_where_the_upload_is(server: ServerProcess) -> None:
    message = request("POST", "/files/", {**TUS, **OCTETS, **CHUNKED, "Upload-Length": "3"}) + chunked(b"ab", b"cd")
    answer = answer_to(server, message)
    assert (answer.status, answer.closed, answer.offset) == (413, True, None)
    assert offset(server, answer.location) == 0


@pytest.mark.parametrize("said", ["", "  "])
def test_empty_metadata_is_none(server: ServerProcess, said: str) -> None:
    with RawClient(server.url) as client:
        answer = client.post(1, Upload_Metadata=said)
        assert answer.status == 201
        assert "upload-metadata" not in client.head(answer.location).headers


def test_sixteen_kibibytes_of_metadata_are_stored_and_one_more_is_refused(server: ServerProcess, disk: DataFolder) -> None:
    most = metadata(a="a" * 12285) + ",b"
    assert len(most) == 16384
    with RawClient(server.url) as client:
        assert client.head(client.post(1, Upload_Metadata=most).location).headers["upload-metadata"] == most
    assert refused(server, disk, request("POST", "/files/", {**TUS, "Upload-Length": "1", "Upload-Metadata": most + "c"})).status == 400


@pytest.mark.parametrize("value", ["\u0665", "5,5", "5;", "0x5", "1e3", "\u00b2"])
def test_a_length_that_is_no_number_of_ascii_digits_is_refused(server: ServerProcess, disk: DataFolder, value: str) -> None:
    said = value.encode().decode("latin-1")
    assert refused(server, disk, request("POST", "/files/", {**TUS, "Upload-Length": said})).status == 400


def test_a_checksum_without_the_extension_is_ignored(server: ServerProcess) -> None:
    with RawClient(server.url) as client:
        path = client.post(4, Upload_Checksum="sha1 !").location
        assert client.patch(path, 0, b"data", Upload_Checksum="nonsense").offset == 4


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "unheard-of", "gzip, identity"])
def test_an_encoded_body_is_refused_before_anybody_unpacks_it(server: ServerProcess, disk: DataFolder, encoding: str) -> None:
    path = make(server, 100)
    headers = {**TUS, **OCTETS, "Content-Encoding": encoding}
    assert refused(server, disk, request("PATCH", path, {**headers, "Upload-Offset": "0"}, b"junk")).status == 415
    assert refused(server, disk, request("POST", "/files/", {**headers, "Upload-Length": "100"}, b"junk")).status == 415


def test_a_body_is_stored_as_it_was_sent_where_the_encoding_is_identity(server: ServerProcess) -> None:
    headers = {**TUS, **OCTETS, "Content-Encoding": "Identity", "Upload-Length": "4"}
    assert answer_to(server, request("POST", "/files/", headers, b"\x1f\x8b\x08\x00")).offset == 4


# -- the limit


def test_a_deferred_upload_ends_at_the_limit(server: ServerProcess, disk: DataFolder) -> None:
    path = make(server, None)
    beyond = b"x" * (LIMIT + 1)
    assert refused(server, disk, request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "0"}, beyond)).status == 413
    answer = answer_to(server, request("PATCH", path, {**TUS, **OCTETS, **CHUNKED, "Upload-Offset": "0"}) + chunked(beyond))
    assert (answer.status, answer.closed, answer.offset) == (413, True, None)
    with RawClient(server.url) as client:
        assert client.head(path).offset == 0
        assert client.patch(path, 0, beyond[1:]).offset == LIMIT
        assert client.patch(path, LIMIT, b"", Upload_Length=str(LIMIT)).status == 204
        assert client.get(path).body == beyond[1:]


def test_a_length_that_comes_with_a_refused_body_is_not_remembered(server: ServerProcess) -> None:
    path = make(server, None)
    with RawClient(server.url) as client:
        assert client.patch(path, 0, b"12345", Upload_Length="4").status == 413
        assert client.patch(path, 1, b"", Upload_Length="4").status == 409
        assert "upload-length" not in client.head(path).headers
        assert client.patch(path, 0, b"12345", Upload_Length="5").offset == 5


# -- HEAD and GET


def test_a_get_that_names_the_version_is_answered_as_a_head(server: ServerProcess, disk: DataFolder) -> None:
    for body in (b"da", b"data"):
        path = make(server, 4, body)
        with RawClient(server.url) as client:
            answer = client.ask("GET", path)
            assert (answer.status, answer.offset, answer.headers["upload-length"], answer.body) == (200, len(body), "4", b"")
            assert answer.headers["cache-control"] == "no-store"
        assert refused(server, disk, request("GET", path, {"Tus-Resumable": "0.2.2"})).status == 412


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "*"}, 304),
        ({"If-Match": '"other"'}, 412),
        ({"If-Modified-Since": "Fri, 31 Dec 9999 23:59:59 GMT"}, 304),
        ({"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 412),
        ({"Range": "bytes=4-"}, 416),
        ({"Range": "bytes=-0"}, 416),
        ({"Range": "bytes=0-" + "9" * 5000}, 200),
    ],
)
def test_a_conditional_get_is_answered_by_the_standard(server: ServerProcess, headers: dict[str, str], status: int) -> None:
    path = make(server, 4, b"data")
    with RawClient(server.url) as client:
        client.send(request("GET", path, {**headers, "Origin": "https://page.example"}) + LAST)
        answer = client.read()
        assert answer.status == status
        assert ("upload-offset" in answer.headers) == (status == 200)
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        assert client.read("OPTIONS").status == 204


@pytest.mark.parametrize("value", ["null", "https://page.example"])
def test_a_private_network_is_granted_to_an_origin_that_may(server: ServerProcess, value: str) -> None:
    answer = answer_to(server, request("OPTIONS", "/files/", {"Origin": value, "Access-Control-Request-Private-Network": "true"}))
    assert answer.headers["access-control-allow-private-network"] == "true"
