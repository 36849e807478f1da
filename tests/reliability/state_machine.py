"""Random sequences of every request, by two clients and two owners, over raw sockets, each answer compared with `protocol_model`.

The law: after each step every upload says what the model says, to its owner alone, and lies in the one tree where it should.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.reliability import protocol_model as model
from tests.reliability import protocol_requests as requests
from tests.reliability.protocol_judge import brief, judged, upload_id_of
from tests.reliability.protocol_model import LIMIT, Outcome, Request, Upload
from tests.reliability.protocol_requests import Open, patch_request, post_request, twist, wire_form
from tests.reliability.threaded import ThreadedServer
from tests.support import raw
from tests.support.raw import RawClient, Response

EXPIRED = 2 * 86400.0
UNKNOWN = "0" * 32


def has_idle_client(machine: Machine) -> bool:
    """Somebody can ask."""
    return len(machine.open) < len(machine.clients)


def has_open_transfer(machine: Machine) -> bool:
    """Somebody can go on."""
    return bool(machine.open)


class Machine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self, server: ThreadedServer, counted: Counter[str]) -> None:
        super().__init__()
        self.server = server
        self.counted = counted
        self.counted["steps"] -= 1  # what is looked at after each step is looked at before the first one too
        self.watcher = RawClient(server.url)
        self.clients = [RawClient(server.url) for _ in range(2)]
        self.open: dict[int, Open] = {}  # by client
        self.state: dict[int, Upload] = {}
        self.ids: dict[int, str] = {}
        self.stamps = itertools.count()
        self.sound = True  # the last step did not fail

    # -- asking

    def ask(self, client: int, request: Request, key: int | None = None, *, via_post: bool = False) -> Response:
        """Send one request, compare its answer with the model, and see to what it does to the upload."""
        self.sound = False
        client = client if client not in self.open else 1 - client
        path = "/files/" if request.creates else f"/files/{self.ids.get(-1 if key is None else key, UNKNOWN)}"
        self.server.ahead = EXPIRED if request.late else 0.0
        self.clients[client].send(wire_form(request, path, via_post=via_post))
        response = self.read(client, "POST" if via_post else request.method)
        self.server.ahead = 0.0
        found = judged(request, response, model.answers(None if key is None else self.state[key], request))
        if key is not None and found.upload is not None:
            self.becomes(key, found)
        return response

    def becomes(self, key: int, found: Outcome) -> None:
        """An upload is now as the model says; a transfer on it has been stopped if it says so."""
        assert found.upload is not None
        self.state[key] = found.upload
        for client, transfer in list(self.open.items()):
            if found.stops is not None and transfer.key == key:
                judged(transfer.request, self.answer(client), [found.stops])

    def read(self, client: int, method: str) -> Response:
        """One answer; a connection that ends after it is replaced."""
        response = self.clients[client].read(method)
        if response.closed:
            assert self.clients[client].rest() == b"", "bytes after the answer"
            self.renew(client)
        return response

    def renew(self, client: int) -> None:
        """A new connection for a client."""
        self.clients[client].close()
        self.clients[client] = RawClient(self.server.url)

    def answer(self, client: int) -> Response:
        """The answer to a transfer, which is over."""
        return self.read(client, self.open.pop(client).request.method)

    def payload(self, size: int) -> bytes:
        """Bytes that no other request sends."""
        return random.Random(next(self.stamps)).randbytes(size)

    def enters(self, made: Upload, upload_id: str) -> int:
        """An upload that is known from now on."""
        key = len(self.state)
        self.state[key], self.ids[key] = made, upload_id
        return key

    def key(self, pick: int) -> int:
        """The upload that a number means: one that is there, but for the last numbers. There always is one."""
        if all(upload.gone for upload in self.state.values()):
            self.fresh(pick)
        keys = [key for key, upload in self.state.items() if not upload.gone or pick >= requests.GONE]
        return keys[pick % len(keys)]

    def writable(self, pick: int) -> int:
        """An upload that at least two bytes can be added to. There always is one."""
        keys = [key for key, upload in self.state.items() if not upload.gone and model.most(upload.length) - upload.offset >= 2]
        return keys[pick % len(keys)] if keys else self.fresh(pick)

    def fresh(self, pick: int) -> int:
        """A new upload."""
        length, metadata = 1000 if pick % 2 else None, requests.SOME_METADATA[pick % len(requests.SOME_METADATA)]
        self._post(0, post_request(requests.OWNERS[pick // 2 % 2], length, metadata))
        return max(self.state)

    def owner(self, key: int, own: bool) -> str:
        """The owner of an upload, or the other one."""
        return requests.OWNERS[requests.OWNERS.index(self.state[key].owner) ^ (not own)]

    # -- one request

    @precondition(has_idle_client)
    @rule(client=requests.clients, owner=requests.owners, form=requests.posts, body=requests.bodies)
    def post(self, client: int, owner: str, form: requests.PostForm, body: requests.BodyForm) -> None:
        """Make an upload."""
        data = self.payload(body.size(model.most(form.length)))
        request = post_request(owner, form.length, form.metadata, data, chunked=body.chunked)
        self._post(client, twist(request, requests.POST_TWISTS, form.twisted))

    def _post(self, client: int, request: Request) -> None:
        known = set(self.server.hooks.told)
        response = self.ask(client, request)
        if (made := model.answers(None, request)[0].upload) is not None:
            self.enters(made, upload_id_of(response) or self.born(known))

    def born(self, known: set[str]) -> str:
        """The id of the upload whose birth was just told."""
        self.server.waits(lambda: len(self.server.hooks.told) > len(known), lambda: "no event of a new upload")
        return (set(self.server.hooks.told) - known).pop()

    @precondition(has_idle_client)
    @rule(client=requests.clients, pick=requests.picks, own=requests.mine, body=requests.bodies, via_post=requests.seldom)
    def patch(self, client: int, pick: int, own: bool, body: requests.BodyForm, via_post: bool) -> None:
        """Add to an upload; perhaps more than there is room for."""
        key = self.key(pick)
        self.ask(client, replace(self.patch_of(key, body), owner=self.owner(key, own)), key, via_post=via_post)

    @precondition(has_idle_client)
    @rule(client=requests.clients, pick=requests.picks, body=requests.bodies, twisted=requests.twists(requests.PATCH_TWISTS))
    def patch_oddly(self, client: int, pick: int, body: requests.BodyForm, twisted: list[str]) -> None:
        """A PATCH with some things about it wrong, or unusual."""
        key = self.key(pick)
        self.ask(client, twist(self.patch_of(key, body), requests.PATCH_TWISTS, twisted, self.state[key]), key)

    @precondition(has_idle_client)
    @rule(client=requests.clients, pick=requests.picks, body=requests.bodies, away=st.integers(-3000, 3000))
    def patch_elsewhere(self, client: int, pick: int, body: requests.BodyForm, away: int) -> None:
        """A PATCH at an offset that the upload has left behind, or has not reached."""
        key = self.key(pick)
        fields = {"Upload-Offset": str(max(0, self.state[key].offset + away))}
        request = self.patch_of(key, body)
        self.ask(client, replace(request, headers={**request.headers, **fields}), key)

    def patch_of(self, key: int, body: requests.BodyForm) -> Request:
        """A PATCH at the present offset."""
        upload = self.state[key]
        return patch_request(upload, self.payload(body.size(model.most(upload.length) - upload.offset)), chunked=body.chunked)

    @precondition(has_idle_client)
    @rule(client=requests.clients, pick=requests.picks, own=requests.mine, form=requests.looks, via_post=requests.seldom)
    def look(self, client: int, pick: int, own: bool, form: requests.LookForm, via_post: bool) -> None:
        """Ask for the state of an upload, or for its file or a part of it."""
        key = self.key(pick)
        self.ask(client, Request(method=form.method, owner=self.owner(key, own), headers=form.fields), key, via_post=via_post)

    @precondition(has_idle_client)
    @rule(client=requests.clients, pick=requests.picks, own=requests.mine, via_post=requests.seldom, version=requests.versions)
    def delete(self, client: int, pick: int, own: bool, via_post: bool, version: dict[str, str]) -> None:
        """Delete an upload."""
        key = self.key(pick)
        self.ask(client, Request(method="DELETE", owner=self.owner(key, own), headers=version), key, via_post=via_post)

    @precondition(has_idle_client)
    @rule(client=requests.clients, pick=requests.picks, method=st.sampled_from(["HEAD", "GET", "DELETE", "PATCH"]))
    def come_late(self, client: int, pick: int, method: str) -> None:
        """Ask after an upload long after its last byte."""
        key = self.key(pick)
        request = patch_request(self.state[key], b"", chunked=False)
        self.ask(client, replace(request, method=method, late=True), key)

    @precondition(has_idle_client)
    @rule(client=requests.clients, pick=st.none() | requests.picks, method=requests.methods)
    def stray(self, client: int, pick: int | None, method: str) -> None:
        """A method that is not for this URL, or an upload that never was."""
        collection = pick is None
        key = None if pick is None or method in {"HEAD", "GET", "PATCH", "DELETE"} else self.key(pick)
        request = Request(method=method, owner=requests.OWNERS[0], headers=raw.TUS, creates=collection)
        self.ask(client, request, key, via_post=method == "FROB")

    @rule(pick=requests.picks)
    def sweep(self, pick: int) -> None:
        """The sweeper comes by."""
        self.server.sweep(int(self.ids[self.key(pick)][:2], 16))

    # -- a request in steps

    @precondition(has_idle_client)
    @rule(client=requests.clients, pick=requests.picks, body=requests.open_bodies, declares=st.booleans(), first=requests.shares)
    def begin_patch(self, client: int, pick: int, body: requests.BodyForm, declares: bool, first: int) -> None:
        """Send a PATCH without the end of its body; another one on that upload is taken over."""
        key = self.writable(pick)
        upload = self.state[key]
        fields = {"Upload-Length": str(min(LIMIT, upload.offset + 3000))} if declares and upload.length is None else {}
        room = model.most(upload.length, model.number(fields.get("Upload-Length"))) - upload.offset
        request = patch_request(upload, self.payload(max(2, body.size(room))), chunked=body.chunked, **fields)
        opened = Open(key, request, model.patch_transfer(upload, request), request.body)
        client = self.start(client, opened, f"/files/{self.ids[key]}")
        self.becomes(key, Outcome(statuses=frozenset(), upload=opened.transfer.began, stops=opened.transfer.stops))
        self.open[client] = opened
        self.sends_first(client, first)

    @precondition(has_idle_client)
    @rule(client=requests.clients, owner=requests.owners, form=requests.open_posts, body=requests.open_bodies, first=requests.shares)
    def begin_post(self, client: int, owner: str, form: requests.PostForm, body: requests.BodyForm, first: int) -> None:
        """Make an upload, and send only some of the body that comes along."""
        data = self.payload(max(2, body.size(model.most(form.length))))
        request = post_request(owner, form.length, form.metadata, data, chunked=body.chunked)
        transfer, known = model.post_transfer(request), set(self.server.hooks.told)
        opened = Open(len(self.state), request, transfer, data)
        client = self.start(client, opened, "/files/")
        self.enters(transfer.began, self.born(known))
        self.open[client] = opened
        self.sends_first(client, first)

    def start(self, client: int, opened: Open, path: str) -> int:
        """Send the head of a request, on an idle connection."""
        self.sound = False
        client = client if client not in self.open else 1 - client
        whole = wire_form(opened.request, path)
        self.clients[client].send(whole[: whole.index(b"\r\n\r\n") + 4])
        return client

    def sends_first(self, client: int, share: int) -> None:
        """Send the first bytes of a body, and see them arrive."""
        opened = self.open[client]
        room = opened.transfer.end - self.state[opened.key].offset
        most = min(room, len(opened.left)) - (not opened.request.chunked)
        self.sends(client, max(1, most * share // 1000))

    def sends(self, client: int, count: int) -> None:
        """Send bytes of a body, and see them arrive."""
        opened = self.open[client]
        data, opened.left = opened.left[:count], opened.left[count:]
        self.clients[client].send(opened.framed(data))
        upload = self.state[opened.key] = self.added(opened.key, data)
        self.server.waits(
            lambda: self.size(opened.key) == upload.offset, lambda: f"{self.size(opened.key)} bytes on disk, {upload.offset} were sent"
        )

    def added(self, key: int, data: bytes) -> Upload:
        """The upload with bytes added."""
        return replace(self.state[key], content=self.state[key].content + data)

    def size(self, key: int) -> int:
        """Bytes of an unfinished upload on disk."""
        return (self.server.folder.upload(self.ids[key]) / "content").stat().st_size

    @precondition(has_open_transfer)
    @rule(client=requests.clients, share=requests.shares, to_the_end=st.booleans())
    def go_on(self, client: int, share: int, to_the_end: bool) -> None:
        """Send more of an open body, or all of it."""
        self.sound = False
        client = client if client in self.open else 1 - client
        opened = self.open[client]
        count = len(opened.left) if to_the_end else max(1, len(opened.left) * share // 1000)
        last = to_the_end or (count == len(opened.left) and not opened.request.chunked)
        upload = self.added(opened.key, opened.left[:count])
        if not last and upload.offset <= opened.transfer.end:
            self.sends(client, count)
            return
        self.clients[client].send(opened.framed(opened.left[:count], last=last))
        found = opened.transfer.ended(upload) if upload.offset <= opened.transfer.end else opened.transfer.overran()
        judged(opened.request, self.answer(client), [found])
        self.becomes(opened.key, found)

    @precondition(has_open_transfer)
    @rule(client=requests.clients, share=st.integers(0, 999), how=st.sampled_from(["reset", "half-close", "bad framing"]))
    def break_off(self, client: int, share: int, how: str) -> None:
        """End a connection in the middle of a body; what arrived is kept."""
        self.sound = False
        client = client if client in self.open else 1 - client
        opened = self.open.pop(client)
        before = self.state[opened.key]
        most = min(len(opened.left), opened.transfer.end - before.offset) - (how == "reset" or not opened.request.chunked)
        data = opened.left[: max(0, most) * share // 1000]
        self.cut(client, opened, data, how)
        self.server.works_on(len(self.open))
        kept = self.size(opened.key) - before.offset if how == "reset" and data else len(data)
        assert 0 <= kept <= len(data), f"{before.offset} bytes had arrived, {len(data)} more were sent, {kept} of them are kept"
        self.state[opened.key] = model.broken(self.added(opened.key, data[:kept]))

    def cut(self, client: int, opened: Open, data: bytes, how: str) -> None:
        """End a connection after some more bytes, of a body with chunks in the middle of one."""
        connection, is_chunked = self.clients[client], opened.request.chunked
        bad_framing = how == "bad framing" and is_chunked
        connection.send(raw.chunked(data, end=False)[: None if bad_framing else -2] if is_chunked and data else data)
        if bad_framing:
            connection.send(b"zz\r\n")
        elif how == "reset":
            connection.reset()
        else:
            connection.half_close()
        with contextlib.suppress(OSError):
            connection.rest()
        self.renew(client)

    # -- after each step

    @invariant()
    def every_upload_says_what_the_model_says(self) -> None:
        """To its owner; for the other one there is none; and it lies where it should."""
        self.counted["steps"] += 1
        self.server.works_on(len(self.open))
        self.catch_up()
        asked = [
            (key, Request(method="HEAD", owner=owner, headers=raw.TUS))
            for key, upload in self.state.items()
            for owner in requests.OWNERS
            if owner != upload.owner or not upload.pending  # the next request is the one that may finish it
        ]
        self.watcher.send(b"".join(wire_form(request, f"/files/{self.ids[key]}") for key, request in asked))
        for key, request in asked:
            judged(request, self.watcher.read("HEAD"), model.answers(self.state[key], request))
        for key, upload in self.state.items():
            folder, upload_id = self.server.folder, self.ids[key]
            found = folder.upload(upload_id).exists(), folder.file(upload_id).exists()
            assert found == (not (upload.finished or upload.gone), upload.finished and not upload.gone), (
                f"{upload_id}: {found}, {brief(upload)}"
            )
        self.sound = True

    def catch_up(self) -> None:
        """What the sweeper has finished, or a request that did not wait for it."""
        for key, upload in self.state.items():
            if upload.pending and not upload.running and self.server.folder.file(self.ids[key]).exists():
                self.state[key] = model.finish(upload)[1]

    def teardown(self) -> None:
        """Break off what is open; then each upload has the right bytes and has told the right events, and goes."""
        try:
            if self.sound:
                while self.open:
                    self.break_off(0, 0, "half-close")
                for key in self.state:
                    self.ends_well(key)
        finally:
            for connection in (*self.clients, self.watcher):
                connection.close()

    def ends_well(self, key: int) -> None:
        """The last look at an upload."""
        upload_id = self.ids[key]
        self.settle(key)
        upload = self.state[key]
        if not upload.gone:
            folder = self.server.folder
            content = folder.content(upload_id) if upload.finished else folder.upload(upload_id) / "content"
            assert content.read_bytes() == upload.content, f"{upload_id}: other bytes than were sent"
            self.ask(0, Request(method="DELETE", owner=upload.owner, headers=raw.TUS), key)
        told = self.server.events(upload_id)
        assert told == list(self.state[key].told), f"{upload_id}: {told} was told, not {self.state[key].told}"

    def settle(self, key: int) -> None:
        """Whoever touches a full upload finishes it."""
        while self.state[key].pending:
            self.ask(0, Request(method="HEAD", owner=self.state[key].owner, headers=raw.TUS), key)
