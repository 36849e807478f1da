"""How a finished file is described to who downloads it: its type and its name (RFC 6266, RFC 8187).

The law: a file of a stranger must not run in our origin. Only types that cannot are told, the rest are bytes to be saved; and a name is made safe
here, where it is shown, and nowhere else.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from tusserver.model import Metadata

INERT = frozenset(
    {
        "application/pdf",
        "application/zip",
        "audio/aac",
        "audio/flac",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "audio/webm",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/plain",
        "video/mp4",
        "video/mpeg",
        "video/ogg",
        "video/quicktime",
        "video/webm",
    }
)
OPAQUE = "application/octet-stream"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u061c\u2028-\u202e\u2066-\u2069\ufeff]")
_NOT_ASCII = re.compile(r'[^\x20-\x7e]|["\\%]')
_NAME_BYTES = 1024


def describe(metadata: Metadata) -> dict[str, str]:
    """The header fields that describe a file."""
    kind = (metadata.get("filetype") or metadata.get("type") or "").partition(";")[0].strip().lower()
    inert = kind in INERT
    return {
        "Content-Type": kind if inert else OPAQUE,
        "Content-Disposition": build_disposition("inline" if inert else "attachment", file_name(metadata)),
        "X-Content-Type-Options": "nosniff",
    }


def file_name(metadata: Metadata) -> str:
    """The name that the client gave, as it can be shown: "" when there is none."""
    name = metadata.get("filename") or metadata.get("name") or ""
    return safe_name(name)


def safe_name(name: str) -> str:
    """A name without a path, control characters, or characters that turn the direction of reading; "" when nothing is left."""
    last = re.split(r"[/\\]", _UNSAFE.sub("", name.encode("utf-8", "ignore").decode()))[-1].strip()
    return "" if last in {".", ".."} else last


def build_disposition(kind: str, name: str) -> str:
    """A `Content-Disposition`, with a name for old clients and one in UTF-8.

    Args:
        kind: "inline" or "attachment".
        name: A safe one; "" for none. What is over 1 KiB of it is cut off: header fields have limits.
    """
    name = name.encode()[:_NAME_BYTES].decode("utf-8", "ignore")
    if not name:
        return kind
    plain = _NOT_ASCII.sub("_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'{kind}; filename="{plain}"{extended}'
