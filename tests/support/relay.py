"""A slow line: a TCP relay that lets a client's bytes through at a fixed rate, so that a test can step in while they are on their way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_PIECE = 64 * 1024


class SlowLine:
    """Relays to a server; a context manager.

    Args:
        url: The creation URL of the server; its port may be told later, with `lead_to`.
        rate: Bytes a second, from the client to the server, on each connection.
    """

    def __init__(self, url: str, rate: int) -> None:
        self._parts = urlsplit(url)
        self._rate = rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The creation URL as seen through the line."""
        return urlunsplit(self._parts._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}"))

    def lead_to(self, port: int) -> None:
        """Say where the server listens, for one that had to know the URL of the line before it started."""
        self._parts = self._parts._replace(netloc=f"{self._parts.hostname}:{port}")

    def cut(self) -> None:
        """Break off all connections that there are; what was on its way is lost."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                client, _ = self._listener.accept()
                self._spawn(self._connect, client)

    def _connect(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection((self._parts.hostname or "", self._parts.port or 80)) as server:
            self._open += [client, server]
            upward = self._spawn(self._pump, client, server, self._rate)
            self._pump(server, client, 0)
            upward.join()

    def _pump(self, source: socket.socket, target: socket.socket, rate: int) -> None:
        with contextlib.suppress(OSError):  # a reset ends it as a close does
            while piece := source.recv(_PIECE):
                try:
                    target.sendall(piece)
                except OSError:
                    rate = 0  # what still comes is read and dropped: a client that cannot get rid of its bytes would never end
                if rate:
                    time.sleep(len(piece) / rate)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _spawn(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in list(self._threads):
            thread.join(5)
        self._listener.close()
