"""Clients of a server that is killed again and again: real ones that send files, raw ones that delete, abandon and look.

The law: a client goes on until it is told that its file is there, and starts again only where the upload is gone. Each keeps the book up to date.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.uploader.uploader import Uploader

from tests.reliability.kill_book import MIB, Book, File
from tests.support.folder import DataFolder
from tests.support.raw import OCTETS, TUS, ConnectionClosed, RawClient, Response, metadata, request

PATIENCE = 0.02
TROUBLE_SECONDS = 60
AT_ONCE = 2
PASSING = {None, 404, 409, 423, 503}


class Aborted(Exception):
    """The run has failed elsewhere."""


@dataclass(frozen=True)
class Run:
    """What all clients of a run share.

    Args:
        url: The creation URL.
        slow_url: The same, over a slow line.
        book: What they are told.
        enough: Set when no new file is to be begun.
        abort: Set when everything is to end at once.
        processes: Clients in processes of their own.
        sent: The uploads that real clients were told to be complete.
    """

    url: str
    slow_url: str
    data: DataFolder
    book: Book
    seed: int
    enough: threading.Event = field(default_factory=threading.Event)
    abort: threading.Event = field(default_factory=threading.Event)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    sent: dict[str, File] = field(default_factory=dict)

    def end(self) -> None:
        """End all clients at once."""
        self.abort.set()
        self.enough.set()
        for process in self.processes:
            process.kill()

    def check(self) -> None:
        """End a client whose run has failed."""
        if self.abort.is_set():
            raise Aborted

    def dice(self, name: str) -> random.Random:
        """The dice of one client."""
        return random.Random(f"{self.seed} {name}")

    def files(self, sender: str, pause: float = 0.0) -> Iterator[File]:
        """Files of one sender, until it is enough, with pauses of up to so many seconds."""
        dice, number = self.dice(f"files of {sender}"), 0
        while not self.enough.wait(dice.uniform(0, pause)):
            yield File.thrown(sender, number, dice)
            number += 1

    def succeeded(self, upload_id: str, file: File) -> None:
        """A client was told that its file is there."""
        self.book.told(upload_id, file.size)
        self.sent[upload_id] = file


# -- tuspy


def send_with_tuspy(run: Run, name: str) -> None:
    """Send one file after the other with tuspy."""
    dice = run.dice(name)
    for file in run.files(name):
        chunk = dice.choice((file.size + 1, dice.randrange(MIB // 8, MIB)))
        client = TusClient(dice.choice((run.url, run.slow_url, run.slow_url)))
        options = {"file_stream": io.BytesIO(file.content()), "chunk_size": chunk, "retries": 50, "retry_delay": 0.05}
        _TuspyUpload(run, client, file, {**options, "metadata": {"filename": file.name}}).send()


@dataclass
class _TuspyUpload:
    """One file on its way; its creation is repeated here, since tuspy does not."""

    run: Run
    client: TusClient
    file: File
    options: dict[str, Any]
    url: str = ""
    upload_id: str = ""

    def send(self) -> None:
        while True:
            self.run.check()
            try:
                self._go_on(self._uploader())
                return
            except TusCommunicationError as error:
                self._mind(error)
            self.run.abort.wait(PATIENCE)

    def _mind(self, error: TusCommunicationError) -> None:
        assert error.status_code in PASSING, f"tuspy was answered {error.status_code}: {error}"
        if error.status_code == 404:
            self.run.book.missing(self.upload_id)
            self.url = ""

    def _uploader(self) -> Uploader:
        if self.url:
            return self.client.uploader(url=self.url, **self.options)
        asked, uploader = time.time(), self.client.uploader(**self.options)
        self.url = uploader.create_url()
        uploader.set_url(self.url)
        self.upload_id = self.run.book.born(self.url, self.file, asked)
        return uploader

    def _go_on(self, uploader: Uploader) -> None:
        while uploader.offset < self.file.size:
            uploader.upload_chunk()
            self.run.book.told(self.upload_id, uploader.offset)
        self.run.succeeded(self.upload_id, self.file)


# -- tus-js-client


def send_with_tus_js(run: Run, name: str, command: Sequence[str], folder: Path) -> None:
    """Send files with tus-js-client, two at a time."""
    with (
        (folder / "node.err").open("wb") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder) as process,
    ):
        run.processes.append(process)
        try:
            run.check()
            assert process.stdin
            assert process.stdout
            _TusJs(run, name, folder, process.stdin).drive(process.stdout)
            process.stdin.close()
            assert process.wait() == 0, "node ended badly"
        finally:
            process.kill()


class _TusJs:
    """Drives the process: gives it files, and hears what becomes of them."""

    def __init__(self, run: Run, name: str, folder: Path, jobs: IO[str]) -> None:
        self._run, self._folder, self._jobs = run, folder, jobs
        self._dice = run.dice(name)
        self._files = run.files(name)
        self._waiting: dict[str, File] = {}

    def drive(self, lines: IO[str]) -> None:
        for _ in range(AT_ONCE):
            self._next()
        while self._waiting:
            line = lines.readline()
            self._run.check()
            assert line, f"node has ended: {(self._folder / 'node.err').read_text()}"
            self._hear(json.loads(line))

    def _next(self) -> None:
        file = next(self._files, None)
        if file is not None:
            (self._folder / file.name).write_bytes(file.content())
            self._waiting[file.name] = file
            self._give(file)

    def _give(self, file: File) -> None:
        dice = self._dice
        options: dict[str, Any] = {
            "endpoint": dice.choice((self._run.url, self._run.slow_url, self._run.slow_url)),
            "retryDelays": [50] * 4000,
            "metadata": {"filename": file.name},
        }
        if dice.random() < 0.5:
            options["chunkSize"] = dice.randrange(MIB // 8, MIB)
            options["uploadDataDuringCreation"] = file.size > 0 and dice.random() < 0.5  # 4.3.1 fails with an empty file
        job = {"name": file.name, "file": str(self._folder / file.name), "options": options}
        self._jobs.write(json.dumps(job) + "\n")
        self._jobs.flush()

    def _hear(self, said: dict[str, Any]) -> None:
        file, book = self._waiting[said["name"]], self._run.book
        if said["event"] == "url":
            book.born(said["url"], file, said["asked"])
        elif said["event"] == "error":  # it gives up where the upload is gone when it sends
            assert said["status"] == 404, f"tus-js-client gave up: {said}"
            book.missing(said["url"].rpartition("/")[2])
            self._give(file)
        elif said["event"] == "offset":
            book.told(said["url"].rpartition("/")[2], said["offset"])
        else:
            self._run.succeeded(said["url"].rpartition("/")[2], file)
            del self._waiting[file.name]
            (self._folder / file.name).unlink()
            self._next()


# -- raw clients


class Patient:
    """Asks until it is answered.

    Args:
        lost: How many requests had no answer.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lost = 0
        self._raw: RawClient | None = None

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Response:
        """The first answer that is more than trouble that passes; it does pass."""
        answer, deadline = None, time.monotonic() + TROUBLE_SECONDS
        while time.monotonic() < deadline:
            self.run.check()
            try:
                if self._raw is None:
                    self._raw = RawClient(self.run.url)
                answer = self._raw.ask(method, path, headers, body)
            except TimeoutError:  # a dead server refuses, it does not keep silent
                raise
            except (OSError, ConnectionClosed):
                self.lost += 1
                self.close()
            else:
                if answer.closed:
                    self.close()
                if answer.status not in {423, 503}:
                    return answer
            self.run.abort.wait(PATIENCE)
        raise AssertionError(f"{method} {path} is not answered, or by trouble that does not pass: {answer}")

    def create(self, file: File) -> str:
        """Make an upload; returns its id."""
        asked = time.time()
        headers = {"Upload-Length": str(file.size), "Upload-Metadata": metadata(filename=file.name)}
        answer = self.ask("POST", "/files/", headers)
        assert answer.status == 201, answer
        upload_id = self.run.book.born(answer.location, file, asked)
        if not file.size:
            self.run.book.told(upload_id, 0)
        return upload_id

    def head(self, upload_id: str) -> Response:
        """Look how far an upload is."""
        before, asked = self.run.book.entries[upload_id], time.time()
        answer = self.ask("HEAD", f"/files/{upload_id}")
        self.run.book.judge(upload_id, before, asked, answer)
        return answer

    def send(self, upload_id: str, file: File, end: int) -> None:
        """Send a file up to a byte, or until the upload is gone."""
        while (offset := self.head(upload_id).offset) is not None and offset < end:
            body = file.content()[offset:end]
            answer = self.ask("PATCH", f"/files/{upload_id}", {"Upload-Offset": str(offset), **OCTETS}, body)
            assert answer.status in {204, 404, 409}, answer

    def begin(self, upload_id: str, file: File) -> RawClient | None:
        """Send the first half of a file in a request for all of it; returns the connection on which it goes on, None if it broke."""
        head = request("PATCH", f"/files/{upload_id}", {**TUS, **OCTETS, "Upload-Offset": "0", "Content-Length": str(file.size)})
        with contextlib.suppress(OSError):
            raw = RawClient(self.run.url)
            try:
                raw.send(head + file.content()[: file.size // 2])
                return raw
            except OSError:
                raw.close()
        return None

    def delete(self, upload_id: str) -> None:
        """Delete an upload; once that is acknowledged it is gone."""
        book, lost = self.run.book, self.lost
        before = book.entries[upload_id]
        book.deleting(upload_id)
        answer = self.ask("DELETE", f"/files/{upload_id}")
        assert answer.status in {204, 404}, answer
        if answer.status == 404 and self.lost == lost:
            assert book.expired(before), f"{upload_id} is lost: {before}"
        book.missing(upload_id)
        there = [folder for folder in (self.run.data.upload(upload_id), self.run.data.file(upload_id)) if folder.exists()]
        assert not there, f"deleted, and still there: {there}"

    def close(self) -> None:
        """Hang up."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None


def delete_some(run: Run, name: str) -> None:
    """Make uploads and delete them: untouched, begun, in the middle of a transfer, finished."""
    dice = run.dice(name)
    with contextlib.closing(Patient(run)) as client:
        for file in run.files(name, pause=0.1):
            upload_id = client.create(file)
            how = dice.choice(("untouched", "begun", "moving", "finished"))
            raw = client.begin(upload_id, file) if how == "moving" else None
            if how in {"begun", "finished"}:
                client.send(upload_id, file, file.size if how == "finished" else file.size // 2)
            client.delete(upload_id)
            if raw is not None:
                raw.close()


def abandon_some(run: Run, name: str) -> None:
    """Make uploads and leave them, with or without a connection that breaks."""
    dice = run.dice(name)
    with contextlib.closing(Patient(run)) as client:
        for file in run.files(name, pause=0.5):
            if not file.size:  # it would be finished
                continue
            upload_id = client.create(file)
            if dice.random() < 0.5:
                client.send(upload_id, file, dice.randrange(file.size))
            elif raw := client.begin(upload_id, file):
                raw.reset()


def look_around(run: Run, name: str) -> None:
    """Ask how far uploads are, those first that were there when the process died."""
    dice = run.dice(name)
    with contextlib.closing(Patient(run)) as client:
        while not run.enough.wait(0.005):
            if (upload_id := run.book.watched(dice)) is not None:
                client.head(upload_id)


Client = Callable[[Run, str], None]
CLIENTS: dict[str, Client] = {
    "tuspy one": send_with_tuspy,
    "tuspy two": send_with_tuspy,
    "deleter": delete_some,
    "abandoner": abandon_some,
    "watcher": look_around,
}
