"""How the header fields of tus are spelled: a `parse_x` for what comes in, a `build_x` for what goes out.

The law: a field means exactly one thing or is refused. Integers are `1*DIGIT` in ASCII and at most 2^63-1; a field of tus that comes twice is no
field.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

from tusserver.errors import Invalid
from tusserver.model import MAX_INTEGER, Metadata, split_metadata
from tusserver.protocol.message import Headers

_DIGITS = re.compile(r"0*([0-9]{1,19})")
_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without space and comma


def single(headers: Headers, name: str) -> str | None:
    """A field that may come once.

    Raises:
        Invalid: It came twice.
    """
    values = headers.all(name)
    if len(values) > 1:
        raise Invalid(f"{name} was sent more than once")
    return values[0].strip(" \t") if values else None


def parse_integer(name: str, value: str) -> int:
    """A number of bytes, 0 … 2^63-1.

    Raises:
        Invalid: Anything else.
    """
    match = _DIGITS.fullmatch(value)
    if match is None or int(match[1]) > MAX_INTEGER:
        raise Invalid(f"{name} must be a whole number of bytes from 0 to 2^63-1, in ASCII digits")
    return int(match[1])


def build_integer(value: int) -> str:
    """How a number of bytes is sent."""
    return str(value)


def integer(headers: Headers, name: str) -> int | None:
    """A field that is a number of bytes; None when it is missing."""
    value = single(headers, name)
    return None if value is None else parse_integer(name, value)


def parse_metadata(raw: str, *, most: int) -> Metadata:
    """`Upload-Metadata` (extension Creation): pairs of a key and base64, joined by commas.

    Args:
        raw: The field's value; empty or blank for none.
        most: Bytes that it may have.

    Raises:
        Invalid: It is longer, or a key is empty, repeated or not printable ASCII, or a value is not base64.
    """
    if not raw.strip(" \t"):
        return Metadata()
    if len(raw.encode("utf-8", "surrogateescape")) > most:
        raise Invalid(f"Upload-Metadata may have {most} bytes")
    if any(not pair.strip(" \t") for pair in raw.split(",")):
        raise Invalid("Upload-Metadata has an empty pair")
    seen: set[str] = set()
    for key, value in split_metadata(raw):
        _check_pair(key, value, seen)
    return Metadata(raw)


def _check_pair(key: str, value: str, seen: set[str]) -> None:
    _check_key(key)
    if key in seen:
        raise Invalid(f"Upload-Metadata has the key {key[:64]} twice")
    seen.add(key)
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"the value of {key[:64]} in Upload-Metadata is not base64") from None


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise Invalid("a key of Upload-Metadata must be printable ASCII without space and comma")


def build_metadata(values: Mapping[str, str | bytes]) -> Metadata:
    """The metadata that says `values`; text is sent as UTF-8, a name from the file system with the bytes that it has there.

    Raises:
        Invalid: A key that cannot be sent.
    """
    pairs = []
    for key, value in values.items():
        _check_key(key)
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        pairs.append(f"{key} {base64.b64encode(data).decode()}".rstrip())
    return Metadata(",".join(pairs))


def parse_date(value: str) -> int | None:
    """Seconds since the epoch of an HTTP-date, in any of its three forms (RFC 9110, 5.6.7); None for anything else."""
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def build_date(seconds: float) -> str:
    """An HTTP-date (RFC 9110, 5.6.7) of seconds since the epoch; a moment past the year 9999 becomes its end."""
    return formatdate(min(max(seconds, 0), 253402300799), usegmt=True)
