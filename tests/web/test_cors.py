"""CORS: what a page of another origin may send and read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusserver.config import Cors
from tusserver.protocol.message import Headers
from tusserver.web.cors import cors_headers

ORIGIN = "https://app.example"
OPEN = Cors()
STRICT = Cors(allow_origin=re.compile(r"https://(app|www)\.example"))
PREFLIGHT = Headers([("Access-Control-Request-Method", "PATCH")])


def listed(value: str) -> list[str]:
    return value.split(", ")


@pytest.mark.parametrize("preflight", [None, PREFLIGHT])
def test_switched_off_there_is_no_field_at_all(preflight: Headers | None) -> None:
    assert cors_headers(ORIGIN, None, preflight_headers=preflight) == {}


@pytest.mark.parametrize("preflight", [None, PREFLIGHT])
@pytest.mark.parametrize("origin", [None, ORIGIN, "https://evil.example"])
def test_every_answer_says_that_it_depends_on_the_origin(origin: str | None, preflight: Headers | None) -> None:
    assert cors_headers(origin, STRICT, preflight_headers=preflight)["Vary"] == "Origin"


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000", "null"])
def test_by_default_every_origin_is_echoed(origin: str) -> None:
    assert cors_headers(origin, OPEN)["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.evil",
        "https://app.example:8443",
        "http://app.example",
        "xhttps://app.example",
        "null",
        "",
    ],
)
@pytest.mark.parametrize("preflight", [None, PREFLIGHT])
def test_an_origin_of_which_not_the_whole_matches_gets_nothing(origin: str, preflight: Headers | None) -> None:
    assert cors_headers(origin, STRICT, preflight_headers=preflight) == {"Vary": "Origin"}


def test_a_request_without_an_origin_gets_nothing() -> None:
    assert cors_headers(None, OPEN, preflight_headers=PREFLIGHT) == {"Vary": "Origin"}


@pytest.mark.parametrize("origin", ["https://żółw.example", "https://\udcff", "https://a\r\nSet-Cookie: a=b", "a\tb"])
def test_what_cannot_stand_in_a_field_is_not_echoed(origin: str) -> None:
    assert cors_headers(origin, Cors(allow_origin=re.compile(".*", re.DOTALL))) == {"Vary": "Origin"}


@settings(deadline=None)
@given(st.text())
def test_whatever_the_origin_it_is_echoed_exactly_or_not_at_all(origin: str) -> None:
    assert cors_headers(origin, OPEN).get("Access-Control-Allow-Origin") in {None, origin}


@pytest.mark.parametrize(
    "name",
    [
        "Location",
        "Retry-After",
        "Tus-Resumable",
        "Tus-Version",
        "Tus-Extension",
        "Tus-Max-Size",
        "Upload-Offset",
        "Upload-Length",
        "Upload-Defer-Length",
        "Upload-Metadata",
        "Upload-Expires",
        "Content-Range",
        "ETag",
    ],
)
@pytest.mark.parametrize("preflight", [None, PREFLIGHT])
def test_a_page_may_read_what_a_client_needs_of_every_answer(name: str, preflight: Headers | None) -> None:
    assert name in listed(cors_headers(ORIGIN, OPEN, preflight_headers=preflight)["Access-Control-Expose-Headers"])


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Content-Type",
        "Tus-Resumable",
        "Upload-Length",
        "Upload-Offset",
        "Upload-Metadata",
        "Upload-Defer-Length",
        "X-HTTP-Method-Override",
        "X-Request-ID",
        "Repr-Digest",
        "Want-Repr-Digest",
    ],
)
def test_a_preflight_allows_what_tus_sends(name: str) -> None:
    assert name in listed(cors_headers(ORIGIN, OPEN, preflight_headers=PREFLIGHT)["Access-Control-Allow-Headers"])


def test_a_preflight_allows_the_methods_of_tus_for_a_day() -> None:
    fields = cors_headers(ORIGIN, OPEN, preflight_headers=PREFLIGHT)
    assert {"POST", "HEAD", "PATCH", "GET", "DELETE", "OPTIONS"} == set(listed(fields["Access-Control-Allow-Methods"]))
    assert fields["Access-Control-Max-Age"] == "86400"


def test_only_a_preflight_is_told_what_may_be_sent() -> None:
    told = set(cors_headers(ORIGIN, OPEN))
    assert not told & {"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age"}


def test_what_the_operator_names_is_added_and_nothing_is_listed_twice() -> None:
    cors = Cors(allow_methods=("PUT", "POST"), allow_headers=("X-Csrf", "Authorization"), expose_headers=("X-Trace", "ETag"), max_age=60)
    fields = cors_headers(ORIGIN, cors, preflight_headers=PREFLIGHT)
    for field, added in [("Allow-Methods", "PUT"), ("Allow-Headers", "X-Csrf"), ("Expose-Headers", "X-Trace")]:
        names = listed(fields[f"Access-Control-{field}"])
        assert names[-1] == added
        assert len(names) == len(set(names))
    assert fields["Access-Control-Max-Age"] == "60"


@pytest.mark.parametrize("preflight", [None, PREFLIGHT])
def test_credentials_are_allowed_only_when_switched_on(preflight: Headers | None) -> None:
    name = "Access-Control-Allow-Credentials"
    assert name not in cors_headers(ORIGIN, OPEN, preflight_headers=preflight)
    assert cors_headers(ORIGIN, Cors(allow_credentials=True), preflight_headers=preflight)[name] == "true"


@pytest.mark.parametrize(
    ("origin", "asked", "granted"),
    [(ORIGIN, "true", True), (ORIGIN, "false", False), (ORIGIN, None, False), ("https://evil.example", "true", False)],
)
def test_a_private_network_is_opened_to_an_allowed_origin_that_asks(origin: str, asked: str | None, *, granted: bool) -> None:
    headers = Headers([] if asked is None else [("Access-Control-Request-Private-Network", asked)])
    fields = cors_headers(origin, STRICT, preflight_headers=headers)
    assert ("Access-Control-Allow-Private-Network" in fields) is granted
