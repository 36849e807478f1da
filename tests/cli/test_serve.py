"""`tusserver serve` from its start to its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.folder import DataFolder
from tests.support.raw import TUS, RawClient, request
from tests.support.services import program


def serve_and_fail(folder: Path, *flags: str) -> tuple[int, str]:
    words = [sys.executable, "-m", "tusserver", "serve", "--upload-dir", str(folder / "data"), "--port", "0", *flags]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stderr


@contextlib.contextmanager
def running(words: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield server
        finally:
            server.kill()  # does nothing to one that has ended


def test_it_says_where_it_listens_and_stores_and_a_line_that_works(serve: Serve, data: DataFolder) -> None:
    program("curl")
    server = serve()
    lines = server.log.splitlines()
    assert lines[0] == f"tusserver listening on {server.url}"
    assert lines[1] == f"storing in {data.root} (durability: finish)"
    line = lines[2].removeprefix("try: ")
    answer = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=30).stdout
    assert answer.startswith("HTTP/1.1 201 ")
    (upload_id,) = data.files()
    assert data.content(upload_id).read_bytes() == b"hello\n"


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(serve: Serve, name: signal.Signals) -> None:
    server = serve()
    server.process.send_signal(name)
    assert server.wait() == 0
    assert "Traceback" not in server.log


def test_a_slow_download_does_not_hold_it_back(serve: Serve) -> None:
    server = serve()
    with RawClient(server.url) as client:
        path = client.post(30_000_000, b"x" * 30_000_000).location
        client.send(request("GET", path))
        assert client.socket.recv(12) == b"HTTP/1.1 200"
        server.sigterm()
        assert server.wait() == 0
    assert "Traceback" not in server.log


def test_each_request_is_one_line_of_the_access_log(serve: Serve) -> None:
    server = serve()
    with RawClient(server.url) as client:
        client.post(4)
        client.ask("HEAD", "/files/" + "0" * 32)
    server.sigterm()
    server.wait()
    lines = [line for line in server.log.splitlines() if "HTTP/1.1" in line]
    assert [re.sub(r".*INFO 127[.]0[.]0[.]1 (.*) \d+ [\d.]+$", r"\1", line) for line in lines] == [
        '"POST /files/ HTTP/1.1" 201',
        f'"HEAD /files/{"0" * 32} HTTP/1.1" 404',
    ]


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, text = serve_and_fail(tmp_path, "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert text.count("\n") == 1
    assert "address already in use" in text


def test_a_host_that_cannot_be_one_is_one_line(tmp_path: Path) -> None:
    text = "tusserver: cannot listen on ..:0: this is no name of a host\n"
    assert serve_and_fail(tmp_path, "--host", "..") == (1, text)


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    code, text = serve_and_fail(tmp_path)
    assert code == 1
    assert re.fullmatch(r"tusserver: .* cannot be used as a data folder: Not a directory\n", text)


def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    code, text = serve_and_fail(tmp_path, "--tls-certificate", "missing.pem")
    assert code == 1
    assert text == "tusserver: the certificate cannot be used: [Errno 2] No such file or directory\n"


def test_a_key_without_its_certificate_is_a_bad_value(tmp_path: Path) -> None:
    assert serve_and_fail(tmp_path, "--tls-key", "key.pem") == (2, "tusserver serve: --tls-key needs --tls-certificate\n")


def test_a_socket_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    code, text = serve_and_fail(tmp_path, "--unix-sock", "missing/up.sock")
    assert (code, text) == (1, "tusserver: cannot listen on missing/up.sock: No such file or directory\n")


def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tusserver", "serve", "--upload-dir", str(tmp_path / "data"), "--unix-sock", "up.sock"]
    with running(words, tmp_path) as server:
        assert server.stdout is not None
        assert "up.sock" in server.stdout.readline()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "up.sock"))
            client.sendall(request("POST", "/files/", {**TUS, "Upload-Length": "1"}))
            assert client.recv(1000).startswith(b"HTTP/1.1 201 ")
        server.terminate()
        assert server.wait(30) == 0


def test_it_serves_over_tls(tmp_path: Path) -> None:
    openssl = program("openssl")
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
    subprocess.run([*make, "-subj", "/CN=localhost"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    words = [sys.executable, "-m", "tusserver", "serve", "--port", "0", "--tls-certificate", "cert.pem", "--tls-key", "key.pem"]
    content = tmp_path / "content"
    content.write_bytes(os.urandom(3_000_000))
    with running(words, tmp_path) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        assert url.startswith("https://")
        send = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Tus-Resumable: 1.0.0", "-H", "Upload-Length: 3000000"]
        octets = ["-H", "Content-Type: application/offset+octet-stream", "--data-binary", "@content", url]
        done = subprocess.run([program("curl"), *send[1:], *octets], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "201"
        (stored,) = (tmp_path / "data").glob("files/*/*/content")
        assert stored.read_bytes() == content.read_bytes()
        got = subprocess.run(
            [program("curl"), "-sk", url + stored.parent.name], cwd=tmp_path, capture_output=True, check=True, timeout=60
        ).stdout
        assert got == content.read_bytes()
        server.terminate()
        assert server.wait(30) == 0


def test_a_closed_stdout_is_no_reason_not_to_serve(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = f'exec "{sys.executable}" -m tusserver serve --upload-dir data --port {port} >&-'
    with running(["sh", "-c", words], tmp_path) as server:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with RawClient(f"http://127.0.0.1:{port}/files/") as client:
                    assert client.post(1).status == 201
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        server.terminate()
        assert server.wait(30) == 0


def test_a_header_field_of_sixty_thousand_bytes_reaches_the_rules(serve: Serve) -> None:
    server = serve()
    with RawClient(server.url) as client:
        answer = client.post(1, Upload_Metadata="key " + "A" * 60_000)
        assert answer.status == 400
        assert "16384 bytes" in answer.text
        assert answer.headers["tus-resumable"] == "1.0.0"


def test_what_the_parser_refuses_speaks_tus_too(serve: Serve) -> None:
    server = serve()
    with RawClient(server.url) as client:
        client.send(b"get /files/ HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = client.read()
        assert (answer.status, answer.headers["tus-resumable"]) == (400, "1.0.0")
