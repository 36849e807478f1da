"""The dialect tus 1.0.0: which command a request is, and which reply a result becomes.

The laws: every reply says `Tus-Resumable`; `Upload-Offset` stands on 2xx and 409 only; the length is told as an offset only of a finished upload;
trouble that passes is 423 to a HEAD, because clients throw an upload away on any other status.
"""

from __future__ import annotations

from tusserver.errors import (
    Finishing,
    Invalid,
    MethodNotAllowed,
    NotFinished,
    NotFound,
    OffsetConflict,
    Passing,
    Refuse,
    TusError,
    UnsupportedMediaType,
    UnsupportedVersion,
)
from tusserver.model import Limits, Upload
from tusserver.protocol.command import Append, Create
from tusserver.protocol.headers import build_date, build_integer, integer, parse_metadata, single
from tusserver.protocol.location import upload_url
from tusserver.protocol.message import Headers, Reply, Request

VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
EXTENSIONS = ("creation", "creation-with-upload", "creation-defer-length", "termination", "expiration")
FIELDS = ("Upload-Length", "Upload-Offset", "Upload-Defer-Length", "Upload-Metadata", "Upload-Checksum", "Upload-Concat")
NO_STORE = {"Cache-Control": "no-store"}

# -- requests


def override(method: str, headers: Headers) -> str:
    """The method that counts (core protocol, X-HTTP-Method-Override)."""
    return ((headers.get("X-HTTP-Method-Override") or "").strip() or method).upper()


def asks_for_state(request: Request) -> bool:
    """A HEAD, or the GET with a version that a cache has made of one: both are answered as a HEAD."""
    return request.method == "HEAD" or (request.method == "GET" and "Tus-Resumable" in request.headers)


def allowed(upload_id: str | None, limits: Limits) -> tuple[str, ...]:
    """The methods that a URL takes."""
    if upload_id is None:
        return ("OPTIONS", "POST")
    names = ["OPTIONS", "HEAD", "PATCH", "GET", "DELETE"]
    if not limits.download:
        names.remove("GET")
    if limits.terminate == "none":
        names.remove("DELETE")
    return tuple(names)


def check_method(request: Request, limits: Limits) -> None:
    """The method is one that the URL takes.

    Raises:
        Invalid: The request overrides it twice.
        MethodNotAllowed: It is not.
    """
    single(request.headers, "X-HTTP-Method-Override")
    names = allowed(request.upload_id, limits)
    if ("HEAD" if asks_for_state(request) else request.method) not in names:
        raise MethodNotAllowed(names)


def check_version(request: Request) -> None:
    """`Tus-Resumable` names our version; HEAD and GET may leave it out.

    Raises:
        Invalid: It came twice.
        UnsupportedVersion: It does not.
    """
    version = single(request.headers, "Tus-Resumable")
    if version is None and request.method in {"HEAD", "GET"}:
        return
    if version != VERSION:
        raise UnsupportedVersion(f"Tus-Resumable must be {VERSION}")


def check_repeats(request: Request) -> None:
    """No field of tus comes twice, whether this request needs it or not: what stands between us and the client may read the other one.

    Raises:
        Invalid: One does.
    """
    for name in FIELDS:
        single(request.headers, name)


def parse_create(request: Request, limits: Limits) -> Create:
    """POST on the creation URL (extensions Creation, Creation-With-Upload, Creation-Defer-Length).

    Raises:
        UnsupportedMediaType: There is a body, and it is not the bytes of a file as they are.
        Invalid: A header field that breaks the rules.
    """
    headers = request.headers
    if request.has_body:
        _check_media_type(headers)
    if "Upload-Concat" in headers:
        raise Invalid("concatenation is not available")
    length, deferred = integer(headers, "Upload-Length"), single(headers, "Upload-Defer-Length")
    if deferred is not None and deferred != "1":
        raise Invalid("Upload-Defer-Length can only be 1")
    if (length is None) == (deferred is None):
        raise Invalid("send Upload-Length, or Upload-Defer-Length: 1")
    metadata = parse_metadata(single(headers, "Upload-Metadata") or "", most=limits.max_metadata)
    return Create(length=length, metadata=metadata, with_body=request.has_body, content_length=request.content_length)


def parse_append(request: Request) -> Append:
    """PATCH on an upload URL (core protocol).

    Raises:
        UnsupportedMediaType: The body is not the bytes of a file as they are.
        Invalid: A header field that breaks the rules.
    """
    headers = request.headers
    _check_media_type(headers)
    offset = integer(headers, "Upload-Offset")
    if offset is None:
        raise Invalid("Upload-Offset is missing")
    return Append(offset=offset, length=integer(headers, "Upload-Length"), content_length=request.content_length)


def _check_media_type(headers: Headers) -> None:
    if (single(headers, "Content-Type") or "").lower() != MEDIA_TYPE:
        raise UnsupportedMediaType(f"the Content-Type of a body must be {MEDIA_TYPE}")
    if any(value.strip().lower() not in {"", "identity"} for value in headers.all("Content-Encoding")):
        raise UnsupportedMediaType("the body must be sent as it is, without a Content-Encoding")


# -- replies


def options(request: Request, limits: Limits, features: frozenset[str]) -> Reply:
    """What this server can do (core protocol, OPTIONS)."""
    fields = {"Tus-Version": VERSION, "Allow": ", ".join(allowed(request.upload_id, limits))}
    if names := extensions(limits, features):
        fields["Tus-Extension"] = ",".join(names)  # without a blank: some clients do not trim
    if limits.max_size is not None:
        fields["Tus-Max-Size"] = build_integer(limits.max_size)
    return Reply(status=204, headers=_fields(fields))


def extensions(limits: Limits, features: frozenset[str]) -> list[str]:
    """What the storage makes possible and the configuration allows."""
    off = set()
    if limits.terminate == "none":
        off.add("termination")
    if limits.expire_after is None:
        off.add("expiration")
    return [name for name in EXTENSIONS if name in features and name not in off]


def created(request: Request, upload: Upload, limits: Limits, *, with_body: bool) -> Reply:
    """An upload was made; with a body, how far it is.

    Raises:
        Finishing: It is full, and not finished.
    """
    fields = {"Location": upload_url(request.base, upload.id), **_expires(upload, limits)}
    if with_body:
        fields |= _offset(upload)
    return Reply(status=201, headers=_fields(fields))


def state(upload: Upload, limits: Limits) -> Reply:
    """How far an upload is, finished or not (core protocol, HEAD).

    Raises:
        Finishing: It is full, and not finished.
    """
    fields = {**_offset(upload), **NO_STORE, **_expires(upload, limits)}
    if upload.length is None:
        fields["Upload-Defer-Length"] = "1"
    else:
        fields["Upload-Length"] = build_integer(upload.length)
    if upload.metadata.raw:
        fields["Upload-Metadata"] = upload.metadata.raw
    return Reply(status=200, headers=_fields(fields))


def appended(upload: Upload, limits: Limits) -> Reply:
    """A body was added (core protocol, PATCH).

    Raises:
        Finishing: The upload is full, and not finished.
    """
    return Reply(status=204, headers=_fields({**_offset(upload), **_expires(upload, limits)}))


def terminated() -> Reply:
    """An upload was deleted (extension Termination)."""
    return Reply(status=204, headers=_fields({}))


def failed(request: Request, error: TusError, *, location: str | None = None) -> Reply:
    """The one place where an error becomes an answer.

    Args:
        location: The URL of the upload that a POST has made before it failed; left out where the error means that it is gone.
    """
    passing = isinstance(error, Passing) or (error.status >= 500 and asks_for_state(request))
    status = _passing_status(request, error.status) if passing else error.status
    fields = _fields(NO_STORE)
    if isinstance(error, UnsupportedVersion):
        fields["Tus-Version"] = VERSION
    if isinstance(error, MethodNotAllowed):
        fields["Allow"] = ", ".join(error.allow)
    if isinstance(error, OffsetConflict | NotFinished) and error.offset is not None:
        fields["Upload-Offset"] = build_integer(error.offset)
    if passing:
        fields["Retry-After"] = str(getattr(error, "retry_after", 1))
    if location is not None and not isinstance(error, NotFound | Refuse):
        fields["Location"] = location
    return Reply(status=status, headers=fields, body="" if request.method == "HEAD" else error.line, close=error.close)


def _passing_status(request: Request, status: int) -> int:
    if asks_for_state(request):
        return 423
    return 503 if request.method == "GET" else status


def _fields(fields: dict[str, str]) -> dict[str, str]:
    return {"Tus-Resumable": VERSION, **fields}


def _offset(upload: Upload) -> dict[str, str]:
    if upload.full and not upload.finished:
        raise Finishing
    return {"Upload-Offset": build_integer(upload.offset)}


def _expires(upload: Upload, limits: Limits) -> dict[str, str]:
    expires = upload.expires(limits)
    return {} if expires is None else {"Upload-Expires": build_date(expires)}
