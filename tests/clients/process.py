"""A client in a process of its own, which says what happens in lines of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.folder import DataFolder, sha256
from tests.support.relay import SlowLine
from tests.support.waiting import until

HERE = Path(__file__).resolve().parent
MIB = 1024 * 1024


@dataclass(frozen=True)
class Ended:
    """A client that has ended.

    Args:
        status: Its exit status.
        events: What it said.
        errors: Its stderr.
    """

    status: int
    events: list[dict[str, Any]]
    errors: str

    def all(self, event: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [said for said in self.events if said["event"] == event]

    @property
    def upload_id(self) -> str:
        """The id in the URL that the successful client names."""
        assert self.status == 0, (self.events[-3:], self.errors)
        (success,) = self.all("success")
        return str(success["url"]).rsplit("/", 1)[1]


class ClientProcess:
    """A running client; a context manager that kills it if it still runs.

    Args:
        command: The program and its first arguments.
        job: What it shall do; goes to it as one argument of JSON.
        cwd: Where it runs.
    """

    def __init__(self, command: Sequence[str], job: dict[str, Any], cwd: Path) -> None:
        self._output = cwd / "client.jsonl"
        self._errors = cwd / "client.err"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, json.dumps(job)], cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
            )

    def wait(self, seconds: float = 150) -> Ended:
        """Wait for its end."""
        status = self._process.wait(seconds)
        events = [json.loads(line) for line in self._output.read_text().splitlines()]
        return Ended(status, events, self._errors.read_text())

    def wait_for_bytes(self, data: DataFolder, count: int) -> None:
        """Wait until so many bytes of the only unfinished upload have arrived, while the client runs."""

        def there() -> bool:
            assert self._process.poll() is None, (self._output.read_text(), self._errors.read_text())
            return received(data) >= count

        until(there, f"{count} bytes on disk")

    def kill(self) -> None:
        """Kill it, and wait until it is gone; it must still have been running."""
        assert self._process.poll() is None, self._errors.read_text()
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def python_client(script: str, job: dict[str, Any], cwd: Path) -> ClientProcess:
    """Start one of the scripts beside this file."""
    return ClientProcess([sys.executable, str(HERE / script)], job, cwd)


def received(data: DataFolder) -> int:
    """How many bytes of the only unfinished upload are on disk; 0 while there is none."""
    contents = [path.stat().st_size for path in data.root.glob("uploads/??/*/content")]
    return contents[0] if contents else 0


def kill_midway(client: ClientProcess, line: SlowLine, data: DataFolder, count: int) -> None:
    """Kill a client once so many bytes have arrived, and its connection with it."""
    client.wait_for_bytes(data, count)
    client.kill()
    line.cut()
    time.sleep(1)  # within a second HEAD tells all that has arrived


def assert_stored(data: DataFolder, upload_id: str, source: Path) -> None:
    """The upload is finished, and is the file; nothing else has been left."""
    assert sha256(data.content(upload_id)) == sha256(source)
    assert data.uploads() == []
