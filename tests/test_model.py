"""An upload's states, and its metadata."""

from __future__ import annotations

import pytest

from tusserver.model import Limits, Metadata, Upload

UPLOAD = Upload(id="0" * 32, length=10, created=100, touched=100)
DAY = Limits(expire_after=86400)


@pytest.mark.parametrize(
    ("offset", "length", "full", "remaining"), [(0, 10, False, 10), (9, 10, False, 1), (10, 10, True, 0), (0, 0, True, 0), (5, None, False, None)]
)
def test_an_upload_is_full_when_nothing_remains(offset: int, length: int | None, full: bool, remaining: int | None) -> None:
    upload = Upload(id="0" * 32, offset=offset, length=length)
    assert (upload.full, upload.remaining) == (full, remaining)


@pytest.mark.parametrize(
    ("upload", "limits", "now", "expired"),
    [
        (UPLOAD, DAY, 100 + 86399, False),
        (UPLOAD, DAY, 100 + 86400, True),
        (UPLOAD.at(5, 200), DAY, 100 + 86400, False),
        (UPLOAD, Limits(expire_after=None), 10**12, False),
        (Upload(id="0" * 32, length=0, finished=True), DAY, 10**12, False),
        (UPLOAD.at(5, 10**12), DAY, 100, False),
    ],
    ids=["not yet", "now", "a byte came", "never", "finished", "touched in the future"],
)
def test_an_unfinished_upload_expires_so_long_after_its_last_byte(upload: Upload, limits: Limits, now: float, expired: bool) -> None:
    assert upload.expired(limits, now) == expired


def test_a_length_is_declared_and_taken_back() -> None:
    deferred = Upload(id="0" * 32)
    assert deferred.declared(5).length == 5
    assert deferred.declared(5).declared(None) == deferred


def test_metadata_reads_as_text_where_it_is_text() -> None:
    metadata = Metadata("filename 5paH5Lu2LnR4dA==,empty,raw /w==,name xYLDs2TFug==")
    assert dict(metadata) == {"filename": "\u6587\u4ef6.txt", "empty": "", "raw": "/w==", "name": "\u0142\u00f3d\u017a"}
    assert metadata.raw.startswith("filename ")


def test_metadata_that_is_damaged_still_reads() -> None:
    assert dict(Metadata("a \u00fc,b !!")) == {"a": "\u00fc", "b": "!!"}


def test_no_metadata_is_empty() -> None:
    assert len(Metadata()) == 0
