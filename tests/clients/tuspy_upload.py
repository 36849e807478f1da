"""Uploads one file with tuspy; the job is the first argument, in JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage


def main(job: dict[str, Any]) -> None:
    options = {"file_path": job["file"], **job["options"]}
    if job["store"]:
        options |= {"store_url": True, "url_storage": FileStorage(job["store"])}
    client = TusClient(job["url"])
    if job["asynchronous"]:
        url = asyncio.run(upload(client, options))
    else:
        uploader = client.uploader(**options)
        uploader.upload()
        url = uploader.url
    print(json.dumps({"event": "success", "url": url}))


async def upload(client: TusClient, options: dict[str, Any]) -> str | None:
    uploader = client.async_uploader(**options)
    await uploader.upload()
    return uploader.url


main(json.loads(sys.argv[1]))
