"""How the header fields of tus are spelled, in both directions."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusserver.errors import Invalid
from tusserver.model import MAX_INTEGER
from tusserver.protocol.headers import (
    build_date,
    build_integer,
    build_metadata,
    integer,
    parse_date,
    parse_integer,
    parse_metadata,
    single,
)
from tusserver.protocol.message import Headers

PLENTY = 1 << 20
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1, max_size=20)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)

# -- integers

NUMBERS = [("0", 0), ("5", 5), ("10485761", 10485761), ("9223372036854775807", MAX_INTEGER)]
NO_NUMBERS = [
    "",
    " ",
    "+5",
    "-1",
    "5.0",
    "0x5",
    "5e3",
    "1_000",
    "5 5",
    "5,5",
    "\u0665",
    "\u096b",
    "²",
    "five",
    "9223372036854775808",
    "9" * 30,
    "1" * 5000,
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_a_number_is_read_and_written_alike(text: str, number: int) -> None:
    assert parse_integer("Upload-Length", text) == number
    assert build_integer(number) == text


@pytest.mark.parametrize(("text", "number"), [("007", 7), ("0" * 40 + "5", 5), ("0" * 5000, 0)])
def test_leading_zeros_say_nothing(text: str, number: int) -> None:
    assert parse_integer("Upload-Length", text) == number


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_not_ascii_digits_up_to_2_to_the_63_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid, match=r"^Upload-Offset must be"):
        parse_integer("Upload-Offset", text)


@given(st.integers(0, MAX_INTEGER))
def test_every_number_of_bytes_survives_a_round_trip(number: int) -> None:
    assert parse_integer("Upload-Length", build_integer(number)) == number


@given(st.text(max_size=25))
def test_any_text_is_a_number_in_range_or_invalid(text: str) -> None:
    try:
        number = parse_integer("Upload-Length", text)
    except Invalid:
        assert not (text.isascii() and text.isdigit() and int(text) <= MAX_INTEGER)
    else:
        assert number == int(text)
        assert 0 <= number <= MAX_INTEGER


# -- fields


def test_a_field_is_found_in_any_case_without_the_blanks_around_it() -> None:
    headers = Headers([("upload-OFFSET", " \t7 ")])
    assert single(headers, "Upload-Offset") == "7"
    assert integer(headers, "Upload-Offset") == 7


def test_a_missing_field_is_none() -> None:
    assert single(Headers(), "Upload-Offset") is None
    assert integer(Headers(), "Upload-Offset") is None


def test_an_empty_field_is_no_missing_one() -> None:
    assert single(Headers([("Upload-Offset", "")]), "Upload-Offset") == ""
    with pytest.raises(Invalid):
        integer(Headers([("Upload-Offset", "")]), "Upload-Offset")


@pytest.mark.parametrize("values", [("5", "6"), ("5", "5"), ("", "5")])
def test_a_field_that_came_twice_is_refused_even_if_it_says_the_same(values: tuple[str, str]) -> None:
    with pytest.raises(Invalid, match="more than once"):
        single(Headers([("Upload-Offset", value) for value in values]), "Upload-Offset")


# -- metadata


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        ("filename Zm9vLnR4dA==", {"filename": "foo.txt"}),
        ("filename Zm9vLnR4dA==,filetype dGV4dC9wbGFpbg==", {"filename": "foo.txt", "filetype": "text/plain"}),
        ("name xbzDs8WCdy50eHQ=", {"name": "żółw.txt"}),
        ("name 5Lit5paHLnR4dA==", {"name": "中文.txt"}),
        ("is_confidential", {"is_confidential": ""}),
        ("a YQ==,empty,b Yg==", {"a": "a", "empty": "", "b": "b"}),
        ("filename Li4vLi4vZXRjL3Bhc3N3ZA==", {"filename": "../../etc/passwd"}),
        ("Key YQ==,key Yg==", {"Key": "a", "key": "b"}),
    ],
)
def test_metadata_is_read_and_written_alike(raw: str, values: dict[str, str]) -> None:
    assert dict(parse_metadata(raw, most=PLENTY)) == values
    assert build_metadata(values).raw == raw


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        ("a YQ== , b Yg==", {"a": "a", "b": "b"}),
        ("a  YQ==", {"a": "a"}),
        ("empty ", {"empty": ""}),
        ("empty ,b Yg==", {"empty": "", "b": "b"}),
    ],
)
def test_blanks_between_pairs_say_nothing_and_are_echoed(raw: str, values: dict[str, str]) -> None:
    metadata = parse_metadata(raw, most=PLENTY)
    assert dict(metadata) == values
    assert metadata.raw == raw


@pytest.mark.parametrize("raw", ["", " ", "\t", "   "])
def test_blank_metadata_is_none(raw: str) -> None:
    metadata = parse_metadata(raw, most=PLENTY)
    assert (metadata.raw, dict(metadata)) == ("", {})


@pytest.mark.parametrize(
    "raw",
    [
        "filename Zm9v!",
        "filename Zm9vLnR4dA=",
        "filename Zm9vLnR4dA",
        "filename =",
        "filename Zm9v YmFy",
        "filename Zm_v",
        "filename Zm9vé",
        "filename foo.txt",
        "a YQ==,a Yg==",
        "a,a",
        "żółw YQ==",
        "clé",
        "a\x7f YQ==",
        "a\tYQ==",
        "a YQ==,",
        ",a YQ==",
        "a YQ==,,b Yg==",
        ",",
        "a YQ==, ,b Yg==",
        "\udce9 YQ==",
    ],
)
def test_metadata_that_breaks_the_rules_is_refused(raw: str) -> None:
    with pytest.raises(Invalid, match="Upload-Metadata"):
        parse_metadata(raw, most=PLENTY)


def test_the_limit_counts_the_bytes_of_the_whole_field() -> None:
    raw = "a " + base64.b64encode(bytes(300)).decode()
    assert parse_metadata(raw, most=len(raw)).raw == raw
    with pytest.raises(Invalid, match=f"{len(raw) - 1} bytes"):
        parse_metadata(raw, most=len(raw) - 1)


def test_a_value_that_is_no_text_reads_as_the_base64_that_was_sent() -> None:
    metadata = build_metadata({"blob": b"\xff\xfe\x00"})
    assert metadata["blob"] == "//4A"


def test_a_name_from_the_file_system_is_sent_with_the_bytes_it_has_there() -> None:
    assert build_metadata({"filename": "caf\udce9"}).raw == "filename " + base64.b64encode(b"caf\xe9").decode()


@pytest.mark.parametrize("key", ["", "a b", "a,b", "ż", "a\n", "a\tb"])
def test_a_key_that_cannot_be_sent_is_not_built(key: str) -> None:
    with pytest.raises(Invalid):
        build_metadata({key: "value"})


@given(st.dictionaries(KEYS, TEXT, max_size=8))
def test_every_metadata_survives_a_round_trip(values: dict[str, str]) -> None:
    raw = build_metadata(values).raw
    assert raw.isascii()
    assert dict(parse_metadata(raw, most=PLENTY)) == values


@given(st.text(st.sampled_from("ab ,=YQ\té"), max_size=30))
def test_any_text_is_metadata_that_can_be_echoed_or_invalid(raw: str) -> None:
    try:
        metadata = parse_metadata(raw, most=PLENTY)
    except Invalid:
        return
    assert metadata.raw in {raw, ""}
    assert metadata.raw.isascii()
    assert all(key and " " not in key and "," not in key for key in metadata)


# -- dates


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
    ],
)
def test_a_date_is_read_and_written_alike(text: str, seconds: int) -> None:
    assert build_date(seconds) == text
    assert parse_date(text) == seconds


@pytest.mark.parametrize("text", ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
def test_the_old_forms_of_a_date_are_understood(text: str) -> None:
    assert parse_date(text) == 784111777


@pytest.mark.parametrize("text", ["", " ", "tomorrow", "0", '"etag"', "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 99999 08:49:37 GMT"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(("seconds", "text"), [(1e300, "Fri, 31 Dec 9999 23:59:59 GMT"), (-5.0, "Thu, 01 Jan 1970 00:00:00 GMT")])
def test_a_moment_beyond_the_calendar_becomes_its_end(seconds: float, text: str) -> None:
    assert build_date(seconds) == text


@given(st.integers(0, 253402300799))
def test_every_second_survives_a_round_trip(seconds: int) -> None:
    assert parse_date(build_date(seconds)) == seconds


@given(st.one_of(st.text(max_size=40), st.text(st.sampled_from("0123456789 :,-+SunNovGMT"), max_size=40)))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert parse_date(text) is None or isinstance(parse_date(text), int)
