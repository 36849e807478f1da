"""How long a HEAD takes while the sweeper goes through a folder with very many unfinished uploads.

    python -m benchmarks.sweep [--uploads 100000] [--seconds 10] [--folder DIR]

The law: one server, one upload that is asked for, the same client at the same pace; only the sweeper differs: one that sleeps, one at its default
pace, one without a pause, and one that finds everything expired.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

YEAR = 365 * 86400
PAUSE = 0.002
RECORD = {"v": 1, "owner": None, "length": 1000, "metadata": "", "created": 0.0, "synced": 0, "taken": False}


@dataclass(frozen=True)
class Row:
    """HEADs under one sweeper: how long each took, in milliseconds."""

    name: str
    times: list[float]
    left: int

    def line(self, base: Row) -> str:
        """The row of the table; the ratio is of the medians."""
        cuts = statistics.quantiles(self.times, n=100)
        ratio = statistics.median(self.times) / statistics.median(base.times)
        return f"{self.name:<34}{len(self.times):>7}{cuts[49]:>8.2f}{cuts[98]:>8.2f}{max(self.times):>8.2f}{ratio:>7.1f}{self.left:>9}"


def make_uploads(data: Path, count: int) -> None:
    """Unfinished uploads, as a server leaves them, spread over all folders."""
    record = json.dumps(RECORD | {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}).encode()
    for number in range(count):
        upload_id = f"{number % 256:02x}{secrets.token_hex(15)}"
        folder = f"{data}/uploads/{upload_id[:2]}/{upload_id}"
        os.mkdir(folder)
        for name, content in (("upload.json", record), ("content", b"4")):
            fd = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT)
            os.write(fd, content)
            os.close(fd)


def age_uploads(data: Path) -> None:
    """All of them got their last byte a year ago."""
    for content in data.glob("uploads/??/*/content"):
        os.utime(content, (time.time() - YEAR,) * 2)


@contextlib.contextmanager
def server(data: Path, interval: float) -> Iterator[int]:
    """The command, in a process of its own; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tusserver", "serve", "--port", str(port), "--upload-dir", str(data), "--sweep-interval", str(interval)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def ask(client: http.client.HTTPConnection, method: str, path: str, **fields: str) -> http.client.HTTPResponse:
    """One request on a connection that stays open."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    client.request(method, path, headers={"Tus-Resumable": "1.0.0"} | headers)
    answer = client.getresponse()
    answer.read()
    return answer


def measure(name: str, data: Path, interval: float, seconds: float) -> Row:
    """HEAD on one upload, again and again."""
    with server(data, interval) as port, contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
        location = ask(client, "POST", "/files/", Upload_Length="10").headers["Location"]
        path = re.sub(r"^https?://[^/]+", "", location)
        ask(client, "HEAD", path)
        times = []
        end = time.monotonic() + seconds
        while (began := time.perf_counter()) and time.monotonic() < end:
            answer = ask(client, "HEAD", path)
            times.append((time.perf_counter() - began) * 1000)
            assert (answer.status, answer.headers["Upload-Offset"]) == (200, "0"), answer.status
            time.sleep(PAUSE)
        ask(client, "DELETE", path)
    return Row(name, times, sum(1 for _ in data.glob("uploads/??/*")))


def main() -> None:
    """Measure, print, remove the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each row is measured")
    parser.add_argument("--folder", help="where the data folder is made; the folder for temporary files by default")
    options = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="sweep-", dir=options.folder))
    try:
        with server(data, 3600):
            pass  # it has made the folders
        began = time.monotonic()
        make_uploads(data, options.uploads)
        print(f"{options.uploads} unfinished uploads made in {time.monotonic() - began:.0f} s")
        rows = [
            measure("no sweep", data, 3600, options.seconds),
            measure("sweep, one folder a second", data, 1, options.seconds),
            measure("sweep, without a pause", data, 0.001, options.seconds),
        ]
        age_uploads(data)
        rows.append(measure("sweep, everything has expired", data, 0.001, options.seconds))
        print(f"{'HEAD on one upload, ms':<34}{'HEADs':>7}{'p50':>8}{'p99':>8}{'max':>8}{'ratio':>7}{'left':>9}")
        for row in rows:
            print(row.line(rows[0]))
    finally:
        shutil.rmtree(data)


if __name__ == "__main__":
    main()
