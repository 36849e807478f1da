"""Clients of a server whose power will be cut: what each sent, and what it was told before the cut.

    Sent         one upload, as its client knows it
    Journal      all of them; the cut ends it
    PowerClient  creates, appends, breaks off, runs past the length, deletes, as its dice say

The law: an answer counts only if it was received before the power was cut; a request without such an answer may have happened or not.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.image import MIB, Image
from tests.support.raw import OCTETS, TUS, ConnectionClosed, RawClient, Response, chunked, metadata, request

BIG = 70 * MIB  # past the first mark
ROOM = 150 * MIB  # of one client; the image holds all of them
DRAINED = 4 * MIB  # the most that is read of a body that is refused
_PATTERN = random.Random(1).randbytes(MIB + 7)


def content(seed: int, start: int, stop: int) -> bytes:
    """The bytes of a file that is known by its seed: made anew wherever they are compared."""
    at = (seed + start) % len(_PATTERN)
    end = at + stop - start
    return (_PATTERN * (end // len(_PATTERN) + 1))[at:end]


@dataclass
class Sent:
    """One upload, as its client knows it.

    Args:
        seed: Its content, and its name in the metadata.
        limit: No byte past it was sent.
        told: The last offset that an answer told.
        promised: What a power cut must leave; -1 where it may leave nothing.
        doubt: Where a body began that was to be refused and was not answered: what fits of it may be there.
    """

    seed: int
    length: int
    path: str = ""
    limit: int = 0
    told: int = 0
    promised: int = -1
    doubt: int | None = None
    deleting: bool = False
    deleted: bool = False

    @property
    def upload_id(self) -> str:
        """Its id, "" when no answer told it."""
        return self.path.rpartition("/")[2]

    @property
    def finished(self) -> bool:
        """Whether its end was acknowledged."""
        return self.promised == self.length

    @property
    def open(self) -> bool:
        """Whether its client may go on with it."""
        return bool(self.path) and not (self.finished or self.deleting or self.doubt is not None)

    def __str__(self) -> str:
        return f"upload {self.upload_id} ({self.told} of {self.length} bytes told, {self.promised} promised, {self.limit} sent)"


@dataclass
class Journal:
    """What all clients know; the cut ends it."""

    uploads: list[Sent] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def answered(self) -> Iterator[bool]:
        """Whether an answer that was just received counts; the cut waits while it is noted."""
        with self._lock:
            yield not self.over

    def cut(self, image: Image) -> None:
        """No answer counts any more; then the power is cut."""
        with self._lock:
            self.over = True
        image.shut_down()


def patched(line: RawClient, path: str, begin: int, body: bytes, **framing: str) -> Response | None:
    """The answer to a PATCH; None where a large body was refused at once: the server reads 4 MiB of it, and then closes."""
    fields = {name.replace("_", "-"): value for name, value in framing.items()}
    try:
        with suppress(ConnectionError):
            line.send(request("PATCH", path, {**TUS, **OCTETS, "Upload-Offset": str(begin), **fields}, body))
        return line.read()
    except (ConnectionError, ConnectionClosed):
        if len(body) <= DRAINED:
            raise
        return None


class PowerClient:
    """One client.

    Args:
        mine: Its uploads, of earlier rounds too.
        patch: Whether every offset is promised, not only the last.
    """

    def __init__(self, journal: Journal, url: str, dice: random.Random, mine: list[Sent], *, patch: bool) -> None:
        self._journal, self._url, self._dice, self._mine, self._patch = journal, url, dice, mine, patch

    def work(self) -> None:
        """Go on until the power is cut."""
        while not self._journal.over:
            try:
                with RawClient(self._url) as line:
                    self._step(line)
            except (OSError, ConnectionClosed) as error:
                self._complain(f"a connection failed: {error!r}")
            except Exception as error:  # noqa: BLE001  # a thread: the machine raises it
                self._complain(f"the client failed: {error!r}")

    def _step(self, line: RawClient) -> None:
        stored = [upload for upload in self._mine if upload.path and not upload.deleting]
        going = [upload for upload in stored if upload.open]
        if sum(upload.length for upload in stored) > ROOM:
            self._delete(line, max(stored, key=lambda upload: upload.length))
        elif len(going) < 2 or self._dice.random() < 0.3:
            self._create(line)
        else:
            steps = (self._append, self._break_off, self._run_over, self._delete)
            step, target = self._dice.choices(steps, (10, 3, 2, 1))[0], self._dice.choice(going)
            step(line, self._dice.choice(stored) if step == self._delete else target)

    def _size(self) -> int:
        small, middle, big = (self._dice.randint(*span) for span in ((1, 65536), (1, 4 * MIB), (BIG, 2 * BIG)))
        return self._dice.choices((0, small, middle, big), (1, 8, 8, 2))[0]

    def _create(self, line: RawClient) -> None:
        upload = Sent(self._dice.getrandbits(40), self._size())
        upload.limit = min(self._dice.choice((0, 0, self._dice.randint(1, MIB))), upload.length)
        self._journal.uploads.append(upload)
        self._mine.append(upload)
        body = content(upload.seed, 0, upload.limit)
        answer = line.post(upload.length, body, Upload_Metadata=metadata(name=str(upload.seed)))
        with self._journal.answered() as counts:
            if counts and self._expect(upload, "POST", answer, 201):
                upload.path = answer.location
                self._acknowledge(upload, answer.offset or 0, upload.limit)

    def _append(self, line: RawClient, upload: Sent) -> None:
        begin = self._offset(line, upload)
        if begin is None:
            return
        end = upload.length if self._dice.random() < 0.4 else self._dice.randint(begin + 1, upload.length)
        upload.limit = max(upload.limit, end)
        answer = patched(line, upload.path, begin, content(upload.seed, begin, end))
        with self._journal.answered() as counts:
            if counts and answer and self._expect(upload, "PATCH", answer, 204, 409):
                self._acknowledge(upload, answer.offset, end)

    def _break_off(self, line: RawClient, upload: Sent) -> None:
        begin = self._offset(line, upload)
        if begin is not None:
            end = self._dice.randint(begin, upload.length - 1)
            upload.limit = max(upload.limit, end)
            head = {**TUS, **OCTETS, "Upload-Offset": str(begin), "Content-Length": str(upload.length - begin)}
            with suppress(ConnectionError):
                line.send(request("PATCH", upload.path, head) + content(upload.seed, begin, end))
            self._dice.choice((line.reset, line.close))()

    def _run_over(self, line: RawClient, upload: Sent) -> None:
        """A chunked body with other bytes, past the length: refused, and nothing of it kept."""
        begin = self._offset(line, upload)
        if begin is None:
            return
        upload.doubt = begin
        poison = content(upload.seed + 1, begin, upload.length + self._dice.randint(1, 65536))
        body = chunked(*(poison[at : at + MIB] for at in range(0, len(poison), MIB)))
        answer = patched(line, upload.path, begin, body, Transfer_Encoding="chunked")
        with self._journal.answered() as counts:
            if counts and answer and self._expect(upload, "PATCH past the length", answer, 413, 409):
                upload.doubt = None

    def _delete(self, line: RawClient, upload: Sent) -> None:
        upload.deleting = True
        answer = line.delete(upload.path)
        with self._journal.answered() as counts:
            upload.deleted = counts and self._expect(upload, "DELETE", answer, 204)

    def _offset(self, line: RawClient, upload: Sent) -> int | None:
        """Where to go on; None where that is not known, or nothing is left to send."""
        answer = line.head(upload.path)
        with self._journal.answered() as counts:
            if not counts or not self._expect(upload, "HEAD", answer, 200) or answer.offset is None:
                return None
            if answer.offset > upload.limit or answer.offset < upload.told:
                self._journal.wrong.append(f"HEAD says {answer.offset}: {upload}")
            self._acknowledge(upload, answer.offset, upload.limit, promise=False)
            return None if upload.finished else answer.offset

    def _expect(self, upload: Sent, what: str, answer: Response, *statuses: int) -> bool:
        """Whether an answer is the first of these; none but these, and trouble that passes, is right."""
        if answer.status not in {*statuses, 423, 503, 507}:
            self._journal.wrong.append(f"{what} got {answer.status} {answer.text!r}: {upload}")
        return answer.status == statuses[0]

    def _acknowledge(self, upload: Sent, offset: int | None, sent: int, *, promise: bool = True) -> None:
        if offset is None or (promise and offset != sent):
            self._journal.wrong.append(f"{sent} bytes were sent and {offset} acknowledged: {upload}")
            return
        upload.told = offset
        if offset == upload.length or (promise and self._patch):
            upload.promised = offset

    def _complain(self, text: str) -> None:
        with self._journal.answered() as counts:
            if counts:
                self._journal.wrong.append(text)
