"""An aiohttp application with routes of its own and an upload server in it, which takes each finished file to where it wants it.

    python examples/embed.py --port 8080

Then upload to http://127.0.0.1:8080/files/ with any tus client; finished files appear in ./incoming under their own names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aiohttp import web

import tusserver
from tusserver.protocol.disposition import file_name

LONGEST = 255  # bytes of a file's name, on most file systems; one that is longer could never be taken


async def index(_request: web.Request) -> web.Response:
    """A page of the application, beside the uploads."""
    return web.Response(text="Upload to /files/ with any tus client.\n")


def make_app(upload_dir: Path, incoming: Path) -> web.Application:
    """The application.

    Args:
        upload_dir: The data folder of the upload server.
        incoming: Where finished files go.
    """
    incoming.mkdir(parents=True, exist_ok=True)

    async def keep(event: tusserver.Event) -> None:
        """Move the finished file out of the data folder; its id comes first, so that two of one name do not meet."""
        name = f"{event.upload.id}-{file_name(event.upload.metadata) or 'file'}"
        path = incoming / name.encode()[:LONGEST].decode("utf-8", "ignore")
        await event.take(path)
        print(f"stored {path}", flush=True)

    app = web.Application()
    app.router.add_get("/", index)
    uploads = tusserver.setup(app, "/files/", upload_dir=upload_dir)
    uploads.after_finish.append(keep)
    return app


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--upload-dir", type=Path, default=Path("data"))
    parser.add_argument("--incoming", type=Path, default=Path("incoming"))
    args = parser.parse_args()
    web.run_app(make_app(args.upload_dir, args.incoming), host=args.host, port=args.port)


if __name__ == "__main__":
    main()
