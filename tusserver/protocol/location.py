"""Where a new upload is: the value of `Location`.

The law: path-absolute, which is right behind any proxy, unless the operator says which URL clients see, or that a proxy may be believed. What a
proxy says is believed only if it is a scheme, an authority or a path, and nothing else.
"""

from __future__ import annotations

import re

from tusserver.protocol.message import Headers

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?)(?::([0-9]{1,5}))?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*/?")
_PAIR = re.compile(r'[ \t]*([A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))[ \t]*')
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def upload_url(base: str, upload_id: str) -> str:
    """The URL of an upload below the URL of its creation."""
    return base + upload_id


def base_url(headers: Headers, *, mount: str, public_url: str | None, behind_proxy: bool, scheme: str) -> str:
    """The creation URL as clients see it, with a slash at its end.

    Args:
        headers: Of the request.
        mount: Its path, with a slash at its end.
        public_url: Scheme, host and an optional prefix that the operator has set.
        behind_proxy: Whether what a proxy says is believed.
        scheme: Of the request as it came.
    """
    if public_url is not None:
        return public_url.rstrip("/") + mount
    if not behind_proxy:
        return mount
    return _origin(headers, scheme) + _prefix(headers) + mount


def _origin(headers: Headers, scheme: str) -> str:
    """Scheme and authority as the proxy saw them; "" where it names no valid host."""
    forwarded = parse_forwarded(headers.get("Forwarded") or "")
    protos = (forwarded.get("proto", ""), _first(headers, "X-Forwarded-Proto"), scheme)
    proto = next((proto.lower() for proto in protos if proto.lower() in _DEFAULT_PORTS), "http")
    if authority := _authority(forwarded.get("host", "")):
        host, port = authority
    elif authority := _authority(_first(headers, "X-Forwarded-Host")):
        host, port = authority[0], authority[1] or _first(headers, "X-Forwarded-Port")
    else:
        return ""
    return f"{proto}://{host}{_port(port, proto)}"


def _authority(value: str) -> tuple[str, str] | None:
    """Host and port ("" for none); None for anything that is not just these."""
    match = _HOST.fullmatch(value)
    if match is None or (match[2] is not None and not 0 < int(match[2]) < 65536):
        return None
    return match[1], match[2] or ""


def _port(value: str, proto: str) -> str:
    """With its colon; "" for the default one, and for what is none."""
    valid = re.fullmatch("[0-9]{1,5}", value) is not None and 0 < int(value) < 65536
    return f":{int(value)}" if valid and value != _DEFAULT_PORTS[proto] else ""


def _prefix(headers: Headers) -> str:
    prefix = _first(headers, "X-Forwarded-Prefix")
    hostile = not _PREFIX.fullmatch(prefix) or not {".", ".."}.isdisjoint(prefix.split("/"))
    return "" if hostile else prefix.rstrip("/")


def parse_forwarded(value: str) -> dict[str, str]:
    """The first element of `Forwarded` (RFC 7239, 4), by lower-case name; {} when it is malformed."""
    pairs: dict[str, str] = {}
    position = 0
    while match := _PAIR.match(value, position):
        name, quoted, token = match.groups()
        pairs[name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = match.end()
        if value[position : position + 1] in {"", ","}:
            return pairs
        if value[position] != ";":
            break
        position += 1
    return {}


def _first(headers: Headers, name: str) -> str:
    return (headers.get(name) or "").split(",")[0].strip()
