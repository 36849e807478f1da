"""The dialect tus 1.0.0: requests that are understood or refused."""

from __future__ import annotations

import pytest

from tusserver.errors import Invalid, MethodNotAllowed, TusError, UnsupportedMediaType, UnsupportedVersion
from tusserver.model import MAX_INTEGER, Limits
from tusserver.protocol import tus1
from tusserver.protocol.command import Append, Create
from tusserver.protocol.headers import build_metadata
from tusserver.protocol.message import Headers, Request

ID = "0123456789abcdef" * 2
OCTETS = ("Content-Type", "application/offset+octet-stream")
FREE = Limits()
Fields = list[tuple[str, str]]


def post(*fields: tuple[str, str], content_length: int | None = 0) -> Request:
    return Request(method="POST", headers=Headers(fields), content_length=content_length)


def patch(*fields: tuple[str, str], content_length: int | None = 5) -> Request:
    return Request(method="PATCH", headers=Headers(fields), upload_id=ID, content_length=content_length)


def asking(method: str, *fields: tuple[str, str], upload_id: str | None = ID) -> Request:
    return Request(method=method, headers=Headers(fields), upload_id=upload_id)


# -- methods


@pytest.mark.parametrize(
    ("method", "header", "counts"),
    [
        ("POST", None, "POST"),
        ("POST", "PATCH", "PATCH"),
        ("POST", "patch", "PATCH"),
        ("GET", " Head ", "HEAD"),
        ("POST", "", "POST"),
        ("POST", "  ", "POST"),
        ("patch", None, "PATCH"),
        ("POST", "options", "OPTIONS"),
        ("POST", "nonsense", "NONSENSE"),
    ],
)
def test_an_override_replaces_the_method(method: str, header: str | None, counts: str) -> None:
    fields = [] if header is None else [("x-http-method-override", header)]
    assert tus1.override(method, Headers(fields)) == counts


@pytest.mark.parametrize(
    ("upload_id", "limits", "names"),
    [
        (None, FREE, {"OPTIONS", "POST"}),
        (ID, FREE, {"OPTIONS", "HEAD", "PATCH", "GET", "DELETE"}),
        (ID, Limits(download=False), {"OPTIONS", "HEAD", "PATCH", "DELETE"}),
        (ID, Limits(terminate="unfinished"), {"OPTIONS", "HEAD", "PATCH", "GET", "DELETE"}),
        (ID, Limits(terminate="none"), {"OPTIONS", "HEAD", "PATCH", "GET"}),
    ],
)
def test_a_url_takes_what_it_can_do_and_names_that_to_who_asks_for_more(upload_id: str | None, limits: Limits, names: set[str]) -> None:
    assert set(tus1.allowed(upload_id, limits)) == names
    for method in ("OPTIONS", "POST", "HEAD", "PATCH", "GET", "DELETE", "PUT", "TRACE", "NONSENSE", ""):
        request = asking(method, upload_id=upload_id)
        if method in names:
            tus1.check_method(request, limits)
        else:
            with pytest.raises(MethodNotAllowed) as caught:
                tus1.check_method(request, limits)
            assert set(caught.value.allow) == names


def test_a_head_that_a_cache_made_a_get_is_answered_also_without_downloads() -> None:
    tus1.check_method(asking("GET", ("Tus-Resumable", "1.0.0")), Limits(download=False))
    with pytest.raises(MethodNotAllowed):
        tus1.check_method(asking("GET", ("Tus-Resumable", "1.0.0"), upload_id=None), FREE)


def test_a_method_that_is_overridden_twice_is_refused() -> None:
    with pytest.raises(Invalid):
        tus1.check_method(asking("PATCH", ("X-HTTP-Method-Override", "PATCH"), ("X-HTTP-Method-Override", "DELETE")), FREE)


# -- version


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "HEAD", "GET"])
def test_our_version_passes(method: str) -> None:
    tus1.check_version(asking(method, ("Tus-Resumable", "1.0.0")))


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_who_only_looks_may_leave_the_version_out(method: str) -> None:
    tus1.check_version(asking(method))


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_who_changes_something_may_not(method: str) -> None:
    with pytest.raises(UnsupportedVersion):
        tus1.check_version(asking(method))


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "HEAD", "GET"])
@pytest.mark.parametrize("version", ["0.2.2", "1.0.1", "1.0", "2.0.0", "", "1.0.0, 1.0.0", "v1.0.0"])
def test_another_version_is_refused(method: str, version: str) -> None:
    with pytest.raises(UnsupportedVersion):
        tus1.check_version(asking(method, ("Tus-Resumable", version)))


@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD", "GET", "DELETE"])
@pytest.mark.parametrize("name", tus1.FIELDS)
def test_no_field_of_tus_comes_twice_whatever_the_method_makes_of_it(method: str, name: str) -> None:
    tus1.check_repeats(asking(method, (name, "1"), ("X-Other", "1"), ("X-Other", "1")))
    with pytest.raises(Invalid, match=name):
        tus1.check_repeats(asking(method, (name, "1"), (name.lower(), "1")))


def test_a_version_that_came_twice_is_refused() -> None:
    with pytest.raises(Invalid):
        tus1.check_version(asking("HEAD", ("Tus-Resumable", "1.0.0"), ("Tus-Resumable", "1.0.0")))


# -- POST

NAME = build_metadata({"filename": "foo.txt"})


@pytest.mark.parametrize(
    ("fields", "content_length", "command"),
    [
        ([("Upload-Length", "0")], 0, Create(length=0)),
        ([("Upload-Length", "100")], 0, Create(length=100)),
        ([("Upload-Length", str(MAX_INTEGER))], 0, Create(length=MAX_INTEGER)),
        ([("Upload-Defer-Length", "1")], 0, Create(length=None)),
        ([("Upload-Length", "5"), ("Upload-Metadata", NAME.raw)], 0, Create(length=5, metadata=NAME)),
        ([("Upload-Length", "5"), ("Upload-Metadata", "")], 0, Create(length=5)),
        ([("Upload-Length", "5"), ("Upload-Metadata", "  ")], 0, Create(length=5)),
        ([("Upload-Length", "5"), OCTETS], 5, Create(length=5, with_body=True, content_length=5)),
        ([("Upload-Length", "5"), OCTETS], None, Create(length=5, with_body=True, content_length=None)),
        ([("Upload-Defer-Length", "1"), OCTETS], 3, Create(length=None, with_body=True, content_length=3)),
        ([("Upload-Length", "5"), OCTETS], 0, Create(length=5)),
        ([("Upload-Length", "5"), ("Content-Type", "application/json")], 0, Create(length=5)),
        ([("Upload-Length", "5"), ("Upload-Checksum", "nonsense")], 0, Create(length=5)),
        ([("Upload-Length", "5"), ("Upload-Offset", "0")], 0, Create(length=5)),
        ([("Upload-Length", "5"), OCTETS, ("Content-Encoding", "identity")], 5, Create(length=5, with_body=True, content_length=5)),
    ],
)
def test_a_creation_is_understood(fields: Fields, content_length: int | None, command: Create) -> None:
    assert tus1.parse_create(post(*fields, content_length=content_length), FREE) == command


@pytest.mark.parametrize(
    ("fields", "content_length", "error"),
    [
        ([], 0, Invalid),
        ([("Upload-Length", "5"), ("Upload-Defer-Length", "1")], 0, Invalid),
        ([("Upload-Defer-Length", "0")], 0, Invalid),
        ([("Upload-Defer-Length", "2")], 0, Invalid),
        ([("Upload-Defer-Length", "")], 0, Invalid),
        ([("Upload-Defer-Length", "true")], 0, Invalid),
        ([("Upload-Length", "5"), ("Upload-Defer-Length", "0")], 0, Invalid),
        ([("Upload-Length", "")], 0, Invalid),
        ([("Upload-Length", "-1")], 0, Invalid),
        ([("Upload-Length", "+5")], 0, Invalid),
        ([("Upload-Length", "5.0")], 0, Invalid),
        ([("Upload-Length", "\u0665")], 0, Invalid),
        ([("Upload-Length", str(MAX_INTEGER + 1))], 0, Invalid),
        ([("Upload-Length", "5"), ("Upload-Length", "5")], 0, Invalid),
        ([("Upload-Defer-Length", "1"), ("Upload-Defer-Length", "1")], 0, Invalid),
        ([("Upload-Length", "5"), ("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "b YQ==")], 0, Invalid),
        ([("Upload-Length", "5"), ("Upload-Metadata", "a !")], 0, Invalid),
        ([("Upload-Length", "5"), ("Upload-Metadata", "a YQ==,a YQ==")], 0, Invalid),
        ([("Upload-Length", "5"), ("Upload-Concat", "partial")], 0, Invalid),
        ([("Upload-Concat", "final;/files/a /files/b")], 0, Invalid),
        ([("Upload-Length", "5")], 5, UnsupportedMediaType),
        ([("Upload-Length", "5")], None, UnsupportedMediaType),
        ([("Upload-Length", "5"), ("Content-Type", "text/plain")], 5, UnsupportedMediaType),
        ([("Upload-Length", "5"), OCTETS, ("Content-Encoding", "gzip")], 5, UnsupportedMediaType),
        ([("Upload-Length", "nonsense")], 5, UnsupportedMediaType),
    ],
)
def test_a_creation_that_breaks_the_rules_is_refused(fields: Fields, content_length: int | None, error: type[TusError]) -> None:
    with pytest.raises(error):
        tus1.parse_create(post(*fields, content_length=content_length), FREE)


def test_metadata_may_have_as_many_bytes_as_the_limits_say() -> None:
    request = post(("Upload-Length", "5"), ("Upload-Metadata", NAME.raw))
    assert tus1.parse_create(request, Limits(max_metadata=len(NAME.raw))).metadata == NAME
    with pytest.raises(Invalid):
        tus1.parse_create(request, Limits(max_metadata=len(NAME.raw) - 1))


# -- PATCH


@pytest.mark.parametrize(
    ("fields", "content_length", "command"),
    [
        ([OCTETS, ("Upload-Offset", "0")], 5, Append(offset=0, content_length=5)),
        ([OCTETS, ("Upload-Offset", "7")], None, Append(offset=7, content_length=None)),
        ([OCTETS, ("Upload-Offset", "7")], 0, Append(offset=7, content_length=0)),
        ([OCTETS, ("Upload-Offset", "7"), ("Upload-Length", "12")], 5, Append(offset=7, length=12, content_length=5)),
        ([OCTETS, ("Upload-Offset", str(MAX_INTEGER))], 5, Append(offset=MAX_INTEGER, content_length=5)),
        ([("Content-Type", "Application/Offset+Octet-Stream"), ("Upload-Offset", "0")], 5, Append(offset=0, content_length=5)),
        ([OCTETS, ("Upload-Offset", "0"), ("Content-Encoding", "Identity")], 5, Append(offset=0, content_length=5)),
        ([OCTETS, ("Upload-Offset", "0"), ("Upload-Checksum", "sha1 nonsense")], 5, Append(offset=0, content_length=5)),
    ],
)
def test_an_append_is_understood(fields: Fields, content_length: int | None, command: Append) -> None:
    assert tus1.parse_append(patch(*fields, content_length=content_length)) == command


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ([("Upload-Offset", "0")], UnsupportedMediaType),
        ([("Upload-Offset", "0"), ("Content-Type", "")], UnsupportedMediaType),
        ([("Upload-Offset", "0"), ("Content-Type", "application/octet-stream")], UnsupportedMediaType),
        ([("Upload-Offset", "0"), ("Content-Type", "application/offset+octet-streams")], UnsupportedMediaType),
        ([("Upload-Offset", "0"), OCTETS, ("Content-Encoding", "gzip")], UnsupportedMediaType),
        ([("Upload-Offset", "0"), OCTETS, ("Content-Encoding", "identity"), ("Content-Encoding", "br")], UnsupportedMediaType),
        ([("Upload-Offset", "0"), OCTETS, OCTETS], Invalid),
        ([OCTETS], Invalid),
        ([OCTETS, ("Upload-Offset", "")], Invalid),
        ([OCTETS, ("Upload-Offset", "-1")], Invalid),
        ([OCTETS, ("Upload-Offset", "0x5")], Invalid),
        ([OCTETS, ("Upload-Offset", "5.0")], Invalid),
        ([OCTETS, ("Upload-Offset", "5"), ("Upload-Offset", "5")], Invalid),
        ([OCTETS, ("Upload-Offset", "0"), ("Upload-Length", "five")], Invalid),
        ([OCTETS, ("Upload-Offset", "0"), ("Upload-Length", "5"), ("Upload-Length", "5")], Invalid),
    ],
)
def test_an_append_that_breaks_the_rules_is_refused(fields: Fields, error: type[TusError]) -> None:
    with pytest.raises(error):
        tus1.parse_append(patch(*fields))


def test_the_type_of_a_body_is_looked_at_before_its_offset() -> None:
    with pytest.raises(UnsupportedMediaType):
        tus1.parse_append(patch(("Upload-Offset", "nonsense")))
