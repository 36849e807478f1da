"""Where a new upload is: the value of `Location`.

The law: path-absolute, which is right behind any proxy, unless the operator says which URL clients see, or that a proxy may be believed. What a
proxy says is believed only if it is a scheme, an authority or a path, and nothing else.
"""

from __future__ import annotations

import re

from tusserver.protocol.message import Headers

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?)(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*/?")
_PAIR = re.compile(r'\s*([A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))\s*')
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
    forwarded = parse_forwarded(headers.get("Forwarded") or "")
    proto = forwarded.get("proto") or _first(headers, "X-Forwarded-Proto") or scheme
    host = forwarded.get("host") or _first(headers, "X-Forwarded-Host")
    port = None if forwarded.get("host") else _first(headers, "X-Forwarded-Port")
    prefix = _first(headers, "X-Forwarded-Prefix") or ""
    path = (prefix.rstrip("/") if _PREFIX.fullmatch(prefix) and "//" not in prefix else "") + mount
    origin = _origin(proto.lower(), host, port)
    return origin + path


def _origin(proto: str, host: str | None, port: str | None) -> str:
    """Scheme and authority; "" where they are not to be believed."""
    if proto not in _DEFAULT_PORTS or host is None or not _HOST.fullmatch(host):
        return ""
    name, colon, own_port = host.rpartition(":") if re.search(r":[0-9]+$", host) else (host, "", "")
    name, number = (name, own_port) if colon else (host, port or "")
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536 or number == _DEFAULT_PORTS[proto]:
        return f"{proto}://{name}"
    return f"{proto}://{name}:{number}"


def parse_forwarded(value: str) -> dict[str, str]:
    """The first element of `Forwarded` (RFC 7239), by lower-case name; {} when it is malformed."""
    element = _first_element(value)
    pairs: dict[str, str] = {}
    position = 0
    while position < len(element):
        match = _PAIR.match(element, position)
        if match is None:
            return {}
        quoted, token = match.group(2), match.group(3)
        pairs[match.group(1).lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
        position = match.end()
        if position < len(element):
            if element[position] != ";":
                return {}
            position += 1
    return pairs


def _first_element(value: str) -> str:
    quoted = False
    for index, char in enumerate(value):
        if char == '"' and (index == 0 or value[index - 1] != "\\"):
            quoted = not quoted
        if char == "," and not quoted:
            return value[:index]
    return value


def _first(headers: Headers, name: str) -> str | None:
    value = (headers.get(name) or "").split(",")[0].strip()
    return value or None
