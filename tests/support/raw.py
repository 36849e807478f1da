"""HTTP/1.1 over a bare socket: what no well-behaved client would send, and every byte of what comes back."""

from __future__ import annotations

import base64
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

TUS = {"Tus-Resumable": "1.0.0"}
OCTETS = {"Content-Type": "application/offset+octet-stream"}
_NO_BODY = frozenset({204, 304})


class ConnectionClosed(Exception):
    """The server closed the connection instead of answering (any further)."""


@dataclass(frozen=True)
class Response:
    """One answer.

    Args:
        status: The status code.
        headers: Names in lower case; a repeated one is joined by ", ".
        body: The body, without its framing.
        closed: Whether the connection ends after it.
        interim: The statuses of the 1xx answers before it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    closed: bool = False
    interim: tuple[int, ...] = field(default=())

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def offset(self) -> int | None:
        """`Upload-Offset`, None when there is none."""
        value = self.headers.get("upload-offset")
        return None if value is None else int(value)

    @property
    def location(self) -> str:
        """The path of `Location`."""
        return urlsplit(self.headers["location"]).path


def metadata(**values: str) -> str:
    """An `Upload-Metadata` of these values."""
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, host: str = "127.0.0.1") -> bytes:
    """A request as bytes; `Host` and `Content-Length` are added unless they are given, or the body is chunked."""
    given = {"Host": host, **(headers or {})}
    names = {name.lower() for name in given}
    if body and not names & {"content-length", "transfer-encoding"}:
        given["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """A chunked body of these pieces; `end` is whether the last chunk follows."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if end else b"")


class RawClient:
    """One connection; a context manager.

    Args:
        url: The creation URL of the server.
        timeout: Seconds that any step may take.
    """

    def __init__(self, url: str, *, timeout: float = 30) -> None:
        parts = urlsplit(url)
        self.base = parts.path
        self.socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def read(self, method: str = "GET") -> Response:
        """Read one answer to a request with this method.

        Raises:
            ConnectionClosed: There is none.
        """
        interim: list[int] = []
        while True:
            status, headers = self._head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        body, closed = (b"", False) if method == "HEAD" or status in _NO_BODY else self._body(headers)
        closed = closed or headers.get("connection", "").lower() == "close"
        return Response(status, headers, body, closed, tuple(interim))

    def _head(self) -> tuple[int, dict[str, str]]:
        status_line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        return int(status_line.split(" ")[1]), headers

    def _body(self, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self._until(b"\r\n").partition(b";")[0], 16):
                pieces.append(self._exactly(size))
                self._exactly(2)
            self._until(b"\r\n")
            return b"".join(pieces), False
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"])), False
        return self.rest(), True

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionClosed(f"the connection was closed after {self._buffer[-200:]!r}")
        self._buffer += piece

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        try:
            while True:
                self._more()
        except ConnectionClosed:
            found, self._buffer = self._buffer, b""
            return found

    def ask(self, method: str, path: str | None = None, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Response:
        """Send one request, `Tus-Resumable` included, and read its answer; the creation URL is the default path."""
        self.send(request(method, path or self.base, {**TUS, **(headers or {})}, body))
        return self.read(method)

    def post(self, length: int | None, body: bytes = b"", **headers: str) -> Response:
        """Create an upload; None defers the length. Header names are given with `_` for `-`."""
        size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
        return self.ask("POST", None, {**size, **(OCTETS if body else {}), **_headers(headers)}, body)

    def patch(self, path: str, offset: int, body: bytes, **headers: str) -> Response:
        """Append to an upload."""
        return self.ask("PATCH", path, {"Upload-Offset": str(offset), **OCTETS, "Content-Length": str(len(body)), **_headers(headers)}, body)

    def head(self, path: str, **headers: str) -> Response:
        """Ask how far an upload is."""
        return self.ask("HEAD", path, _headers(headers))

    def get(self, path: str, **headers: str) -> Response:
        """Download, without `Tus-Resumable`."""
        self.send(request("GET", path, _headers(headers)))
        return self.read("GET")

    def delete(self, path: str, **headers: str) -> Response:
        """Terminate an upload."""
        return self.ask("DELETE", path, _headers(headers))

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _headers(named: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in named.items()}
