"""Uploads one file with aiotus, or goes on with an upload; the job is the first argument, in JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import aiotus
import yarl
from aiotus.core import upload_buffer


async def upload(job: dict[str, Any]) -> str:
    with Path(job["file"]).open("rb") as file:
        if job["location"]:
            async with aiohttp.ClientSession() as session:
                await upload_buffer(session, yarl.URL(job["location"]), file, **job["options"])
            return str(job["location"])
        metadata = {key: value.encode() for key, value in job["metadata"].items()}
        location = await aiotus.upload(job["url"], file, metadata, **job["options"])
    if location is None:
        sys.exit("aiotus gave up")
    return str(location)


async def main(job: dict[str, Any]) -> None:
    url = await upload(job)
    metadata = {key: (value or b"").decode() for key, value in (await aiotus.metadata(url) or {}).items()}
    print(json.dumps({"event": "success", "url": url, "metadata": metadata}))


asyncio.run(main(json.loads(sys.argv[1])))
