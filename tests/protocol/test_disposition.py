"""How a finished file is described: never as something that runs in our origin, never with a name that does harm."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusserver.protocol.disposition import OPAQUE, build_disposition, describe, safe_name
from tusserver.protocol.headers import build_metadata


def described(**values: str | bytes) -> dict[str, str]:
    return describe(build_metadata(values))


@pytest.mark.parametrize("key", ["filetype", "type"])
@pytest.mark.parametrize(
    ("kind", "sent"),
    [("image/png", "image/png"), ("IMAGE/PNG", "image/png"), (" video/mp4 ", "video/mp4"), ("text/plain; charset=utf-8", "text/plain")],
)
def test_an_inert_type_is_told_and_shown(key: str, kind: str, sent: str) -> None:
    fields = described(**{key: kind})
    assert (fields["Content-Type"], fields["Content-Disposition"]) == (sent, "inline")


@pytest.mark.parametrize(
    "kind",
    [
        "text/html",
        "image/svg+xml",
        "application/xhtml+xml",
        "text/xml",
        "text/javascript",
        "application/javascript",
        "text/css",
        "multipart/mixed",
        "image/png\r\nSet-Cookie: a=b",
        "image/png, text/html",
        "nonsense",
        "",
    ],
)
def test_any_other_type_is_bytes_to_be_saved(kind: str) -> None:
    fields = described(filetype=kind, filename="a.html")
    assert fields["Content-Type"] == OPAQUE
    assert fields["Content-Disposition"] == 'attachment; filename="a.html"'


def test_without_metadata_a_file_is_nameless_bytes() -> None:
    assert described() == {"Content-Type": OPAQUE, "Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}


def test_no_browser_may_guess_a_type() -> None:
    assert described(filetype="image/png")["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("values", "disposition"),
    [
        ({"filename": "a.txt"}, 'attachment; filename="a.txt"'),
        ({"name": "a.txt"}, 'attachment; filename="a.txt"'),
        ({"filename": "a.txt", "name": "b.txt"}, 'attachment; filename="a.txt"'),
        ({"filename": "", "name": "b.txt"}, 'attachment; filename="b.txt"'),
        ({"filename": "a b;c.txt"}, 'attachment; filename="a b;c.txt"'),
        ({"filename": "upload.json"}, 'attachment; filename="upload.json"'),
        ({"filename": "a/b"}, 'attachment; filename="b"'),
        ({"filename": "C:\\dir\\b.txt"}, 'attachment; filename="b.txt"'),
        ({"filename": "../../etc/passwd"}, 'attachment; filename="passwd"'),
        ({"filename": ".."}, "attachment"),
        ({"filename": "a/.."}, "attachment"),
        ({"filename": "/"}, "attachment"),
        ({"filename": "\x00\r\n"}, "attachment"),
        ({"filename": "a\r\nSet-Cookie: b=c"}, 'attachment; filename="aSet-Cookie: b=c"'),
        ({"filename": "żółw.txt"}, "attachment; filename=\"___w.txt\"; filename*=UTF-8''%C5%BC%C3%B3%C5%82w.txt"),
        ({"filename": "100%.txt"}, "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ({"filename": 'a"b.txt'}, "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ({"filename": "exe.\u202etxt"}, 'attachment; filename="exe.txt"'),
    ],
)
def test_a_name_is_made_safe_where_it_is_shown(values: dict[str, str], disposition: str) -> None:
    assert described(**values)["Content-Disposition"] == disposition


@pytest.mark.parametrize("name", ["a" * 255, "\u4e2d" * 121 + "x", "\u4e2d" * 5000, "\U0001f600" * 300])
def test_a_long_name_stays_readable_text_of_bounded_size(name: str) -> None:
    value = described(filename=name)["Content-Disposition"]
    shown = unquote(value.partition("UTF-8''")[2]) or value.partition('"')[2].rstrip('"')
    assert shown == name[: len(shown)]
    assert len(shown) == len(name) or 1020 <= len(shown.encode()) <= 1024


def test_a_name_that_is_no_text_is_shown_as_the_base64_that_was_sent() -> None:
    assert described(filename=b"\xfb\xef\xbe")["Content-Disposition"] == 'attachment; filename="++++"'


@given(st.text(max_size=60))
def test_whatever_the_name_the_field_is_one_line_of_ascii_and_says_it_back(name: str) -> None:
    safe = safe_name(name)
    value = build_disposition("attachment", safe)
    match = re.fullmatch(r"attachment(?:; filename=\"([ -~]+)\"(?:; filename\*=UTF-8''([A-Za-z0-9%._~-]+))?)?", value)
    assert match is not None
    plain, extended = match.groups()
    assert not set(plain or "") & set('"\\/%')
    assert (unquote(extended) if extended else plain or "") == safe


@given(st.text(max_size=60))
def test_a_safe_name_is_no_path_and_stays_as_it_is(name: str) -> None:
    safe = safe_name(name)
    assert not set(safe) & set("/\\\x00\r\n\u202e")
    assert safe not in {".", ".."}
    assert safe_name(safe) == safe
