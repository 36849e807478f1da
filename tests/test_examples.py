"""Each example does what it says, with a real server behind it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import Serve
from tests.support.folder import DataFolder, sha256
from tests.support.raw import RawClient, metadata
from tests.support.server import ServerProcess
from tests.support.services import program

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(*words: str | Path, folder: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_shell_script_uploads_in_two_halves(serve: Serve, data: DataFolder, tmp_path: Path) -> None:
    program("curl")
    server, file = serve(), tmp_path / "a file's name.bin"
    file.write_bytes(os.urandom(100_001))
    said = run("sh", EXAMPLES / "upload.sh", file, server.url, folder=tmp_path)
    assert "> the server has 50000 bytes; send the rest" in said
    assert "> the server has 100001 bytes of 100001" in said
    (upload_id,) = data.files()
    assert sha256(data.content(upload_id)) == sha256(file)
    with RawClient(server.url) as client:
        assert client.head(f"/files/{upload_id}").headers["upload-metadata"] == metadata(filename=file.name)


def test_the_shell_script_ends_where_the_server_refuses(serve: Serve, data: DataFolder, tmp_path: Path) -> None:
    program("curl")
    server, file = serve("--max-size", "10"), tmp_path / "file"
    file.write_bytes(bytes(11))
    words = ["sh", str(EXAMPLES / "upload.sh"), str(file), server.url]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "the server made no upload" in done.stderr


def test_the_tuspy_script_uploads(serve: Serve, data: DataFolder, tmp_path: Path) -> None:
    server, file = serve(), tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))
    said = run(sys.executable, EXAMPLES / "upload_tuspy.py", file, server.url, "--chunk-size", "1000000", folder=tmp_path)
    (upload_id,) = data.files()
    assert said.strip().endswith(upload_id)
    assert sha256(data.content(upload_id)) == sha256(file)


def test_the_embedded_server_takes_finished_files_to_its_folder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # older releases of aiohttp's `run_app` do not say which port they took
    server = ServerProcess(tmp_path / "data", command=(str(EXAMPLES / "embed.py"),))
    with server.start(port), RawClient(server.url + "files/") as client:
        path = client.post(4, b"data", Upload_Metadata=metadata(filename="../x.txt")).location
        target = tmp_path / "incoming" / f"{path.rsplit('/', 1)[1]}-x.txt"
        while not target.exists():
            time.sleep(0.02)
        assert target.read_bytes() == b"data"
        assert client.head(path).offset == 4
        assert client.get("/").text == "Upload to /files/ with any tus client.\n"
        path = client.post(4, b"data", Upload_Metadata=metadata(filename="文" * 300)).location
        while not (taken := list((tmp_path / "incoming").glob(f"{path.rsplit('/', 1)[1]}-*"))):
            time.sleep(0.02)
        assert 250 < len(taken[0].name.encode()) <= 255
