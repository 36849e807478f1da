"""Which part of a finished file a GET gets (RFC 9110, 13 and 14).

The law: a `Range` that is not understood, or asks for several parts, is no `Range`; one whose `If-Range` does not hold neither. Only a strong
ETag is compared, and every file of ours has one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tusserver.protocol.headers import parse_date
from tusserver.protocol.message import Headers

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,40})-([0-9]{0,40})[ \t]*", re.IGNORECASE)
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
    elif (since := parse_date(headers.get("If-Unmodified-Since") or "")) is not None and modified > since:
        return 412
    if "If-None-Match" in headers:
        return 304 if _matches(headers, "If-None-Match", etag, weak=True) else None
    since = parse_date(headers.get("If-Modified-Since") or "")
    return 304 if since is not None and modified <= since else None


def _matches(headers: Headers, name: str, etag: str, *, weak: bool) -> bool:
    value = ",".join(headers.all(name))
    return value.strip() == "*" or any(tag == etag and (weak or not mark) for mark, tag in _TAGS.findall(value))


def _if_range(headers: Headers, etag: str, modified: int) -> bool:
    value = headers.get("If-Range")
    if value is None:
        return True
    return value.strip() == etag or (not value.startswith(('"', "W/")) and parse_date(value) == modified)


def _part(value: str, size: int) -> Selection | None:
    """RFC 9110, 14.1.2; None where the field is to be ignored."""
    match = _RANGE.fullmatch(value.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        return _suffix(int(last), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return Selection(416, 0, 0)
    return Selection(206, int(first), min(int(last) + 1, size) if last else size)


def _suffix(count: int, size: int) -> Selection | None:
    """The last bytes of a file; those of an empty one are satisfiable, and no 206 can say so."""
    if count == 0:
        return Selection(416, 0, 0)
    return Selection(206, max(0, size - count), size) if size else None
