"""Programs that a test needs beside Python: without one it is skipped, with the reason; in CI (`CI=true`) it fails."""

from __future__ import annotations

import os
import shutil

import pytest


def in_ci() -> bool:
    """Whether this run has to be complete."""
    return os.environ.get("CI") == "true"


def missing(what: str) -> None:
    """Skip the test since something is missing, or fail it in CI."""
    if in_ci():
        pytest.fail(f"{what}: CI must have it", pytrace=False)
    pytest.skip(what)


def program(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name)
    if path is None:
        missing(f"there is no {name} on this machine")
    return path or name
