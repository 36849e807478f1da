"""An application with listeners, and with faults on demand. Each event that is delivered is a line `event NAME ID` of its log."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import socket

from aiohttp import web

import tusserver
from tusserver.storage.disk import Disk

_failures = 2


async def fails_twice(event: tusserver.Event) -> None:
    """A listener that cannot decide yet."""
    global _failures  # noqa: PLW0603  # a script: its state ends with it
    if _failures:
        _failures -= 1
        raise ConnectionError("the service that decides is away")


async def slow(event: tusserver.Event) -> None:
    """A listener that takes its time."""
    await asyncio.sleep(20)


async def refuses(event: tusserver.Event) -> None:
    """A listener that says no."""
    raise tusserver.Refuse(422, "this file has a virus")


async def agrees(event: tusserver.Event) -> None:
    """A listener that says yes."""


async def tell(event: tusserver.Event) -> None:
    """Write the event down."""
    print("event", event.name, event.upload.id, flush=True)


class SyncFailsOnce(Disk):
    """A disk whose first fdatasync fails. Here that is the final one: the uploads are too small and too quick for a mark."""

    failed = False

    def fdatasync(self, fd: int) -> None:
        """Fail once."""
        if not self.failed:
            self.failed = True
            print("fault fdatasync", flush=True)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fdatasync(fd)


HOOKS = {hook.__name__: hook for hook in (agrees, fails_twice, slow, refuses)}


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--upload-dir")
    parser.add_argument("--before-finish", choices=HOOKS, default="agrees")
    parser.add_argument("--sync-fails-once", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    app = web.Application()
    disk = SyncFailsOnce() if options.sync_fails_once else None
    uploads = tusserver.setup(app, "/files/", storage=tusserver.LocalStorage(options.upload_dir, disk=disk))
    uploads.before_finish.append(HOOKS[options.before_finish])
    for listeners in (uploads.after_create, uploads.after_finish, uploads.after_terminate):
        listeners.append(tell)
    listener = socket.create_server((options.host, options.port))
    print(f"listening on http://{options.host}:{listener.getsockname()[1]}/files/", flush=True)
    web.run_app(app, sock=listener, print=None)


if __name__ == "__main__":
    main()
