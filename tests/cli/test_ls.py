"""What `tusserver ls` shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.folder import DataFolder
from tests.support.raw import RawClient, metadata
from tusserver.cli import ls
from tusserver.model import Metadata, Upload


def listed(data: DataFolder, *flags: str) -> str:
    words = [sys.executable, "-m", "tusserver", "ls", "--upload-dir", str(data.root), *flags]
    return subprocess.run(words, cwd=data.root.parent, capture_output=True, text=True, check=True, timeout=30).stdout


def test_it_shows_finished_unfinished_and_damaged_uploads_while_a_server_runs(serve: Serve, data: DataFolder) -> None:
    server = serve()
    with RawClient(server.url) as client:
        done = client.post(4, b"data", Upload_Metadata=metadata(filename="done.txt")).location[-32:]
        half = client.post(1000, b"x" * 500, Upload_Metadata=metadata(filename="half\x1b[31m.txt")).location[-32:]
        later = client.post(None).location[-32:]
        broken = client.post(4, b"data").location[-32:]
    data.content(broken).write_bytes(b"dat")
    record = data.upload(later) / "upload.json"
    record.write_text(record.read_text().replace('"v": 1', '"v": 99'))
    before = data.snapshot()
    rows = {row["id"]: row for row in map(json.loads, listed(data, "--json").splitlines())}
    assert (rows[done]["state"], rows[done]["name"], rows[done]["percent"]) == ("finished", "done.txt", 100)
    assert (rows[half]["state"], rows[half]["offset"], rows[half]["length"], rows[half]["percent"]) == ("unfinished", 500, 1000, 50)
    assert "another version" in rows[later]["state"]
    assert "damaged" in rows[broken]["state"]
    text = listed(data)
    assert "\x1b" not in text
    assert "500 B of 1000 B" in text
    assert data.snapshot() == before


def test_a_folder_that_is_none_is_said_so(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tusserver", "ls", "--upload-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr.endswith("is no data folder\n")


def test_a_terminal_that_lacks_letters_and_a_pipe_that_closes_are_no_trouble(serve: Serve, data: DataFolder) -> None:
    with RawClient(serve().url) as client:
        client.post(4, Upload_Metadata=metadata(filename="zażółć.txt"))
    ls_command = f'"{sys.executable}" -m tusserver ls --upload-dir "{data.root}"'
    for tail in ("", " | true"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", ls_command + tail],
            cwd=data.root.parent,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert ("za\\u017c\\xf3\\u0142\\u0107.txt" in done.stdout) == (not tail)


def test_a_folder_that_cannot_be_read_is_one_line(serve: Serve, data: DataFolder) -> None:
    serve().stop()
    (data.root / "uploads" / "07").rmdir()
    words = [sys.executable, "-m", "tusserver", "ls", "--upload-dir", str(data.root)]
    done = subprocess.run(words, cwd=data.root.parent, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No such file or directory" in done.stderr


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**60, "1048576.0 TiB")])
def test_sizes_have_units(size: int, text: str) -> None:
    assert ls.human(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (200_000, "2d")])
def test_ages_have_units(seconds: int, text: str) -> None:
    assert ls.age(seconds) == text


@pytest.mark.parametrize(
    ("offset", "length", "percent"), [(0, None, None), (0, 10, 0), (999, 1000, 99), (9999, 10000, 99), (10, 10, 100), (0, 0, 100)]
)
def test_a_hundred_percent_is_all_of_it(offset: int, length: int | None, percent: int | None) -> None:
    assert ls.percent(Upload(id="0" * 32, offset=offset, length=length)) == percent


def test_a_name_does_nothing_to_a_terminal() -> None:
    upload = Upload(id="0" * 32, metadata=Metadata(metadata(filename="a\x07\u202eb\x1b]0;x")), owner="o\nwner")
    (row,) = list(ls.table([ls.entry(upload, 0)]))[1:]
    assert row.isprintable()
