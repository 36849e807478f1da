"""Files to upload, and Node's packages."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.process import HERE
from tests.support.services import missing, program

NODE = HERE / "node"


@pytest.fixture
def source(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a file of random bytes."""

    def make(size: int) -> Path:
        path = tmp_path / "source.bin"
        path.write_bytes(os.urandom(size))
        return path

    return make


@pytest.fixture(scope="session")
def node() -> list[str]:
    """The command that runs tus-js-client; its packages are installed where the lock file says, if they are not there yet."""
    command, npm = program("node"), program("npm")
    lock, installed = NODE / "package-lock.json", NODE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=NODE, capture_output=True, text=True, timeout=170, check=False)
        if done.returncode:
            missing(f"npm could not install tus-js-client: {done.stderr.strip()[-500:]}")
    return [command, str(NODE / "upload.mjs")]
