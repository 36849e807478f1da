"""Bad networks: stock clients upload over lines that delay, stall, break, cut, double and dribble, and must come through.

The law: a client that goes on trying finishes, and what it has finished is the file that it sent; what was left behind on the way is the beginning
of one. An offset that was said is never taken back, and bytes that were delivered before a line broke are kept to the last one. When all lines are
gone the server holds nothing: no connection, no lock, no temporary file.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.clients.process import ClientProcess, python_client
from tests.conftest import Serve
from tests.support.faulty_line import Fault, FaultyLine, Kind, Way
from tests.support.folder import DataFolder, sha256
from tests.support.raw import OCTETS, TUS, ConnectionClosed, RawClient, Response, chunked, metadata, request
from tests.support.server import ServerProcess
from tests.support.tries import Tries
from tests.support.waiting import until

MIB = 1024 * 1024
APP = ("-m", "tests.reliability.app")
CHANCE = 0.7  # that a connection has a fault
PATIENCE = 60  # tries of a client without progress; at that chance none needs so many
AT_ONCE = 4
DEALS = [  # kind, where it acts, and its seconds: of a pause at most, of a silence exactly
    (Kind.DELAY, Way.BOTH, 0.02),
    (Kind.BANDWIDTH, Way.UP, 1e-6),
    (Kind.DRIBBLE, Way.BOTH, 0),
    (Kind.DUPLICATE, Way.UP, 0.1),
    (Kind.STALL, Way.UP, 2),
    (Kind.STALL, Way.DOWN, 0.5),
    (Kind.RESET, Way.UP, 0),
    (Kind.RESET, Way.DOWN, 0),
    (Kind.CUT, Way.UP, 0),
    (Kind.CUT, Way.DOWN, 0),
    (Kind.HALF_CLOSE, Way.UP, 0),
    (Kind.VANISH, Way.UP, 2),
]
PACES = {Kind.DELAY, Kind.BANDWIDTH, Kind.DRIBBLE, Kind.DUPLICATE}
BREAKS = [Kind.CUT, Kind.HALF_CLOSE, Kind.STALL, Kind.VANISH]  # a reset is none: it takes with it what the server had not read
NAMES = {Fault(kind, ways=ways).name for kind, ways, _ in DEALS}


def faults(dice: random.Random, size: int, first: int) -> Iterator[Fault | None]:
    """A fault for most connections of the upload of a file of this size; for the first one that which its number says."""
    yield dealt(dice, size, *DEALS[first % len(DEALS)])
    while True:
        yield dealt(dice, size, *dice.choice(DEALS)) if dice.random() < CHANCE else None


def dealt(dice: random.Random, size: int, kind: Kind, ways: Way, seconds: float) -> Fault:
    """One fault: a break comes in the head of a request or anywhere in its body; an answer is lost as a whole, or in its head."""
    upward = dice.randrange(100) if dice.random() < 0.4 else dice.randrange(100 + size)
    downward = dice.choice([0, dice.randrange(1, 250)])
    after = 0 if kind in PACES else downward if ways is Way.DOWN else upward
    return Fault(kind, after, ways, seconds if kind in {Kind.STALL, Kind.VANISH} else seconds * dice.random())


# -- clients


@dataclass(frozen=True)
class Upload:
    """A file that is to get through a line.

    Args:
        name: Goes with it as metadata.
        dice: For what its client does.
        source: The file.
        node: The command that runs tus-js-client.
    """

    name: str
    dice: random.Random
    source: Path
    line: FaultyLine
    node: list[str]

    def chunk(self) -> int | None:
        """How many bytes go into a request; None for all that there are."""
        return self.dice.choice([None, max(self.source.stat().st_size // 3, 1000)])


def by_tus_js(upload: Upload) -> str:
    """tus-js-client, which tries every request again."""
    options: dict[str, Any] = {"endpoint": upload.line.url, "retryDelays": [10] * PATIENCE, "metadata": {"filename": upload.name}}
    if upload.source.stat().st_size:  # it cannot read the first chunk of an empty file
        options["uploadDataDuringCreation"] = upload.dice.choice([True, False])
    if chunk := upload.chunk():
        options["chunkSize"] = chunk
    with ClientProcess(upload.node, {"file": str(upload.source), "options": options}, upload.source.parent) as client:
        ended = client.wait(100)
    said = 0
    for answer in ended.all("answer"):
        offset = int(answer["offset"] or 0)
        said = 0 if answer["status"] == 201 else said
        assert offset >= said or answer["offset"] is None, f"the offset fell from {said} to {offset}"
        said = max(said, offset)
    return ended.upload_id


def by_tuspy(upload: Upload) -> str:
    """tuspy, which tries a PATCH again, but neither POST nor the HEAD with which it starts: for those it is started again."""
    options: dict[str, Any] = {"retries": PATIENCE, "retry_delay": 0.01, "metadata": {"filename": upload.name}}
    if chunk := upload.chunk():
        options["chunk_size"] = chunk
    store = upload.source.with_name("urls.json")
    job = {"url": upload.line.url, "file": str(upload.source), "options": options, "store": str(store), "asynchronous": False}
    for _ in range(PATIENCE):
        with python_client("tuspy_upload.py", job, upload.source.parent) as client:
            ended = client.wait(100)
        if store.exists() and not re.search(r"/[0-9a-f]{32}\"", store.read_text()):
            store.unlink()  # Python's `http` takes a head that broke off for a whole one, and half a `Location` for the URL
        elif ended.status == 0:
            break
    return ended.upload_id


def by_hand(upload: Upload) -> str:
    """A loop of requests, each over a connection of its own, that believes nothing but offsets."""
    return Loop(upload, upload.source.read_bytes()).run()


@dataclass
class Loop:
    """Uploads as a script around curl does.

    Args:
        sent: How many bytes have been sent at most.
        said: How many the server has said that it has.
    """

    upload: Upload
    content: bytes
    sent: int = 0
    said: int = 0

    def run(self) -> str:
        """Upload; returns the id."""
        path, tries, before = self._create(), 0, 0
        while not self._knows(path) or self.said < len(self.content):
            tries = tries + 1 if self.said == before else 0
            assert tries < PATIENCE, f"at offset {self.said} nothing moves any more"
            before = self.said
            self._append(path)
        return path.rpartition("/")[2]

    def _create(self) -> str:
        body = self.content[: len(self.content) // 2] if self.upload.dice.random() < 0.5 else b""
        named = {"Upload-Metadata": metadata(filename=self.upload.name)}
        for _ in range(PATIENCE):
            answer = self._ask(lambda client: client.post(len(self.content), body, **named))
            if answer is not None and answer.status == 201:
                self.sent = len(body)
                self._heed(answer)
                return answer.location
        raise AssertionError("no upload can be made")

    def _knows(self, path: str) -> bool:
        answer = self._ask(lambda client: client.head(path))
        return answer is not None and self._heed(answer)

    def _append(self, path: str) -> None:
        piece = self.content[self.said :][: self.upload.chunk()]
        if not piece:
            return
        self.sent = max(self.sent, self.said + len(piece))
        framing = {"Transfer-Encoding": "chunked"} if self.upload.dice.random() < 0.3 else {"Content-Length": str(len(piece))}
        body = chunked(piece) if "Transfer-Encoding" in framing else piece
        headers = {"Upload-Offset": str(self.said), **OCTETS, **framing}
        if answer := self._ask(lambda client: client.ask("PATCH", path, headers, body)):
            self._heed(answer)

    def _ask(self, step: Callable[[RawClient], Response]) -> Response | None:
        """One request; None when the line broke."""
        try:
            with RawClient(self.upload.line.url, timeout=8) as client:
                return step(client)
        except (OSError, ConnectionClosed):
            return None

    def _heed(self, answer: Response) -> bool:
        """Note what an answer says; False when it is that this is not the time."""
        assert answer.status in {200, 201, 204, 409, 423}, f"{answer.status} {answer.body!r}"
        if answer.offset is not None:
            assert self.said <= answer.offset <= self.sent, f"offset {answer.offset} after {self.said} was said and {self.sent} sent"
            self.said = answer.offset
        return answer.status != 423


CLIENTS = [by_hand, by_tus_js, by_hand, by_tuspy, by_hand, by_tus_js]


# -- the machine


@dataclass
class Network:
    """Uploads over faulty lines to one server.

    Args:
        folder: Holds all but the data.
        struck: The faults that have acted, by name.
        made: How many uploads have come through.
    """

    server: ServerProcess
    data: DataFolder
    folder: Path
    tries: Tries
    node: list[str]
    struck: Counter[str] = field(default_factory=Counter)
    made: int = 0

    @classmethod
    def start(cls, serve: Serve, data: DataFolder, tries: Tries, node: list[str], *options: str) -> Network:
        """Start the server."""
        folder = data.root.parent
        events = folder / "events"
        server = serve("--network-timeout", "1", "--events", str(events), *options, command=APP)
        return cls(server, data, folder, tries, node)

    def run(self, count: int) -> None:
        """Upload until so many faults have acted, and each kind once."""
        idle = held_idle(self.server)
        numbers = itertools.count()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while self.struck.total() < count or not self.struck.keys() >= NAMES:
                for struck in pool.map(self.upload, itertools.islice(numbers, 3 * AT_ONCE)):
                    self.struck += struck
                    self.made += 1
        self.check(idle)

    def upload(self, number: int) -> Counter[str]:
        """One upload by one client over one line; returns the faults that acted on it."""
        dice = random.Random(f"{self.tries.seed}/{number}")
        client, size = CLIENTS[number % len(CLIENTS)], dice.choice([0, 1, dice.randrange(5000), dice.randrange(2 * MIB), 2 * MIB])
        source = self.source(number, dice.randbytes(size))
        with FaultyLine(self.server.url, faults(dice, size, number)) as line:
            try:
                upload_id = client(Upload(str(number), random.Random(dice.random()), source, line, self.node))
                assert self.data.content(upload_id).is_file(), f"{upload_id} was said to be finished, and is not"
                assert sha256(self.data.content(upload_id)) == sha256(source), f"{upload_id} is not what was sent"
            except (AssertionError, subprocess.TimeoutExpired) as error:
                raise AssertionError(f"try {number}, {client.__name__}, {size} bytes: {error}\nThe line:\n{described(line)}") from error
            return line.struck

    def source(self, number: int, content: bytes) -> Path:
        """A file in a folder of its own."""
        path = self.folder / "sources" / str(number) / "source"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return path

    # -- what is left

    def check(self, idle: Counter[str]) -> None:
        """What is there is what was sent, told of once; nothing else is held or left."""
        eventually(lambda: held(self.server) - idle, "open")
        eventually(self.data.outbox, "owed")
        told = Counter(re.findall(r"^after_finish \d+ (\w+)", (self.folder / "events").read_text(), re.MULTILINE))
        assert told == Counter(self.data.files()), f"told of {told}, there are {self.data.files()}"
        lost = re.findall(r"/(\w{32}) HTTP/1\.1\" 404", self.server.log)
        assert not lost, f"not known any more: {lost}"  # tus-js-client would begin anew, and never say so
        for upload_id in self.data.files():
            assert sha256(self.data.content(upload_id)) == sha256(self._sent(upload_id)), f"{upload_id} is not what was sent"
        for upload_id in self.data.uploads():
            self._check_orphan(upload_id)
        eventually(self.data.trash, "in the trash")
        strange = [path for path in self.data.regular_files() if not re.fullmatch(r"secret|files/../\w+/(upload\.json|content)", path)]
        assert not strange, f"left behind: {strange}"
        self.server.sigterm()
        assert self.server.wait() == 0, "the server did not end well"
        check_log(self.server)

    def _sent(self, upload_id: str) -> Path:
        name = self.data.record(upload_id)["metadata"].split(" ")[1]
        return next(path for path in (self.folder / "sources").glob("*/source") if metadata(filename=path.parent.name).endswith(f" {name}"))

    def _check_orphan(self, upload_id: str) -> None:
        """What a client left when it did not get the answer: the beginning of its file, and nobody's lock."""
        content = (self.data.upload(upload_id) / "content").read_bytes()
        assert self._sent(upload_id).read_bytes().startswith(content), f"{upload_id} is no beginning of what was sent"
        with RawClient(self.server.url) as client:
            assert client.head(client.base + upload_id).offset == len(content), f"{upload_id} has {len(content)} bytes"
            assert client.delete(client.base + upload_id).status == 204, f"{upload_id} cannot be deleted"


def described(line: FaultyLine) -> str:
    """What the connections of a line have been through."""
    return "\n".join(f"{link.fault} {'struck' if link.struck else 'waited in vain'}, passed: {link.passed}" for link in line.links)


def eventually(left: Callable[[], Collection[str]], what: str, seconds: float = 10) -> None:
    """Wait until nothing is left."""
    with contextlib.suppress(TimeoutError):
        until(lambda: not left(), what, seconds)
    assert not (found := left()), f"still {what}: {found}"


def held(server: ServerProcess) -> Counter[str]:
    """What a server has open, without numbers."""
    return Counter(re.sub(r"\d+", "N", target) for target in server.descriptors())


@dataclass(frozen=True)
class Break:
    """A PATCH that breaks off, and the one that goes on in its place.

    Args:
        kind: What the line does to the first.
        size: Bytes of the file.
        after: How many of them the line delivers.
    """

    kind: Kind
    size: int
    after: int

    def run(self, server: ServerProcess, data: DataFolder, content: bytes) -> None:
        """All that was delivered is kept, and nobody is in the way of who goes on, while the server may still wait for the first."""
        with RawClient(server.url) as direct:
            path = direct.post(self.size).location
            first = request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": "0"}, content)
            fault = Fault(self.kind, len(first) - self.size + self.after, seconds=60)
            with FaultyLine(server.url, iter([fault])) as line, RawClient(line.url) as client:
                with contextlib.suppress(ConnectionError):
                    client.send(first)
                eventually(lambda: "" if direct.head(path).offset == self.after else f"offset {direct.head(path).offset}", f"{self}", 5)
                answer = direct.patch(path, self.after, content[self.after :])
            assert (answer.status, answer.offset) == (204, self.size), f"{self}: {answer}"
        assert data.content(path.rpartition("/")[2]).read_bytes() == content, f"{self}: is not what was sent"


def try_breaks(server: ServerProcess, data: DataFolder, tries: Tries, count: int) -> None:
    """Break so many lines, each kind in its turn."""
    for kind in itertools.islice(itertools.cycle(BREAKS), count):
        size = tries.dice.randrange(2, 4 * MIB)
        Break(kind, size, tries.dice.randrange(1, size)).run(server, data, tries.dice.randbytes(size))
    check_log(server)


def held_idle(server: ServerProcess) -> Counter[str]:
    """What it always has open; the sweeper opens folders for a moment."""
    return functools.reduce(operator.and_, (held(server) for _ in range(20)))


def check_log(server: ServerProcess) -> None:
    """No failure that is not meant to pass, and nothing that nobody caught."""
    log = server.log
    assert not re.search(r"Traceback|never retrieved|was destroyed", log), log[-5000:]
    answers = Counter(re.findall(r'HTTP/1\.\d" (5\d\d) ', log))
    assert answers.keys() <= {"503", "507"}, answers


def test_clients_finish_over_lines_with_every_fault(serve: Serve, data: DataFolder, tries: Tries, node: list[str]) -> None:
    network = Network.start(serve, data, tries, node)
    network.run(tries.count(60))
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(network.struck.items()))
    tries.tell(f"{network.struck.total()} faults on {network.made} uploads, 0 lost, 0 wrong: {kinds}")


def test_a_body_that_broke_off_and_is_taken_for_whole_is_caught(serve: Serve, data: DataFolder, tries: Tries, node: list[str]) -> None:
    network = Network.start(serve, data, tries, node, "--fault", "early_end_taken_for_whole")
    with pytest.raises(AssertionError):
        network.run(1000)
    tries.tell(f"caught within {network.made + 1} uploads")


def test_what_a_line_delivered_before_it_broke_is_kept_and_the_next_goes_on_at_once(serve: Serve, data: DataFolder, tries: Tries) -> None:
    server, count = serve(command=APP), tries.count(40)
    idle = held_idle(server)
    try_breaks(server, data, tries, count)
    eventually(lambda: held(server) - idle, "open")
    tries.tell(f"{count} broken lines, 0 bytes lost")


@pytest.mark.parametrize("fault", ["buffer_thrown_away", "holder_never_stopped"])
def test_a_fault_in_what_happens_when_a_line_breaks_is_caught(serve: Serve, data: DataFolder, tries: Tries, fault: str) -> None:
    server = serve("--fault", fault, command=APP)
    with pytest.raises(AssertionError):
        try_breaks(server, data, tries, 100)
    tries.tell("caught")
