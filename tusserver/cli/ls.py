"""`tusserver ls`: what is in a data folder, also while a server runs on it. It only reads."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tusserver.cli.options import Parser
from tusserver.model import Upload
from tusserver.protocol.disposition import file_name
from tusserver.storage.local import LocalStorage

NAME, HELP = "ls", "Show what is in a data folder."
HEAD = ("ID", "STATE", "SIZE", "%", "AGE", "OWNER", "NAME")


def add_options(parser: Parser) -> None:
    """All flags of the command."""
    parser.option("--upload-dir", metavar="DIR", default="./data", help="the data folder")
    parser.option("--json", action="store_true", help="one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """List the folder."""
    root = Path(options.upload_dir)
    if not (root / "uploads").is_dir():
        sys.stderr.write(f"tusserver: {root} is no data folder\n")
        return 1
    rows = entries(root, time.time())
    try:
        _show(map(json.dumps, rows) if options.json else table(list(rows)))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it flushes at its end
    except OSError as error:
        sys.stderr.write(f"tusserver: {error}\n")
        return 1
    return 0


def _show(lines: Iterator[str]) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is shown, not raised
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def entries(root: Path, now: float) -> Iterator[dict[str, Any]]:
    """Every upload, as plain values."""
    for upload_id, upload, problem in LocalStorage(root).listing():
        if upload is None:
            yield {"id": printable(upload_id), "state": f"problem: {problem}"}
        else:
            yield entry(upload, now)


def entry(upload: Upload, now: float) -> dict[str, Any]:
    """One upload; sizes in bytes, age in seconds since its creation."""
    return {
        "id": upload.id,
        "state": "taken" if upload.taken else "finished" if upload.finished else "unfinished",
        "offset": upload.offset,
        "length": upload.length,
        "percent": percent(upload),
        "age": max(0, round(now - upload.created)),
        "owner": upload.owner,
        "name": printable(file_name(upload.metadata)),
    }


def percent(upload: Upload) -> int | None:
    """How much of it is there; None while the length is deferred. 100 only when it is all there."""
    if upload.length is None:
        return None
    return 100 if upload.offset >= upload.length else min(99, upload.offset * 100 // upload.length)


def printable(text: str) -> str:
    """A name of a stranger that does nothing to a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text.encode("utf-8", "replace").decode())


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows for a person to read."""
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD) - 1)]
    for row in cells:
        yield "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]]).rstrip()


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "offset" not in row:
        return (row["id"], row["state"], "", "", "", "", "")
    size = human(row["offset"]) if row["length"] in {None, row["offset"]} else f"{human(row['offset'])} of {human(row['length'])}"
    share = "?" if row["percent"] is None else str(row["percent"])
    return (row["id"], row["state"], size, share, age(row["age"]), printable(row["owner"] or "-"), row["name"] or "-")


def human(size: int) -> str:
    """Bytes, with a unit."""
    if size < 1024:
        return f"{size} B"
    value, units = size / 1024, ["KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.1f} {units[0]}"


def age(seconds: int) -> str:
    """Seconds, in the largest unit that fits."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
