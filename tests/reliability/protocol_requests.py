"""The requests that clients make, right ones and odd ones, as values, at random, and as bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests.reliability.protocol_model import LIMIT, NAMES, Request, Transfer, Upload
from tests.support import raw

OWNERS = ("ann", "bob")
GONE = 14  # from this number on a pick may mean an upload that is gone
NO_UPLOAD = Upload(owner="", length=None)
Fields = dict[str, str]
Twist = Callable[[Fields, Upload], object]

POST_TWISTS: Mapping[str, Twist] = {
    "both lengths": lambda fields, _: fields.update({"Upload-Length": "10", "Upload-Defer-Length": "1"}),
    "neither length": lambda fields, _: [fields.pop(name, None) for name in ("Upload-Length", "Upload-Defer-Length")],
    "deferred oddly": lambda fields, _: fields.update({"Upload-Defer-Length": "2"}),
    "odd length": lambda fields, _: fields.update({"Upload-Length": "5.0"}),
    "too large": lambda fields, _: fields.update({"Upload-Length": str(LIMIT + 1)}),
    "no type": lambda fields, _: fields.pop("Content-Type", None),
    "concatenation": lambda fields, _: fields.update({"Upload-Concat": "partial"}),
    "old version": lambda fields, _: fields.update({"Tus-Resumable": "0.2.2"}),
    "no version": lambda fields, _: fields.pop("Tus-Resumable", None),
}
PATCH_TWISTS: Mapping[str, Twist] = {
    "offset below": lambda fields, upload: fields.update({"Upload-Offset": str(upload.offset - 1)}),
    "offset above": lambda fields, upload: fields.update({"Upload-Offset": str(upload.offset + 1)}),
    "odd offset": lambda fields, _: fields.update({"Upload-Offset": "+5"}),
    "no offset": lambda fields, _: fields.pop("Upload-Offset", None),
    "other type": lambda fields, _: fields.update({"Content-Type": "text/plain"}),
    "old version": lambda fields, _: fields.update({"Tus-Resumable": "0.2.2"}),
    "no version": lambda fields, _: fields.pop("Tus-Resumable", None),
    "length": lambda fields, upload: fields.update({"Upload-Length": str(upload.length or upload.offset + 3000)}),
    "length now": lambda fields, upload: fields.update({"Upload-Length": str(upload.offset)}),
    "length below": lambda fields, upload: fields.update({"Upload-Length": str(upload.offset - 1)}),
    "length beyond": lambda fields, _: fields.update({"Upload-Length": str(LIMIT + 1)}),
    "odd length": lambda fields, _: fields.update({"Upload-Length": "0x5"}),
}
SOME_METADATA = ("", *NAMES)
METADATA = (
    *(*SOME_METADATA, *SOME_METADATA, " ", "filename bmFtZQ==,type dGV4dC9wbGFpbg==", "key", "key ,other YQ=="),
    *("key !!", "key YQ==,key YQ==", ",", "key YQ"),
)


@dataclass(frozen=True)
class BodyForm:
    """How much of the room a body fills, in thousandths for a "part"."""

    amount: str
    part: int
    chunked: bool

    def size(self, room: int) -> int:
        """Its bytes."""
        return {"nothing": 0, "part": min(room, max(1, room * self.part // 1000)), "rest": room, "over": room + 1}[self.amount]


@dataclass(frozen=True)
class PostForm:
    """What a POST says."""

    length: int | None
    metadata: str
    twisted: list[str]


@dataclass(frozen=True)
class LookForm:
    """What a HEAD or a GET says."""

    method: str
    version: dict[str, str]
    part: dict[str, str]

    @property
    def fields(self) -> dict[str, str]:
        return self.version | self.part


def twists(table: Mapping[str, Twist]) -> st.SearchStrategy[list[str]]:
    """One or two, the same one twice counts once."""
    return st.lists(st.sampled_from(sorted(table)), min_size=1, max_size=2, unique=True)


clients = st.sampled_from([0, 1])
owners = st.sampled_from(OWNERS)
picks = st.integers(0, GONE + 1)
mine = st.sampled_from([*[True] * 7, False])
seldom = st.sampled_from([*[False] * 7, True])
versions = st.sampled_from([*[dict(raw.TUS)] * 6, {"Tus-Resumable": "0.2.2"}, {}])
methods = st.sampled_from(["OPTIONS", "PUT", "FROB", "HEAD", "GET", "PATCH", "DELETE", "POST"])
thousandths = st.integers(1, 999)
shares = st.just(1000) | thousandths
lengths = st.one_of(st.sampled_from([None, None, 0, 1, 100_000, LIMIT]), st.integers(2, 3000))
ranges = st.builds(lambda start, count: {"Range": f"bytes={start}-{start + count}"}, st.integers(0, 3000), st.integers(0, 3000))
bodies = st.builds(
    BodyForm, st.sampled_from(["nothing", "part", "part", "rest", "over"]), thousandths, st.sampled_from([False, False, True])
)
open_bodies = st.builds(BodyForm, st.sampled_from(["part", "rest"]), thousandths, st.booleans()) | st.builds(
    BodyForm, st.just("over"), thousandths, st.just(value=True)
)
posts = st.builds(PostForm, lengths, st.sampled_from(METADATA), st.just([]) | st.just([]) | twists(POST_TWISTS))
open_posts = st.builds(PostForm, st.none() | st.integers(2, 3000), st.sampled_from(SOME_METADATA), st.just([]))
looks = st.builds(LookForm, st.sampled_from(["HEAD", "OPTIONS"]), versions, st.just({})) | st.builds(
    LookForm, st.just("GET"), st.just({}) | versions, st.just({}) | ranges
)


def post_request(owner: str, length: int | None, metadata: str, body: bytes = b"", *, chunked: bool = False) -> Request:
    """A POST."""
    fields = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    fields |= {"Upload-Metadata": metadata} if metadata else {}
    return Request(method="POST", owner=owner, headers={**raw.TUS, **fields, **raw.OCTETS}, body=body, chunked=chunked, creates=True)


def patch_request(upload: Upload, body: bytes, *, chunked: bool, **fields: str) -> Request:
    """A PATCH at the present offset."""
    headers = {**raw.TUS, "Upload-Offset": str(upload.offset), **raw.OCTETS, **fields}
    return Request(method="PATCH", owner=upload.owner, headers=headers, body=body, chunked=chunked)


def twist(request: Request, table: Mapping[str, Twist], names: list[str], upload: Upload | None = None) -> Request:
    """The request with some things about it wrong, or odd."""
    fields = dict(request.headers)
    for name in names:
        table[name](fields, upload or NO_UPLOAD)
    return replace(request, headers=fields)


def wire_form(request: Request, path: str, *, via_post: bool = False) -> bytes:
    """A request as it is sent."""
    headers = {**request.headers, "X-Owner": request.owner}
    if via_post:
        headers["X-HTTP-Method-Override"] = request.method
    half, body = len(request.body) // 2, request.body
    if request.chunked:
        headers["Transfer-Encoding"] = "chunked"
        body = raw.chunked(*(piece for piece in (body[:half], body[half:]) if piece))
    return raw.request("POST" if via_post else request.method, path, headers, body)


@dataclass
class Open:
    """A transfer that is open on a connection: of which upload, what it asked, and what it has not sent yet."""

    key: int
    request: Request
    transfer: Transfer
    left: bytes

    def framed(self, data: bytes, *, last: bool = False) -> bytes:
        """A part of the body as it is sent."""
        if not self.request.chunked:
            return data
        return raw.chunked(*([data] if data else []), end=last)
