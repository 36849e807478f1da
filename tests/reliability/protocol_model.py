"""PROTOCOL.md as a model: what each request is answered, and what the upload is afterwards. No I/O, no clock; a server is compared with it.

The first row that fits decides. Of several faults in one row any one may be answered; what is refused changes nothing.

    request            upload                          status           afterwards
    OPTIONS            any, or none                    204
    method             not for this URL                405
    version            wrong, or missing (not: HEAD)   412
    any                none, gone, another owner's     404
    any, late          unfinished, nobody writes       404              gone: expired
    HEAD, PATCH, GET   full, somebody still writes     423 (GET 503)
    any                full, not finished              finish first, then as below; or 423 (GET 503) while that goes on
    HEAD               any                             200 offset
    GET                unfinished                      409 offset
    GET                finished                        200 206 416
    DELETE             full, somebody still writes     204              that transfer is finished and answered first, then gone: client
    DELETE             any                             204              gone: client; a transfer on it: 404 and close
    PATCH              a fault of `patch_faults`       400 409 413 415  (409 offset)
    PATCH              otherwise                       a transfer on it: 423 and close, what it brought is kept; then
      chunked          runs past the room              413 and close    as before this PATCH
      otherwise                                        204 offset       length declared, bytes added, finished when full
    POST               a fault of `post_faults`        400 413 415
    POST chunked       runs past the room              413 and close    made, and empty
    POST               otherwise                       201              made, bytes added, finished when full
    full at its end    before_finish refuses           422              gone: refused
    full at its end    before_finish fails             503              stays full, the next request tries again
    body broken off                                    (none)           what came is kept, finished when full
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

LIMIT = 200_000
OCTETS = "application/offset+octet-stream"
REFUSED, FAILS_ONCE = "refused", "fails-once"  # file names that `before_finish` has an opinion on
NAMES = {"filename cmVmdXNlZA==": REFUSED, "filename ZmFpbHMtb25jZQ==": FAILS_ONCE}
_PAIR = re.compile(r"([!-+\--~]+) ?((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asks: the method that counts, and the header fields of tus as they are sent."""

    method: str
    owner: str
    headers: Mapping[str, str]
    body: bytes = b""
    chunked: bool = False
    creates: bool = False  # the creation URL
    late: bool = False  # unfinished uploads that nobody writes to have expired

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.body)

    @property
    def asks_for_state(self) -> bool:
        return self.method == "HEAD" or (self.method == "GET" and "Tus-Resumable" in self.headers)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload: what was sent of it, and what listeners were told of it."""

    owner: str
    length: int | None
    metadata: str = ""
    content: bytes = b""
    running: bool = False  # a transfer is on it
    finished: bool = False
    failed: bool = False  # `before_finish` has failed once
    gone: bool = False
    told: tuple[str, ...] = ("after_create",)

    @property
    def offset(self) -> int:
        return len(self.content)

    @property
    def full(self) -> bool:
        return self.offset == self.length

    @property
    def pending(self) -> bool:
        """All bytes are in, and it is no file yet."""
        return self.full and not self.finished and not self.gone

    def ends(self, reason: str) -> Upload:
        return replace(self, gone=True, running=False, told=(*self.told, f"after_terminate {reason}"))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One allowed answer: one of `statuses`, and `offset` where it is one that may say so."""

    statuses: frozenset[int]
    upload: Upload | None
    offset: int | None = None
    body: bytes | None = None
    stops: Outcome | None = None  # what a transfer on it is answered
    close: bool = False


def outcome(status: int, upload: Upload | None, offset: int | None = None, *, stops: Outcome | None = None, close: bool = False) -> Outcome:
    """The one answer with this status."""
    return Outcome(statuses=frozenset({status}), upload=upload, offset=offset, stops=stops, close=close)


def number(text: str | None) -> int | None:
    """A header field that is a number of bytes; None for any other text."""
    return int(text) if text is not None and re.fullmatch("[0-9]+", text, re.ASCII) and int(text) < 2**63 else None


def answers(upload: Upload | None, request: Request) -> list[Outcome]:
    """What a request on an upload (None: there is none) may be answered."""
    if (status := _known_at_once(request)) is not None:
        return [outcome(status, upload)]
    if request.creates:
        return [_post(request)]
    if upload is None or upload.gone or upload.owner != request.owner:
        return [outcome(404, upload)]
    if request.late and not upload.finished and not upload.running:
        return [outcome(404, upload.ends("expired"))]
    return list(_settled(upload, request))


def _known_at_once(request: Request) -> int | None:
    """The answer that no upload has a part in."""
    version = request.headers.get("Tus-Resumable")
    if request.method == "OPTIONS":
        return 204
    if request.method not in ({"POST"} if request.creates else VERBS):
        return 405
    if version != "1.0.0" and (version is not None or request.method not in {"HEAD", "GET"}):
        return 412
    return None


def _settled(upload: Upload, request: Request) -> Iterator[Outcome]:
    """A full upload is finished first; while that goes on, or somebody still writes to it, it is busy."""
    verb = _state if request.asks_for_state else VERBS[request.method]
    if upload.pending and verb is not _delete:
        yield outcome(503 if verb is _get else 423, upload)
    if not (upload.pending and upload.running):
        yield verb(finish(upload)[1], request)
    elif verb is _delete:
        yield _delete_full(upload, request)


def finish(upload: Upload) -> tuple[int, Upload]:
    """What a request that brought the last byte of an upload is answered, 0 if there is nothing to say against it."""
    if not upload.pending:
        return 0, upload
    name = NAMES.get(upload.metadata)
    if name == REFUSED:
        return 422, upload.ends("refused")
    if name == FAILS_ONCE and not upload.failed:
        return 503, replace(upload, failed=True)
    return 0, replace(upload, finished=True, told=(*upload.told, "after_finish"))


def _state(upload: Upload, request: Request) -> Outcome:
    return outcome(200, upload, upload.offset)


def _get(upload: Upload, request: Request) -> Outcome:
    if not upload.finished:
        return outcome(409, upload, upload.offset)
    if (part := re.fullmatch("bytes=([0-9]+)-([0-9]+)", request.headers.get("Range", ""))) is None:
        return replace(outcome(200, upload, upload.offset), body=upload.content)
    if int(part[1]) >= upload.offset:
        return outcome(416, upload)
    return replace(outcome(206, upload, upload.offset), body=upload.content[int(part[1]) : int(part[2]) + 1])


def _delete(upload: Upload, request: Request) -> Outcome:
    gone = upload.ends("client")
    return outcome(204, gone, stops=outcome(404, gone, close=True))


def _delete_full(upload: Upload, request: Request) -> Outcome:
    """The transfer that brought the last byte is finished, before its body has ended."""
    status, ended = finish(replace(upload, running=False))
    stopped = outcome(status, ended) if status else Outcome(statuses=frozenset({201, 204}), upload=ended, offset=ended.offset)
    return replace(outcome(404, ended) if ended.gone else _delete(ended, request), stops=replace(stopped, close=True))


def _patch(upload: Upload, request: Request) -> Outcome:
    if faults := frozenset(patch_faults(upload, request)):
        return Outcome(statuses=faults, upload=upload, offset=upload.offset)
    transfer = patch_transfer(upload, request)
    return replace(transfer.whole(request.body), stops=transfer.stops)


def patch_faults(upload: Upload, request: Request) -> Iterator[int]:
    """Why a PATCH is refused before its body is looked at."""
    headers, offset = request.headers, number(request.headers.get("Upload-Offset"))
    if headers.get("Content-Type") != OCTETS:
        yield 415
    if offset is None:
        yield 400
    elif offset != upload.offset:
        yield 409
    if "Upload-Length" in headers:
        length = number(headers["Upload-Length"])
        if length is None or length < upload.offset or upload.length not in {None, length}:
            yield 400
        elif length > LIMIT:
            yield 413
    if not request.chunked and upload.offset + len(request.body) > most(upload.length, number(headers.get("Upload-Length"))):
        yield 413


def _post(request: Request) -> Outcome:
    if faults := frozenset(post_faults(request)):
        return Outcome(statuses=faults, upload=None)
    made = post_transfer(request).whole(request.body)
    return made if request.has_body else replace(made, offset=None)


def post_faults(request: Request) -> Iterator[int]:
    """Why a POST is refused before its body is looked at."""
    headers, length = request.headers, number(request.headers.get("Upload-Length"))
    if request.has_body and headers.get("Content-Type") != OCTETS:
        yield 415
    if ("Upload-Length" in headers) == ("Upload-Defer-Length" in headers):
        yield 400
    if ("Upload-Length" in headers and length is None) or headers.get("Upload-Defer-Length", "1") != "1":
        yield 400
    if "Upload-Concat" in headers or not valid_metadata(headers.get("Upload-Metadata", "")):
        yield 400
    if (length is not None and length > LIMIT) or (not request.chunked and len(request.body) > most(length)):
        yield 413


def valid_metadata(raw: str) -> bool:
    """Whether an `Upload-Metadata` is pairs of a key and base64, no key twice."""
    pairs = [_PAIR.fullmatch(pair) for pair in raw.split(",")] if raw.strip() else []
    keys = [pair[1] for pair in pairs if pair is not None]
    return len(keys) == len(pairs) == len(set(keys))


def most(*lengths: int | None) -> int:
    """The offset that a body may reach."""
    return min([LIMIT, *(length for length in lengths if length is not None)])


# -- bodies


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A body that is coming in.

    Args:
        status: What it is answered when it ends well.
        before: The upload should the body run past `end`.
        began: The upload when the first byte is about to come.
        end: The offset that the body may reach.
    """

    status: int
    before: Upload
    began: Upload
    end: int

    def whole(self, body: bytes) -> Outcome:
        """All of it at once."""
        upload = replace(self.began, content=self.began.content + body)
        return self.ended(upload) if upload.offset <= self.end else self.overran()

    def ended(self, upload: Upload) -> Outcome:
        """It came to its end, and the upload is at what it brought."""
        status, upload = finish(replace(upload, running=False))
        return outcome(status or self.status, upload, None if status else upload.offset)

    def overran(self) -> Outcome:
        """It runs past the room: nothing of it stays."""
        return outcome(413, self.before, close=True)

    @property
    def stops(self) -> Outcome:
        """What another transfer on the upload is answered."""
        return outcome(423, self.before, close=True)


def post_transfer(request: Request) -> Transfer:
    """A POST without a fault."""
    length, metadata = number(request.headers.get("Upload-Length")), request.headers.get("Upload-Metadata", "").strip()
    made = Upload(owner=request.owner, length=length, metadata=metadata)
    return Transfer(status=201, before=made, began=replace(made, running=True), end=most(length))


def patch_transfer(upload: Upload, request: Request) -> Transfer:
    """A PATCH without a fault."""
    length = upload.length if upload.length is not None else number(request.headers.get("Upload-Length"))
    return Transfer(status=204, before=replace(upload, running=False), began=replace(upload, length=length, running=True), end=most(length))


def broken(upload: Upload) -> Upload:
    """The connection of the transfer on it died."""
    return finish(replace(upload, running=False))[1]


VERBS: Mapping[str, Callable[[Upload, Request], Outcome]] = {"HEAD": _state, "GET": _get, "DELETE": _delete, "PATCH": _patch}
