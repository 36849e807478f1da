"""CORS: what pages of other origins may send and read. Pure: header fields in, header fields out.

The law: an origin is echoed only if the whole of it matches; every answer says that it depends on the origin.
"""

from __future__ import annotations

from tusserver.config import Cors
from tusserver.protocol.message import Headers

METHODS = ("POST", "HEAD", "PATCH", "GET", "DELETE", "OPTIONS")
ALLOWED = (
    "Authorization",
    "Content-Type",
    "Origin",
    "X-Requested-With",
    "X-Request-ID",
    "X-HTTP-Method-Override",
    "Tus-Resumable",
    "Upload-Length",
    "Upload-Offset",
    "Upload-Metadata",
    "Upload-Defer-Length",
    "Upload-Concat",
    "Upload-Checksum",
    "Repr-Digest",
    "Want-Repr-Digest",
    "Range",
    "If-Range",
)
EXPOSED = (
    "Location",
    "Tus-Version",
    "Tus-Resumable",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Checksum-Algorithm",
    "Upload-Length",
    "Upload-Offset",
    "Upload-Metadata",
    "Upload-Defer-Length",
    "Upload-Concat",
    "Upload-Expires",
    "Retry-After",
    "Repr-Digest",
    "Content-Disposition",
    "Content-Range",
    "Content-Length",
    "Accept-Ranges",
    "ETag",
)


def cors_headers(origin: str | None, cors: Cors | None, *, preflight_headers: Headers | None = None) -> dict[str, str]:
    """The fields for an answer.

    Args:
        origin: The request's `Origin`.
        cors: Which origins may; None for no fields at all.
        preflight_headers: The request's fields when it is an OPTIONS, which may be a preflight or a question of tus.
    """
    if cors is None:
        return {}
    fields = {"Vary": "Origin"}
    if origin is None or not _echoable(origin) or not cors.allow_origin.fullmatch(origin):
        return fields
    fields["Access-Control-Allow-Origin"] = origin
    if cors.allow_credentials:
        fields["Access-Control-Allow-Credentials"] = "true"
    fields["Access-Control-Expose-Headers"] = _joined(EXPOSED, cors.expose_headers)
    return fields if preflight_headers is None else fields | _preflight(cors, preflight_headers)


def _echoable(origin: str) -> bool:
    """Whether it can stand in a header field: a pattern may match anything, and bytes that are no text cannot be sent."""
    return origin.isascii() and origin.isprintable()


def _preflight(cors: Cors, headers: Headers) -> dict[str, str]:
    fields = {
        "Access-Control-Allow-Methods": _joined(METHODS, cors.allow_methods),
        "Access-Control-Allow-Headers": _joined(ALLOWED, cors.allow_headers),
        "Access-Control-Max-Age": str(cors.max_age),
    }
    if headers.get("Access-Control-Request-Private-Network") == "true":
        fields["Access-Control-Allow-Private-Network"] = "true"
    return fields


def _joined(ours: tuple[str, ...], more: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(ours + more))
