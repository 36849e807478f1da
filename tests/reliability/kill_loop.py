"""A server that is killed again and again at one port and folder, its clients at work; and the comparison at the end.

The laws: each kill leaves every upload whole, and no less of it than before. At the end each file that a client was told to be there is there,
each file that is there was sent and is equal to the byte, each finish was told as one event, what was deleted or abandoned is gone, and nothing
else is left: no folder, no temporary file, no descriptor.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import re
import signal
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.reliability.kill_book import MIB, Book, File
from tests.reliability.kill_clients import CLIENTS, Patient, Run, send_with_tus_js
from tests.support.folder import DataFolder
from tests.support.relay import SlowLine
from tests.support.server import ServerProcess
from tests.support.tries import Tries
from tests.support.waiting import until

APP = ("-m", "tests.reliability.app")
FLAGS = ("--sweep-interval", "0.005", "--expire-after")
EXPIRE_AFTER = 3.0
MOMENTS = {"starting": 4, "soon": 3, "later": 5, "finishing": 3, "owing": 2, "moving": 3}
"""When to kill, and how often: while it starts; at once, or within a second, after it listens; when an upload is about to become a file, or has
just become one and its event is owed; when a folder comes into the trash, to be born or to die."""
ALLOWED = {"200", "201", "204", "404", "409", "423", "499", "503", "507"}  # 499: the client had gone
JUST_NOW = 0.3
LAST_FILES = 60
Events = dict[str, dict[str, list[tuple[int, int]]]]


class KillLoop:
    """One run.

    Args:
        folder: Everything is below it.
        node: The command that drives tus-js-client.
        options: More options of the server.
        moments: When to kill, with their weights.
        patience: Seconds that what is to go may take to go, at the end.
    """

    def __init__(
        self,
        folder: Path,
        tries: Tries,
        node: Sequence[str],
        *options: str,
        moments: Mapping[str, int] = MOMENTS,
        patience: float = 60,
    ) -> None:
        self.folder, self.seed, self.dice, self.node = folder, tries.seed, tries.dice, node
        self.moments, self.patience = moments, patience
        self.data = DataFolder(folder / "data")
        self.events = folder / "events"
        self.durability = self.dice.choice(("finish", "patch", "none"))
        flags = (*FLAGS, str(EXPIRE_AFTER), "--durability", self.durability, "--events", str(self.events), *options)
        self.server = ServerProcess(self.data.root, *flags, command=APP)
        self.port = free_port(self.dice)
        self.start_seconds = 0.5
        self.kills = Counter[str]()
        self.in_transfers = 0

    def go(self, count: int) -> str:
        """Kill so often, with all clients at work; then compare. Returns what was counted."""
        try:
            self.live_and_die_often(count)
            self.compare_files()
            return f"{self.summary()}, {self.compare_events(told(self.events))} events told again, 0 lost, 0 wrong"
        except AssertionError as error:
            error.add_note(f"after {self.kills.total()} kills of {count}, durability {self.durability}, seed {self.seed}, in {self.folder}")
            raise
        finally:
            self.server.stop()

    def live_and_die_often(self, count: int) -> None:
        """All lives, the last of which ends well."""
        url = f"http://127.0.0.1:{self.port}/files/"
        with SlowLine(url, MIB) as line:
            self.run = Run(url, line.url, self.data, Book(EXPIRE_AFTER), self.seed)
            with self.clients() as clients:
                while self.kills.total() < count:
                    self.live_and_die()
                    mind(clients)
                self.start()
            self.settle()
            self.end()

    @contextlib.contextmanager
    def clients(self) -> Iterator[list[Future[None]]]:
        """All clients at work; at the end each has ended what it had begun."""
        with ThreadPoolExecutor(len(CLIENTS) + 1) as pool:
            working = [pool.submit(client, self.run, name) for name, client in CLIENTS.items()]
            working.append(pool.submit(send_with_tus_js, self.run, "tus-js", self.node, self.folder))
            try:
                yield working
                self.run.enough.set()
                for client in working:
                    client.result(LAST_FILES)
            except BaseException:
                self.run.end()
                raise

    # -- one life

    def start(self) -> None:
        """Start it, with a log of its own."""
        began = time.monotonic()
        self.server.log_file = self.folder / f"server-{self.kills.total()}.log"
        self.server.start(self.port)
        self.start_seconds = time.monotonic() - began

    def live_and_die(self) -> None:
        """One life, and what it left."""
        moment = self.dice.choices(list(self.moments), list(self.moments.values()))[0]
        if moment == "starting":
            self.start_and_die()
        else:
            self.start()
            self.wait_for(moment)
            self.server.kill9()
        self.kills[moment] += 1
        self.autopsy()

    def start_and_die(self) -> None:
        """Kill it while it starts: at a random time, or as soon as it touches the disk."""
        before = self.server._process
        delay = self.dice.choice((None, self.dice.uniform(0, self.start_seconds * 1.2)))

        def strike() -> None:
            until(lambda: self.server._process is not before, "there is a new process")
            if delay is None:
                self.wait_for_change("trash")
            else:
                time.sleep(delay)
            self.server.process.kill()

        striker = threading.Thread(target=strike)
        striker.start()
        try:
            self.start()
        except RuntimeError:
            assert self.server.wait() == -signal.SIGKILL, self.server.log
        striker.join()
        self.server.wait()

    def wait_for(self, moment: str) -> None:
        """Wait until it is time to kill: some time, or a little after something has changed on disk."""
        if moment == "soon":
            time.sleep(self.dice.uniform(0, 0.05))
        elif moment == "later":
            time.sleep(self.dice.uniform(0.05, 1))
        elif moment == "owing":
            for upload_id in self.wait_for_change("outbox"):
                wait_briefly(self.data.file(upload_id).exists)
        else:
            self.wait_for_change("outbox" if moment == "finishing" else "trash")
            time.sleep(self.dice.choice((0, 0.001, 0.003, 0.01)))

    def wait_for_change(self, tree: str) -> set[str]:
        """Wait until something new is in a tree, for a while; returns what."""
        path = self.data.root / tree
        before = names(path)
        wait_briefly(lambda: not names(path) <= before)
        return names(path) - before

    def autopsy(self) -> None:
        """What the dead process left: each upload whole, and from now on never less of it."""
        moving = False
        for upload_id in self.data.uploads():
            record, content = self.data.record(upload_id), (self.data.upload(upload_id) / "content").stat()
            moving |= time.time() - content.st_mtime < JUST_NOW and content.st_size < record["length"]
            self.run.book.born(f"/{upload_id}", sent_to(record), content.st_mtime)
            self.run.book.lay(upload_id, content.st_size, content.st_mtime)
        self.in_transfers += moving
        self.read_log()

    def read_log(self) -> None:
        """Nothing in it but answers and news."""
        log, place = self.server.log, f"kill {self.kills.total()}, {self.server.log_file}"
        bad = [line for line in log.splitlines() if re.match("Traceback|ERROR|WARNING|CRITICAL", line)]
        assert not bad, f"{place}: {bad}"
        strange = set(re.findall(r'HTTP/1\.1" (\d{3})', log)) - ALLOWED
        assert not strange, f"{place}: {strange}"
        self.server.log_file.unlink(missing_ok=True)

    # -- the end

    def settle(self) -> None:
        """Wait until everything that is to go has gone, and ask for every upload that there ever was."""
        for tree in (self.data.outbox, self.data.uploads, self.data.outbox, self.data.trash):  # an upload may finish only now
            self.wait_until_empty(tree)
        with contextlib.closing(Patient(self.run)) as client:
            for upload_id in self.run.book.entries:
                client.head(upload_id)
        unclear = [upload_id for upload_id, entry in self.run.book.entries.items() if entry.finished == entry.gone and not entry.deleting]
        assert not unclear, f"neither finished nor gone: {unclear}"
        inside = [path for path in self.server.descriptors() if path.startswith(f"{self.data.root}/")]
        assert not inside, f"still open: {inside}"

    def wait_until_empty(self, tree: Callable[[], list[str]]) -> None:
        """Wait until a tree has nothing in it."""
        with contextlib.suppress(TimeoutError):
            until(lambda: not tree(), "it is empty", self.patience)
        assert not tree(), f"left in {tree.__name__}/ after {self.kills.total()} kills: {tree()}"

    def end(self) -> None:
        """End it politely."""
        self.server.sigterm()
        assert self.server.wait() == 0, self.server.log
        self.read_log()

    def compare_files(self) -> None:
        """Each file is one that was sent, equal to the byte, and those are there that were acknowledged; and nothing else is."""
        files = self.data.files()
        for upload_id in files:
            record, content = self.data.record(upload_id), self.data.content(upload_id).read_bytes()
            file = sent_to(record)
            assert record["length"] == file.size, f"{upload_id}: {record}"
            assert content == file.content(), f"{upload_id}: {len(content)} bytes, the same up to {common(content, file.content())} of {file}"
        lost = {upload_id: file for upload_id, file in self.run.sent.items() if upload_id not in files}
        assert not lost, f"told to be complete, and not there: {lost}"
        made = [f"files/{upload_id[:2]}/{upload_id}/{name}" for upload_id in files for name in ("content", "upload.json")]
        assert self.data.regular_files() == sorted([*made, "secret"])
        left = [str(path) for path in self.data.root.glob("*/*") if not re.fullmatch("[0-9a-f]{2}", path.name)]
        assert not left, f"left behind: {left}"

    def compare_events(self, events: Events) -> int:
        """Each finish told at least once, and always as the same event; nothing told that did not happen. Returns how many were told again."""
        files, entries = set(self.data.files()), self.run.book.entries
        created, finished, terminated = events["after_create"], events["after_finish"], events["after_terminate"]
        unheard = (files | {upload_id for upload_id, entry in entries.items() if entry.finished}) - finished.keys()
        assert not unheard, f"finished, and never told: {unheard}"
        for name, uploads in events.items():
            for upload_id, heard in uploads.items():
                assert len(set(heard)) == 1, f"{name} of {upload_id} is told as different events: {heard}"
                assert len(heard) == 1 or name == "after_finish", f"{name} of {upload_id} is told again: {heard}"
        for upload_id, ((number, offset), *_) in finished.items():
            size = sent_to(self.data.record(upload_id)).size if upload_id in files else entries[upload_id].file.size
            assert offset == size, f"after_finish of {upload_id} has offset {offset} of {size}"
            assert upload_id in files or entries[upload_id].deleting, f"after_finish of {upload_id}, which is no file"
            assert upload_id not in created or created[upload_id][0][0] < number, f"{upload_id} is finished before it is created"
        assert not terminated.keys() & files, f"told to be gone, and there: {terminated.keys() & files}"
        return sum(len(heard) - 1 for heard in finished.values())

    def summary(self) -> str:
        """What was done."""
        entries = self.run.book.entries.values()
        kills = ", ".join(f"{count} {moment}" for moment, count in sorted(self.kills.items()))
        deleted, gone = sum(entry.deleting for entry in entries), sum(entry.gone for entry in entries)
        return (
            f"{self.kills.total()} kills ({kills}), {self.in_transfers} within a transfer, durability {self.durability}:"
            f" {len(self.data.files())} files equal, {deleted} uploads deleted, {gone - deleted} expired, {self.run.book.asked} offsets asked"
        )


def wait_briefly(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, to the fraction of a millisecond; or for a second."""
    deadline = time.monotonic() + 1
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.0002)


def mind(clients: list[Future[None]]) -> None:
    """Let a client's failure be felt."""
    for client in clients:
        if client.done():
            client.result()


def free_port(dice: random.Random) -> int:
    """A port that the kernel gives to nobody else while the server is dead: one below those that it chooses from."""
    while True:
        port = dice.randrange(15000, 30000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def names(path: Path) -> set[str]:
    """What is in a folder; nothing before there is one."""
    try:
        return set(os.listdir(path))
    except FileNotFoundError:
        return set()


def sent_to(record: dict[str, Any]) -> File:
    """The file that was to be sent to an upload."""
    return File.named(base64.b64decode(record["metadata"].split()[1]).decode())


def common(one: bytes, other: bytes) -> int:
    """How many bytes two contents have in common at their beginning."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def told(file: Path) -> Events:
    """What the server told: by event and upload, each number and offset, in order."""
    events: Events = defaultdict(lambda: defaultdict(list))
    for line in file.read_text().splitlines():
        name, number, upload_id, offset = line.split()
        events[name][upload_id].append((int(number), int(offset)))
    return events
