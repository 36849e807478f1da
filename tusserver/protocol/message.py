"""A request and a reply as plain values, between the web layer and a dialect: no aiohttp, no bytes of a body."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


class Headers:
    """Header fields by name in any case, repeated ones kept apart."""

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, list[str]] = {}
        for name, value in fields:
            self._fields.setdefault(name.lower(), []).append(value)

    def all(self, name: str) -> list[str]:
        """Every value of a field, in order; [] when it is missing."""
        return self._fields.get(name.lower(), [])

    def get(self, name: str) -> str | None:
        """The first value of a field; None when it is missing."""
        values = self.all(name)
        return values[0] if values else None

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a dialect sees of a request.

    Args:
        method: After `X-HTTP-Method-Override`, in upper case.
        upload_id: 32 hex digits; None on the creation URL.
        headers: All of them.
        content_length: Bytes of the body; None when it is chunked. 0 when there is none.
        base: What `Location` starts with: ends in "/", path-absolute or a whole URL.
    """

    method: str
    headers: Headers
    upload_id: str | None = None
    content_length: int | None = 0
    base: str = "/files/"

    @property
    def has_body(self) -> bool:
        """Whether bytes may follow: a chunked body counts, also when it turns out to be empty."""
        return self.content_length != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is answered; the web layer adds CORS.

    Args:
        status: The HTTP status.
        headers: Names as they are sent.
        body: One line of text, or nothing.
        close: Whether the connection ends after it.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    close: bool = False
