"""An application that is killed, cut off and run full: uploads with owners, short expiry, and each event as a line of a file.

    --events FILE       gets `NAME NUMBER UPLOAD-ID OFFSET` for each event, in one write
    --durability, --expire-after SECONDS, --sweep-interval SECONDS, --network-timeout SECONDS
    --fault NAME        one of `faults.py`, put in on purpose

The owner of a request is its `X-Owner` header; None without one.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket

from aiohttp import web

import tusserver
from tests.reliability.faults import FAULTS
from tusserver.config import Config
from tusserver.hooks.base import Listener
from tusserver.model import Limits


def tell_to(path: str) -> Listener:
    """A listener that writes events to a file."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    async def tell(event: tusserver.Event) -> None:
        os.write(fd, f"{event.name} {event.number} {event.upload.id} {event.upload.offset}\n".encode())

    return tell


def configured(options: argparse.Namespace) -> Config:
    """The configuration that the options say."""
    return Config(
        limits=Limits(expire_after=options.expire_after or None),
        sweep_interval=options.sweep_interval,
        network_timeout=options.network_timeout,
    )


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--upload-dir")
    parser.add_argument("--events")
    parser.add_argument("--durability", default="finish")
    parser.add_argument("--expire-after", type=float, default=0)
    parser.add_argument("--sweep-interval", type=float, default=0.01)
    parser.add_argument("--network-timeout", type=float, default=60)
    parser.add_argument("--fault", choices=FAULTS)
    return parser.parse_args()


def main() -> None:
    """Serve until told to stop."""
    options = parsed()
    logging.basicConfig(level=logging.INFO)
    if options.fault:
        FAULTS[options.fault](setattr)
    app = web.Application()
    storage = tusserver.LocalStorage(options.upload_dir, durability=options.durability)
    uploads = tusserver.setup(
        app, "/files/", storage=storage, owner=lambda request: request.headers.get("X-Owner"), config=configured(options)
    )
    if options.events:
        for listeners in (uploads.after_create, uploads.after_finish, uploads.after_terminate):
            listeners.append(tell_to(options.events))
    listener = socket.create_server((options.host, options.port))
    print(f"listening on http://{options.host}:{listener.getsockname()[1]}/files/", flush=True)
    web.run_app(app, sock=listener, print=None)


if __name__ == "__main__":
    main()
