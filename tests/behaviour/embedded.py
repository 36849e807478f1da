"""An application with an upload server in it, that says which events it gets."""

from __future__ import annotations

import argparse
import asyncio
import os

from aiohttp import web

import tusserver


async def told(event: tusserver.Event) -> None:
    """Say it, and then never return if so told."""
    print(event.name, event.id, event.upload.id, flush=True)
    if os.environ.get("TEST_HANG"):
        await asyncio.sleep(3600)


async def ready(app: web.Application) -> None:
    """Say where it listens, once it does."""
    asyncio.get_running_loop().call_later(0.2, lambda: print(f"listening on http://127.0.0.1:{app[PORT]}/files/", flush=True))


PORT = web.AppKey("port", int)
parser = argparse.ArgumentParser()
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--upload-dir")
args = parser.parse_args()
sock = web.Application()
app = web.Application()
uploads = tusserver.setup(app, "/files/", upload_dir=args.upload_dir)
uploads.after_finish.append(told)
if args.port == 0:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        args.port = free.getsockname()[1]
app[PORT] = args.port
app.on_startup.append(ready)
web.run_app(app, host=args.host, port=args.port, print=None, shutdown_timeout=60)
