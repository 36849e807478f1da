"""A server in its own process, and what the kernel says about it.

The law: the server that runs is the very package that the test imports, and nothing of it is left when the test ends.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import tusserver

SERVE = ("-m", "tusserver", "serve")
PACKAGE_ROOT = Path(tusserver.__file__).resolve().parents[1]
TESTS_ROOT = Path(__file__).resolve().parents[2]  # behind the package: what runs is what was installed
_LISTENING = re.compile(r"https?://[^\s\"'<>]+")
_START_SECONDS = 30


class ServerProcess:
    """One server on a free port of the loopback; a context manager that kills what is left.

    Args:
        folder: The data folder.
        options: More options of the command.
        command: What Python runs: the command, or a script that takes the same `--host`, `--port` and `--upload-dir`.
        env: Variables beside those of this process.
        prefix: Words in front of the command, such as `setpriv`.
        log: The file that gets stdout and stderr, over all restarts; beside `folder` by default.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        command: Sequence[str] = SERVE,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        self.folder = folder
        self.options = options
        self.command = command
        self.prefix = prefix
        self.env = {**os.environ, "PYTHONPATH": f"{PACKAGE_ROOT}{os.pathsep}{TESTS_ROOT}", "PYTHONUNBUFFERED": "1", **(env or {})}
        self.log_file = log or folder.parent / f"{folder.name}.log"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, port: int = 0) -> Self:
        """Start it and wait until it says where it listens: the first URL that it prints.

        Raises:
            RuntimeError: It ended, or said nothing; the text is its log.
        """
        seen = len(self.log)
        address = ("--host", "127.0.0.1", "--port", str(port), "--upload-dir", str(self.folder))
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, sys.executable, *self.command, *address, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.folder.parent,
            )
        self.url = self._listening(seen)
        return self

    def _listening(self, seen: int) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            found = _LISTENING.search(self.log[seen:].rpartition("\n")[0])
            if found and not ended:
                return found[0].rstrip("/.,") + "/"
            if ended:
                break
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"the server did not start:\n{self.log[seen:]}")

    def restart(self) -> None:
        """Start it again where it was; it has ended already, or is asked to."""
        if self.process.poll() is None:
            self.sigterm()
            self.wait()
        self.start(self.port)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, running or ended."""
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def port(self) -> int:
        """The port that it got."""
        return urlsplit(self.url).port or 80

    @property
    def log(self) -> str:
        """All that it has written to stdout and stderr, over all restarts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def requests(self, method: str) -> list[str]:
        """The lines of the access log for requests with this method."""
        return [line for line in self.log.splitlines() if re.search(rf"\b{method} /", line)]

    def sigterm(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def kill9(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.wait()

    def pause(self) -> None:
        """Stop the process where it is, as a machine that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self.process.send_signal(signal.SIGCONT)

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; returns the exit status, negative for a signal."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """End it if it still runs, politely first."""
        if self._process is None or self._process.poll() is not None:
            return
        self.resume()
        self.sigterm()
        try:
            self.wait(20)
        except subprocess.TimeoutExpired:
            self.kill9()

    def io(self) -> dict[str, int]:
        """The counters of `/proc/PID/io`: bytes read and written by system calls (`rchar`, `wchar`) and at the disk."""
        lines = Path(f"/proc/{self.pid}/io").read_text().splitlines()
        return {key: int(value) for key, _, value in (line.partition(": ") for line in lines)}

    def rss(self) -> int:
        """Resident memory now, in bytes."""
        return self._status("VmRSS")

    def peak_rss(self) -> int:
        """The highest resident memory so far, in bytes."""
        return self._status("VmHWM")

    def _status(self, key: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"/proc has no {key}")
        return int(found[1]) * 1024

    def threads(self) -> int:
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def descriptors(self) -> list[str]:
        """What its open file descriptors point to."""
        targets = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                targets.append(str(entry.readlink()))
            except FileNotFoundError:
                continue  # closed since it was listed
        return sorted(targets)

    def __enter__(self) -> Self:
        return self if self._process else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
