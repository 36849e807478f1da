"""The package as it is installed: its names, its version, its types, what it needs - and what the checkers say about the sources."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tusserver
from tests.support.services import in_ci

CHECKOUT = Path(__file__).resolve().parents[1]
PUBLIC = {
    "Config",
    "Cors",
    "Event",
    "Events",
    "Limits",
    "LocalStorage",
    "Metadata",
    "Refuse",
    "Runner",
    "StorageUnfit",
    "TusError",
    "Upload",
    "Uploads",
    "setup",
}


def run(*arguments: str, cwd: Path) -> str:
    """Run Python; returns what it printed, whatever its exit status."""
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=170, check=False)
    return f"{done.stdout}{done.stderr}exit {done.returncode}"


def installed() -> bool:
    """Whether the package under test is the installed one."""
    return Path(tusserver.__file__).is_relative_to(sysconfig.get_path("purelib"))


wheel_meant = in_ci() or "TUSSERVER_TEST_WHEEL" in os.environ
wheel_only = pytest.mark.skipif(not installed() and not wheel_meant, reason="runs on the checkout, not on an installed wheel")


@wheel_only
def test_what_is_tested_is_the_installed_wheel() -> None:
    assert installed(), tusserver.__file__


@wheel_only
def test_the_wheel_has_the_marker_of_types_the_licence_and_nothing_beside_the_package() -> None:
    names = {str(path) for path in importlib.metadata.files("tusserver") or []}
    assert "tusserver/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names if not name.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tusserver"}


@wheel_only
def test_the_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("tusserver") == tusserver.__version__


@wheel_only
def test_run_time_needs_only_aiohttp_and_aiofiles() -> None:
    needed = [Requirement(text) for text in importlib.metadata.requires("tusserver") or []]
    assert {need.name for need in needed if need.marker is None} == {"aiohttp", "aiofiles"}


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## [{tusserver.__version__}]" in (CHECKOUT / "CHANGELOG.md").read_text()


def test_the_public_names_are_these_and_each_is_there() -> None:
    assert set(tusserver.__all__) == PUBLIC
    assert all(hasattr(tusserver, name) for name in PUBLIC)


def test_importing_the_package_loads_nothing_from_elsewhere_than_aiohttp_aiofiles_and_the_standard_library(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(tusserver.__file__).parents[1])}
    code = (
        "import sys, aiohttp, aiohttp.web, aiofiles, aiofiles.os; before = set(sys.modules); import tusserver, tusserver.cli.serve, tusserver.cli.ls;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['tusserver']"


@pytest.mark.slow
def test_mypy_strict_has_nothing_to_say(tmp_path: Path) -> None:
    report = run("-m", "mypy", "--cache-dir", str(tmp_path), cwd=CHECKOUT)
    assert report.endswith("exit 0"), report


def test_ruff_has_nothing_to_say() -> None:
    report = run("-m", "ruff", "check", "--no-cache", "--output-format", "concise", cwd=CHECKOUT)
    assert report.endswith("exit 0"), report
