"""A server on a file system of its own whose power is cut under it: started, used, cut, mounted, started with another boot id, compared.

The law: what was promised before the cut is there after it; what was not may be gone, and nothing is wrong.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.reliability.power_client import BIG, Journal, PowerClient, Sent, content
from tests.support.folder import DataFolder
from tests.support.image import MIB, Image
from tests.support.raw import RawClient, Response, metadata
from tests.support.server import ServerProcess
from tests.support.waiting import until

APP = ("-m", "tests.reliability.app")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
OTHER_BOOT = 'mount --bind "$0" ' + BOOT_ID + ' && exec "$@"'
CLIENTS = 4
_SERVER_ERROR = re.compile(r'" 5(?!03|07)\d\d ')


def server_errors(log: str) -> list[str]:
    """The lines of a log that no server should write, whatever its disk does: tracebacks, and any 5xx but 503 and 507."""
    return [line for line in log.splitlines() if "Traceback" in line or _SERVER_ERROR.search(line)]


def provoke(journal: Journal, image: Image, data: DataFolder) -> None:
    """Provoke write-back and commits of the log, so that a cut finds sizes on the device whose bytes are not there yet."""
    with suppress(OSError), (image.root / "beside").open("wb", buffering=0) as beside:
        while not journal.over:
            for path in data.root.glob("uploads/??/*/content"):
                with suppress(FileNotFoundError), path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            beside.write(b"x")
            os.fsync(beside.fileno())


@dataclass
class Counts:
    """What was tried."""

    cuts: int = 0
    finished: int = 0
    unfinished: int = 0
    fell_back: int = 0
    gone: int = 0
    deleted: int = 0

    def __str__(self) -> str:
        return (
            f"{self.cuts} power cuts, 0 lost, 0 wrong; compared {self.finished} finished and {self.unfinished} unfinished "
            f"({self.fell_back} had fallen back), {self.gone} unfinished gone, {self.deleted} still deleted"
        )


class PowerCuts:
    """Rounds on one image; a context manager that leaves no server.

    Args:
        folder: For the log, the events and the boot id: outside of the image.
        options: More options of the server.
    """

    def __init__(self, image: Image, folder: Path, dice: random.Random, counts: Counts, *options: str) -> None:
        self._image, self._dice, self._counts, self._options = image, dice, counts, options
        self._data = DataFolder(image.root / "data")
        self._journal = Journal()
        self._events = folder / "events"
        self._boot = folder / "boot_id"
        self._patch = False
        self._mine: list[list[Sent]] = [[] for _ in range(CLIENTS)]
        prefix = ("unshare", "-m", "sh", "-c", OTHER_BOOT, str(self._boot))
        self._server = ServerProcess(self._data.root, command=APP, prefix=prefix, log=folder / "server.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop()

    def run(self, cuts: int) -> None:
        """Cut the power so often, and compare after each."""
        self._start()
        for _ in range(cuts):
            self._work()
            self._counts.cuts += 1
            self._start()
            self._judge()
        self._server.stop()
        wrong = server_errors(self._server.log)
        assert not wrong, f"{self._place()}: the log of the server says {wrong}"

    def _start(self) -> None:
        self._boot.write_text(f"{uuid.UUID(int=self._dice.getrandbits(128))}\n")
        self._patch = self._dice.random() < 0.4
        durability = "patch" if self._patch else "finish"
        self._server.options = ("--events", str(self._events), "--durability", durability, "--sweep-interval", "0.001", *self._options)
        self._server.start()

    # -- before and at the cut

    def _work(self) -> None:
        journal = self._journal
        journal.over = False
        jobs: list[Callable[[], None]] = [lambda: provoke(journal, self._image, self._data)]
        for mine in self._mine:
            dice = random.Random(self._dice.getrandbits(64))
            jobs.append(PowerClient(journal, self._server.url, dice, mine, patch=self._patch).work)
        threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        time.sleep(self._dice.uniform(0.2, 1.5))
        journal.cut(self._image)
        if self._dice.random() < 0.5:  # the server lives on for a moment, with a disk that refuses everything
            _join(threads)
        self._server.kill9()
        _join(threads)
        self._image.remount()
        assert not journal.wrong, f"{self._place()}: before the cut {journal.wrong}"

    def _place(self) -> str:
        return f"cut {self._counts.cuts + 1} ({self._image.kind}, durability {'patch' if self._patch else 'finish'})"

    # -- after it

    def _judge(self) -> None:
        self._adopt()
        with RawClient(self._server.url) as line:
            left = [upload for upload in self._journal.uploads if upload.path and self._compare(line, upload)]
            self._go_on(line, [upload for upload in left if not upload.deleted])
        self._journal.uploads[:] = left
        for mine in self._mine:
            mine[:] = [upload for upload in mine if upload in left and not upload.deleted]
        self._settle()

    def _adopt(self) -> None:
        """Find the uploads whose creation was not answered, by the name in their metadata."""
        unnamed = {metadata(name=str(upload.seed)): upload for upload in self._journal.uploads if not upload.path}
        for upload_id in self._data.uploads() + self._data.files():
            with suppress(FileNotFoundError, ValueError):  # never born, or finished just now
                if upload := unnamed.get(self._data.record(upload_id)["metadata"]):
                    upload.path = f"/files/{upload_id}"

    def _compare(self, line: RawClient, upload: Sent) -> bool:
        """Compare an upload with what was sent; False when it is gone by right."""
        answer = self._head(line, upload)
        if answer.status == 404:
            assert upload.deleting or (upload.promised < 0 and not self._announced(upload)), f"{self._place()}: lost: {upload}"
            self._counts.deleted += upload.deleted
            self._counts.gone += not upload.deleting
            return upload.deleted
        offset = answer.offset
        assert offset is not None, f"{self._place()}: HEAD got {answer.status}: {upload}"
        assert offset == upload.length or not self._announced(upload), f"{self._place()}: announced, with {offset} bytes: {upload}"
        assert not upload.deleted, f"{self._place()}: deleted, and there again with {offset} bytes: {upload}"
        assert offset >= upload.promised, f"{self._place()}: fell back to {offset}: {upload}"
        assert upload.doubt is not None or offset <= upload.limit, f"{self._place()}: has {offset}, more than was sent: {upload}"
        self._compare_bytes(upload, offset)
        self._counts.fell_back += offset < upload.told
        upload.limit = upload.told = upload.promised = offset  # what one cut left, the next leaves too
        upload.deleting = False
        return True

    def _head(self, line: RawClient, upload: Sent) -> Response:
        """HEAD; again while it is being finished, for which the server itself waits before it answers."""
        answers: list[Response] = []

        def answered() -> bool:
            answers.append(line.head(upload.path))
            return answers[-1].status != 423

        with suppress(TimeoutError):
            until(answered, "an answer", 2)
        return answers[-1]

    def _compare_bytes(self, upload: Sent, offset: int) -> None:
        whole = offset == upload.length
        path = self._data.content(upload.upload_id) if whole else self._data.upload(upload.upload_id) / "content"
        assert path.exists() or (offset == 0 and not whole), f"{self._place()}: {path.parent} has no content: {upload}"
        sure = offset if upload.doubt is None else min(offset, upload.doubt)
        with path.open("rb") if path.exists() else open(os.devnull, "rb") as file:
            for start in range(0, sure, MIB):
                stop = min(start + MIB, sure)
                found = file.read(stop - start)
                assert found == content(upload.seed, start, stop), (
                    f"{self._place()}: wrong bytes between {start} and {stop} of {offset} ({found.count(0)} zeros): {upload}"
                )
        self._counts.finished += whole
        self._counts.unfinished += not whole

    def _go_on(self, line: RawClient, left: list[Sent]) -> None:
        """Upload some to the end, download some, delete what may have bytes of a body that was to be refused."""
        for upload in left:
            if upload.doubt is not None:
                assert line.delete(upload.path).status == 204, f"{self._place()}: DELETE: {upload}"
                upload.deleting = upload.deleted = True
        unfinished = [upload for upload in left if upload.open]
        for upload in self._dice.sample(unfinished, min(3, len(unfinished))):
            answer = line.patch(upload.path, upload.told, content(upload.seed, upload.told, upload.length))
            assert (answer.status, answer.offset) == (204, upload.length), f"{self._place()}: PATCH got {answer.status}: {upload}"
            upload.limit = upload.told = upload.promised = upload.length
            self._compare_bytes(upload, upload.length)
        finished = [upload for upload in left if upload.finished and not upload.deleted and upload.length < BIG]
        for upload in self._dice.sample(finished, min(3, len(finished))):
            answer = line.get(upload.path)
            same = answer.body == content(upload.seed, 0, upload.length)
            assert same, f"{self._place()}: GET got {answer.status}, {len(answer.body)} bytes: {upload}"

    def _settle(self) -> None:
        """A round of the sweeper later nothing is left that should not be, and each finished file has had its event."""
        stays = self._left()

        def gone() -> bool:
            stays.intersection_update(self._left())  # what the sweeper itself has open for a moment is not left
            return not stays

        with suppress(TimeoutError):
            until(gone, "nothing is left", 20)
        assert not stays, f"{self._place()}: left after a round of the sweeper: {stays}"

    def _announced(self, upload: Sent) -> bool:
        """Whether its `after_finish` was delivered."""
        return upload.upload_id in self._told()

    def _told(self) -> set[str]:
        return {line.split()[2] for line in self._events.read_text().splitlines() if line.startswith("after_finish ")}

    def _left(self) -> set[str]:
        data, root, told = self._data, str(self._data.root), self._told()
        acknowledged = [upload.upload_id for upload in self._journal.uploads if upload.finished]
        return {
            *(f"trash/{name}" for name in data.trash()),
            *(f"outbox/{name}" for name in data.outbox()),
            *(path.name for path in data.root.iterdir() if path.is_file() and path.name != "secret"),
            *(f"{upload_id} has no record" for upload_id in data.uploads() if not (data.upload(upload_id) / "upload.json").exists()),
            *(f"{upload_id} in both trees" for upload_id in set(data.uploads()) & set(data.files())),
            *(f"{upload_id} without event" for upload_id in {*data.files(), *acknowledged} - told),
            *(f"open: {path}" for path in self._server.descriptors() if re.match(rf"{root}/(uploads|files)/../", path)),
        }


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a client hangs"
