"""Header fields, a request and a reply as plain values."""

from __future__ import annotations

import pytest

from tusserver.protocol.message import Headers, Request


def test_fields_are_found_in_any_case_and_repeated_ones_kept_apart() -> None:
    headers = Headers([("Accept", "a"), ("ACCEPT", "b"), ("Range", "c")])
    assert headers.all("accept") == ["a", "b"]
    assert headers.get("Accept") == "a"
    assert "RANGE" in headers


def test_a_missing_field_is_nothing() -> None:
    headers = Headers()
    assert headers.all("Range") == []
    assert headers.get("Range") is None
    assert "Range" not in headers


@pytest.mark.parametrize(("content_length", "has_body"), [(0, False), (1, True), (None, True)])
def test_a_chunked_body_counts_as_one_before_its_first_byte(content_length: int | None, *, has_body: bool) -> None:
    assert Request(method="PATCH", headers=Headers(), content_length=content_length).has_body is has_body
