"""Which part of a file a GET gets, as tables of header fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusserver.protocol.headers import build_date
from tusserver.protocol.message import Headers
from tusserver.protocol.ranges import Selection, decide

SIZE = 1000
ETAG = '"abc"'
MODIFIED = 784111777.9
SAME, LATER, EARLIER = (build_date(MODIFIED + shift) for shift in (0, 10, -10))
WHOLE = Selection(200, 0, SIZE)
UNSATISFIABLE = Selection(416, 0, 0)


def choose(*fields: tuple[str, str], size: int = SIZE) -> Selection:
    return decide(Headers(fields), size=size, etag=ETAG, modified=MODIFIED)


def test_without_conditions_the_whole_file_is_sent() -> None:
    assert choose() == WHOLE


@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-", 500, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=0-999", 0, 1000),
        ("bytes=0-1000", 0, 1000),
        ("bytes=990-99999999999999999999999", 990, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
        ("BYTES=1-2", 1, 3),
        ("bytes= 1-2 ", 1, 3),
        ("bytes=007-8", 7, 9),
    ],
)
def test_one_range_is_a_part(value: str, start: int, stop: int) -> None:
    assert choose(("Range", value)) == Selection(206, start, stop)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=1",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=\u0665-\u0666",
        "bytes 0-4",
        "items=0-4",
        "bytes=0-0,5-6",
        "bytes=0-0,",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_a_range_that_is_not_understood_or_asks_for_several_parts_is_none(value: str) -> None:
    assert choose(("Range", value)) == WHOLE


def test_a_range_that_came_twice_is_none() -> None:
    assert choose(("Range", "bytes=0-1"), ("Range", "bytes=2-3")) == WHOLE


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=99999999999999999999999-"])
def test_a_range_past_the_end_is_unsatisfiable(value: str) -> None:
    assert choose(("Range", value)) == UNSATISFIABLE


@pytest.mark.parametrize(
    ("value", "selection"), [("bytes=0-", UNSATISFIABLE), ("bytes=0-0", UNSATISFIABLE), ("bytes=-5", Selection(200, 0, 0))]
)
def test_an_empty_file_has_no_first_byte_but_has_its_last_ones(value: str, selection: Selection) -> None:
    assert choose(("Range", value), size=0) == selection


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (ETAG, 206),
        (SAME, 206),
        ('"other"', 200),
        (f"W/{ETAG}", 200),
        ("abc", 200),
        ("*", 200),
        (LATER, 200),
        (EARLIER, 200),
        ("", 200),
    ],
)
def test_a_part_is_sent_only_of_the_file_that_if_range_names(value: str, status: int) -> None:
    assert choose(("Range", "bytes=1-2"), ("If-Range", value)).status == status


def test_an_if_range_that_does_not_hold_beats_an_unsatisfiable_range() -> None:
    assert choose(("Range", "bytes=5000-"), ("If-Range", '"other"')) == WHOLE


def test_an_if_range_without_a_range_says_nothing() -> None:
    assert choose(("If-Range", '"other"')) == WHOLE


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("If-None-Match", ETAG)], 304),
        ([("If-None-Match", f"W/{ETAG}")], 304),
        ([("If-None-Match", f'"x", {ETAG}')], 304),
        ([("If-None-Match", '"x"'), ("If-None-Match", ETAG)], 304),
        ([("If-None-Match", "*")], 304),
        ([("If-None-Match", '"x"')], 200),
        ([("If-None-Match", "abc")], 200),
        ([("If-None-Match", '"x"'), ("If-Modified-Since", LATER)], 200),
        ([("If-Modified-Since", SAME)], 304),
        ([("If-Modified-Since", LATER)], 304),
        ([("If-Modified-Since", EARLIER)], 200),
        ([("If-Modified-Since", "yesterday")], 200),
        ([("If-Match", ETAG)], 200),
        ([("If-Match", "*")], 200),
        ([("If-Match", f'"x",{ETAG}')], 200),
        ([("If-Match", '"x"')], 412),
        ([("If-Match", f"W/{ETAG}")], 412),
        ([("If-Match", ETAG), ("If-Unmodified-Since", EARLIER)], 200),
        ([("If-Unmodified-Since", SAME)], 200),
        ([("If-Unmodified-Since", EARLIER)], 412),
        ([("If-Unmodified-Since", "yesterday")], 200),
        ([("If-Match", '"x"'), ("If-None-Match", ETAG)], 412),
        ([("If-Match", ETAG), ("If-None-Match", ETAG)], 304),
    ],
)
def test_conditions_are_looked_at_in_the_order_of_the_standard(fields: list[tuple[str, str]], status: int) -> None:
    assert choose(*fields).status == status


def test_a_condition_that_fails_beats_a_range() -> None:
    assert choose(("Range", "bytes=0-1"), ("If-None-Match", ETAG)) == Selection(304, 0, 0)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_part_is_exactly_the_bytes_that_were_asked_for(size: int, first: int, last: int) -> None:
    selection = choose(("Range", f"bytes={first}-{last}"), size=size)
    expected = range(size)[first : last + 1]
    if last < first:
        assert selection == Selection(200, 0, size)
    elif not expected:
        assert selection == UNSATISFIABLE
    else:
        assert selection == Selection(206, expected.start, expected.stop)


@given(st.text(st.sampled_from("bytes=0123456789-, "), max_size=20), st.integers(0, 2000))
def test_whatever_is_asked_what_is_sent_lies_in_the_file(value: str, size: int) -> None:
    selection = choose(("Range", value), size=size)
    assert selection.status in {200, 206, 416}
    assert 0 <= selection.start <= selection.stop <= size
    assert selection.status != 206 or selection.start < selection.stop
