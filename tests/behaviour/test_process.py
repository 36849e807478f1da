"""The command as a process of its own: kills, stops, memory, and what it writes to the disk."""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tusclient.client import TusClient

from tests.conftest import Serve
from tests.support.folder import DataFolder, sha256
from tests.support.raw import OCTETS, TUS, ConnectionClosed, RawClient, request
from tests.support.server import ServerProcess

MIB = 1024 * 1024
EMBEDDED = Path(__file__).parent / "embedded.py"


def create(server: ServerProcess, length: int) -> str:
    with RawClient(server.url) as client:
        return client.post(length).location


def offset(server: ServerProcess, path: str) -> int:
    with RawClient(server.url) as client:
        return client.head(path).offset or 0


def begin(server: ServerProcess, path: str, at: int, length: int) -> RawClient:
    """A PATCH whose head alone has been sent."""
    client = RawClient(server.url)
    client.send(request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": str(at), "Content-Length": str(length)}))
    return client


def pieces(file: Path, start: int, stop: int) -> Iterator[bytes]:
    with file.open("rb") as source:
        source.seek(start)
        while start < stop:
            piece = source.read(min(MIB, stop - start))
            start += len(piece)
            yield piece


def settled(server: ServerProcess, path: str) -> int:
    """The offset once all is counted that was on its way when the connection before broke."""
    at = offset(server, path)
    while True:
        time.sleep(0.2)
        before, at = at, offset(server, path)
        if at == before:
            return at


def send_some(server: ServerProcess, path: str, file: Path, stop: int) -> None:
    """Send the file from the present offset up to `stop`, as the body of a PATCH that was to send all of it, and break off."""
    at, size = settled(server, path), file.stat().st_size
    client = begin(server, path, at, size - at)
    with suppress(OSError):
        for piece in pieces(file, at, stop):
            client.send(piece)
    client.reset()


@pytest.fixture
def gibibyte(tmp_path: Path) -> Path:
    """A file of 1 GiB with random content."""
    file = tmp_path / "random"
    with file.open("wb") as target:
        for _ in range(256):
            target.write(os.urandom(4 * MIB))
    return file


@pytest.mark.slow
def test_a_gibibyte_survives_four_broken_connections_and_two_kills(
    serve: Serve, data: DataFolder, gibibyte: Path, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    server, size = serve(), gibibyte.stat().st_size
    path = create(server, size)
    for _ in range(4):
        send_some(server, path, gibibyte, dice.randrange(offset(server, path) + 1, size * 3 // 4))
    for _ in range(2):
        before = settled(server, path)
        sender = threading.Thread(target=send_some, args=(server, path, gibibyte, size * 9 // 10))
        sender.start()
        while offset(server, path) <= before:
            time.sleep(0.01)
        server.kill9()
        sender.join()
        server.restart()
        assert offset(server, path) >= before
    with gibibyte.open("rb") as stream:
        url = server.url.removesuffix("/files/") + path
        TusClient(server.url).uploader(file_stream=stream, url=url, chunk_size=64 * MIB).upload()
    upload_id = path.rsplit("/", 1)[1]
    assert sha256(data.content(upload_id)) == sha256(gibibyte)
    while data.trash():
        time.sleep(0.1)
    name = f"files/{upload_id[:2]}/{upload_id}"
    assert data.regular_files() == sorted(["secret", f"{name}/content", f"{name}/upload.json"])
    gibibyte.unlink()


@pytest.mark.slow
def test_completing_a_gibibyte_of_128_patches_copies_nothing(serve: Serve, data: DataFolder) -> None:
    server, part, digest = serve(), os.urandom(8 * MIB), hashlib.sha256()
    with RawClient(server.url, timeout=120) as client:
        path = client.post(128 * len(part)).location
        for number in range(128):
            assert client.patch(path, number * len(part), part).status == 204
            digest.update(part)
    io = server.io()
    assert io["wchar"] < 1.02 * 1024 * MIB
    assert io["write_bytes"] < 1.02 * 1024 * MIB
    assert sha256(data.content(path.rsplit("/", 1)[1])) == digest.hexdigest()


def peak_of(serve: Serve, count: int, size: int) -> int:
    """Peak memory of a server that takes `count` uploads of `size` MiB at once."""
    server, part = serve(), os.urandom(MIB)

    def upload(_number: int) -> int:
        with RawClient(server.url, timeout=120) as client:
            path = client.post(size * MIB).location
        with begin(server, path, 0, size * MIB) as client:
            for _ in range(size):
                client.send(part)
            return client.read("PATCH").status

    with ThreadPoolExecutor(count) as pool:
        assert set(pool.map(upload, range(count))) == {204}
    return server.peak_rss()


@pytest.mark.slow
def test_sixty_four_uploads_at_once_need_bounded_memory(serve: Serve) -> None:
    peak = peak_of(serve, 64, 64)
    print(f"peak: {peak // MIB} MiB")
    assert peak < 160 * MIB


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    def serve(*_options: str, **_arguments: object) -> ServerProcess:
        return stack.enter_context(ServerProcess(tmp_path / f"data{len(list(tmp_path.iterdir()))}").start())

    with ExitStack() as stack:
        small, large = peak_of(serve, 1, 16), peak_of(serve, 1, 512)
    assert large < small + 8 * MIB


@pytest.mark.parametrize("kind", ["command", "embedded"])
def test_sigterm_with_fifty_running_patches_answers_all_and_keeps_all(serve: Serve, data: DataFolder, kind: str) -> None:
    server = serve(command=(str(EMBEDDED),)) if kind == "embedded" else serve("--durability", "finish")
    size, stopping = 100 * MIB, threading.Event()
    acknowledged: dict[str, int] = {}

    def patch(number: int) -> int:
        path = create(server, size)
        acknowledged[path] = 0
        with begin(server, path, 0, size) as client:
            client.send(bytes(1000))
            with suppress(ConnectionClosed, ConnectionError):
                while number >= 10 and not stopping.is_set():  # the first ten stall
                    client.send(bytes(1000))
                    time.sleep(0.02)
                return client.read("PATCH").status
        return 0

    with ThreadPoolExecutor(50) as pool:
        results = [pool.submit(patch, number) for number in range(50)]
        while len(acknowledged) < 50 or any(offset(server, path) == 0 for path in list(acknowledged)):
            time.sleep(0.05)
        for path in acknowledged:
            acknowledged[path] = offset(server, path)
        started = time.monotonic()
        server.sigterm()
        assert server.wait(30) == 0
        print(f"gone after {time.monotonic() - started:.2f} s")
        stopping.set()
        assert [result.result() for result in results][:10] == [503] * 10
    server.start(server.port)
    for path, told in acknowledged.items():
        assert offset(server, path) >= told
    assert "Traceback" not in server.log


def test_a_refused_client_leaves_one_line_in_the_log_and_no_trace(serve: Serve) -> None:
    server = serve()
    with RawClient(server.url) as client:
        assert client.ask("PATCH", client.base + "0" * 32, OCTETS).status == 404
        client.send(b"GARBAGE\x00 / HTTP/1.1\r\n\r\n")
        assert client.read().status == 400
    server.sigterm()
    server.wait()
    assert "Traceback" not in server.log
    assert len(re.findall(r"PATCH /files/0{32}", server.log)) == 1


def test_a_second_process_on_one_folder_waits_and_then_says_locked(serve: Serve, data: DataFolder) -> None:
    first, second = serve(), serve()
    path = create(first, 10)
    with begin(first, path, 0, 10) as holder, RawClient(second.url) as other:
        holder.send(b"01234")
        while offset(second, path) < 5:
            time.sleep(0.01)
        answer = other.patch(path, 5, b"56789")
        assert (answer.status, answer.offset) == (423, None)
        holder.send(b"56789")
        assert holder.read("PATCH").status == 204
        assert other.head(path).offset == 10
    assert data.content(path.rsplit("/", 1)[1]).read_bytes() == b"0123456789"


def test_what_a_killed_process_held_is_free_at_once_for_another(serve: Serve) -> None:
    first, second = serve(), serve()
    path = create(first, 10)
    with begin(first, path, 0, 10) as holder, RawClient(second.url) as other:
        holder.send(b"01234")
        while offset(second, path) < 5:
            time.sleep(0.01)
        first.kill9()
        assert other.patch(path, 5, b"56789").status == 204


def test_an_event_is_delivered_after_a_kill_in_its_delivery(serve: Serve, data: DataFolder) -> None:
    server = serve(command=(str(EMBEDDED),), env={"TEST_HANG": "1"})
    with RawClient(server.url) as client:
        path = client.post(4).location
        assert client.patch(path, 0, b"data").status == 204
    while "after_finish" not in server.log:
        time.sleep(0.02)
    server.kill9()
    assert data.outbox() == [path.rsplit("/", 1)[1]]
    server.env["TEST_HANG"] = ""
    server.start(server.port)
    while data.outbox():
        time.sleep(0.05)
    told = re.findall(r"after_finish (\S+) (\S+)", server.log)
    assert len(told) == 2
    assert told[0] == told[1]


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 10])
def test_polling_ten_times_a_second_disturbs_neither_a_moving_nor_a_pausing_patch(serve: Serve, data: DataFolder, pause: int) -> None:
    server, content = serve(), os.urandom(2 * MIB)
    path = create(server, len(content))
    with begin(server, path, 0, len(content)) as client, RawClient(server.url) as poller:
        told = [0]

        def poll() -> None:
            answer = poller.head(path)
            assert answer.status == 200
            told.append(answer.offset or 0)

        client.send(content[:MIB])
        for _ in range(pause * 10):
            poll()
            time.sleep(0.1)
        for start in range(MIB, 2 * MIB, MIB // 20):
            client.send(content[start : min(start + MIB // 20, 2 * MIB)])
            poll()
            time.sleep(0.1)
        assert client.read("PATCH").status == 204
        assert told == sorted(told)
    assert data.content(path.rsplit("/", 1)[1]).read_bytes() == content
