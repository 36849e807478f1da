"""Which part of a finished file a GET gets (RFC 9110, 13 and 14).

The law: a `Range` that is not understood, or asks for several parts, is no `Range`; one whose `If-Range` does not hold neither. Only a strong
ETag is compared, and every file of ours has one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from tusserver.protocol.message import Headers

_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.IGNORECASE)
_TAGS = re.compile(r'(W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class Selection:
    """What is sent.

    Args:
        status: 200, 206, 304, 412 or 416.
        start: First byte.
        stop: One past the last byte.
    """

    status: int
    start: int
    stop: int


def decide(headers: Headers, *, size: int, etag: str, modified: float) -> Selection:
    """Choose what a GET gets.

    Args:
        headers: Of the request.
        size: Bytes of the file.
        etag: Its strong ETag, with quotes.
        modified: Its `Last-Modified`, in seconds since the epoch.
    """
    if (status := _precondition(headers, etag, int(modified))) is not None:
        return Selection(status, 0, 0)
    asked = headers.all("Range")
    if len(asked) == 1 and _if_range(headers, etag, int(modified)):
        return _part(asked[0], size) or Selection(200, 0, size)
    return Selection(200, 0, size)


def _precondition(headers: Headers, etag: str, modified: int) -> int | None:
    """RFC 9110, 13.2.2, in its order."""
    if "If-Match" in headers:
        if not _matches(headers, "If-Match", etag, weak=False):
            return 412
    elif (since := _date(headers.get("If-Unmodified-Since"))) is not None and modified > since:
        return 412
    if "If-None-Match" in headers:
        return 304 if _matches(headers, "If-None-Match", etag, weak=True) else None
    since = _date(headers.get("If-Modified-Since"))
    return 304 if since is not None and modified <= since else None


def _matches(headers: Headers, name: str, etag: str, *, weak: bool) -> bool:
    value = ",".join(headers.all(name))
    return value.strip() == "*" or any(tag == etag and (weak or not mark) for mark, tag in _TAGS.findall(value))


def _if_range(headers: Headers, etag: str, modified: int) -> bool:
    value = headers.get("If-Range")
    if value is None:
        return True
    return value.strip() == etag or (not value.startswith(('"', "W/")) and _date(value) == modified)


def _date(value: str | None) -> int | None:
    if value is None:
        return None
    try:
        moment: datetime = parsedate_to_datetime(value)
    except ValueError:
        return None
    return int(moment.timestamp())


def _part(value: str, size: int) -> Selection | None:
    match = _RANGE.fullmatch(value.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        count = min(int(last), size)
        return Selection(206, size - count, size) if count else Selection(416, 0, 0)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return Selection(416, 0, 0)
    return Selection(206, int(first), min(int(last) + 1, size) if last else size)
