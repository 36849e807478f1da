"""Where clients are told that an upload is, as tables of what a proxy says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusserver.protocol.location import base_url, parse_forwarded, upload_url
from tusserver.protocol.message import Headers


def base(
    *fields: tuple[str, str], public_url: str | None = None, behind_proxy: bool = True, scheme: str = "http", mount: str = "/files/"
) -> str:
    return base_url(Headers(fields), mount=mount, public_url=public_url, behind_proxy=behind_proxy, scheme=scheme)


def forwarded(**values: str) -> list[tuple[str, str]]:
    """X-Forwarded-* fields."""
    return [(f"X-Forwarded-{name.capitalize()}", value) for name, value in values.items()]


def test_an_upload_lies_below_its_creation() -> None:
    assert upload_url("/files/", "ab" * 16) == "/files/" + "ab" * 16


def test_a_location_is_path_absolute_whatever_a_stranger_says() -> None:
    fields = [("Host", "evil.example"), ("Forwarded", "host=evil.example"), *forwarded(host="evil.example", proto="https", prefix="/evil")]
    assert base(*fields, behind_proxy=False) == "/files/"


@pytest.mark.parametrize(
    ("public_url", "mount", "expected"),
    [
        ("https://up.example", "/files/", "https://up.example/files/"),
        ("https://up.example/", "/files/", "https://up.example/files/"),
        ("https://up.example:8443/store", "/files/", "https://up.example:8443/store/files/"),
        ("https://up.example/store/", "/", "https://up.example/store/"),
        ("http://[::1]:8080", "/", "http://[::1]:8080/"),
    ],
)
def test_the_url_that_the_operator_set_is_the_start(public_url: str, mount: str, expected: str) -> None:
    assert base(public_url=public_url, mount=mount) == expected


def test_the_url_that_the_operator_set_beats_a_proxy() -> None:
    assert base(*forwarded(host="proxy.example"), public_url="https://up.example") == "https://up.example/files/"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], "/files/"),
        (forwarded(proto="https"), "/files/"),
        (forwarded(port="8443"), "/files/"),
        (forwarded(host="up.example"), "http://up.example/files/"),
        (forwarded(host="up.example", proto="https"), "https://up.example/files/"),
        (forwarded(host="up.example", proto="HTTPS"), "https://up.example/files/"),
        (forwarded(host="up.example:8443", proto="https"), "https://up.example:8443/files/"),
        (forwarded(host="up.example", proto="https", port="8443"), "https://up.example:8443/files/"),
        (forwarded(host="up.example:9000", proto="https", port="8443"), "https://up.example:9000/files/"),
        (forwarded(host="up.example", proto="https", port="443"), "https://up.example/files/"),
        (forwarded(host="up.example:443", proto="https"), "https://up.example/files/"),
        (forwarded(host="up.example:80", proto="http"), "http://up.example/files/"),
        (forwarded(host="up.example:80", proto="https"), "https://up.example:80/files/"),
        (forwarded(host="up.example, inner.example", proto="https, http"), "https://up.example/files/"),
        (forwarded(host="up.example", prefix="/store"), "http://up.example/store/files/"),
        (forwarded(host="up.example", prefix="/store/"), "http://up.example/store/files/"),
        (forwarded(host="up.example", prefix="/"), "http://up.example/files/"),
        (forwarded(prefix="/store/a"), "/store/a/files/"),
        (forwarded(host="[2001:db8::1]:8080"), "http://[2001:db8::1]:8080/files/"),
        (forwarded(host="[::1]"), "http://[::1]/files/"),
        (forwarded(host="192.0.2.7"), "http://192.0.2.7/files/"),
        (forwarded(host="service_1"), "http://service_1/files/"),
        (forwarded(host="up.example."), "http://up.example./files/"),
        ([("Forwarded", "for=192.0.2.7;proto=https;host=up.example")], "https://up.example/files/"),
        ([("Forwarded", 'host="up.example:8443";proto=https')], "https://up.example:8443/files/"),
        ([("Forwarded", 'Host=up.example; PROTO="https"')], "https://up.example/files/"),
        ([("Forwarded", "host=up.example;proto=https, host=inner.example")], "https://up.example/files/"),
        ([("Forwarded", "host=up.example"), ("Forwarded", "host=inner.example")], "http://up.example/files/"),
    ],
)
def test_a_proxy_that_may_be_believed_is(fields: list[tuple[str, str]], expected: str) -> None:
    assert base(*fields) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("host=up.example;proto=https", "https://up.example/files/"),
        ("host=up.example", "http://up.example/files/"),
        ("proto=https", "https://other.example:9000/files/"),
        ("for=192.0.2.7", "http://other.example:9000/files/"),
        ("host=up.example;;", "http://other.example:9000/files/"),
        ('host="a/b";proto=https', "https://other.example:9000/files/"),
    ],
)
def test_forwarded_wins_in_what_it_says_and_is_valid(value: str, expected: str) -> None:
    assert base(("Forwarded", value), *forwarded(host="other.example", port="9000", proto="http")) == expected


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_scheme_is_that_of_the_request_where_no_valid_one_is_named(scheme: str) -> None:
    for fields in (
        forwarded(host="up.example"),
        forwarded(host="up.example", proto="javascript"),
        forwarded(host="up.example", proto="https:"),
    ):
        assert base(*fields, scheme=scheme) == f"{scheme}://up.example/files/"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example/path",
        "user@evil.example",
        "evil.example?x",
        "evil.example#x",
        "evil example",
        "evil\\example",
        "evil.example:",
        "evil.example:port",
        "evil.example:0",
        "evil.example:65536",
        "evil.example:123456",
        "evil.example\r\nSet-Cookie: a=b",
        "-evil.example",
        "[::1",
        "::1",
        "żółw.example",
        '"',
        "",
        "..",
    ],
)
def test_a_host_that_is_no_authority_is_ignored(host: str) -> None:
    assert base(*forwarded(host=host, proto="https", prefix="/store")) == "/store/files/"


@pytest.mark.parametrize(
    "prefix",
    ["//evil.example", "store", "/a b", "/a?b", "/a#b", "/a\\b", "/a\r\nb", "/ż", "https://evil.example", "/..", "/a/../b", "/./a"],
)
def test_a_prefix_that_is_no_path_is_ignored(prefix: str) -> None:
    assert base(*forwarded(host="up.example", prefix=prefix)) == "http://up.example/files/"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "\uff18\uff10", "80 80", "", "999999"])
def test_a_port_that_is_none_is_ignored(port: str) -> None:
    assert base(*forwarded(host="up.example", port=port)) == "http://up.example/files/"


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        ("", {}),
        ("for=a", {"for": "a"}),
        ("FOR=a;Host=b", {"for": "a", "host": "b"}),
        ('for="[2001:db8::1]:80";by=c', {"for": "[2001:db8::1]:80", "by": "c"}),
        (r'host="a\"b"', {"host": 'a"b'}),
        (r'host="a\\",host=b', {"host": "a\\"}),
        ('host="a,b", host=c', {"host": "a,b"}),
        (" host=a ; proto=https , host=b", {"host": "a", "proto": "https"}),
        ("host", {}),
        ("host=", {}),
        ("host=a;", {}),
        ("host=a b", {}),
        ('host="a', {}),
        (";host=a", {}),
        (", host=a", {}),
    ],
)
def test_the_first_element_of_forwarded_is_read_and_a_malformed_one_is_nothing(value: str, pairs: dict[str, str]) -> None:
    assert parse_forwarded(value) == pairs


HOSTILE = st.text(st.sampled_from("ab.:/@[]%\\\"'?#;,= \r\n\tż-_0"), max_size=15)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_whatever_a_proxy_says_a_location_is_one_url_on_one_line(raw: str, proto: str, host: str, port: str, prefix: str) -> None:
    url = base(("Forwarded", raw), *forwarded(proto=proto, host=host, port=port, prefix=prefix))
    assert url.endswith("/files/")
    assert url.startswith(("/", "http://", "https://"))
    assert not url.startswith("//")
    assert url.isascii()
    assert not set(url) & set(' \r\n\t\\"?#')
