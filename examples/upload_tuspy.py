"""Upload a file with tuspy, so that it goes on where it broke off: run it again after a crash, and it resumes.

    pip install tuspy
    python examples/upload_tuspy.py FILE http://127.0.0.1:8080/files/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage


def main() -> None:
    """Upload, or go on uploading."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080/files/")
    parser.add_argument("--chunk-size", type=int, default=8 * 1024 * 1024, help="bytes in one request: as many are held in memory")
    parser.add_argument("--storage", default=".tus-urls.json", help="where the URLs of begun uploads are remembered")
    args = parser.parse_args()
    uploader = TusClient(args.url).uploader(
        str(args.file),
        chunk_size=args.chunk_size,
        metadata={"filename": args.file.name},
        store_url=True,
        url_storage=FileStorage(args.storage),
        retries=5,
        retry_delay=1,
    )
    if uploader.offset:
        print(f"{uploader.offset} bytes are there already")
    uploader.upload()
    print(uploader.url)


if __name__ == "__main__":
    main()
