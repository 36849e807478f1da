"""Fixtures for all tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.folder import DataFolder
from tests.support.server import ServerProcess
from tests.support.tries import Tries, add_options, summarise, tries_of


class Serve(Protocol):
    """Starts a server on the test's data folder, with the options of the command or the arguments of `ServerProcess`."""

    def __call__(self, *options: str, **arguments: Any) -> ServerProcess: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for long runs."""
    add_options(parser)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was tried, and how often."""
    summarise(terminalreporter)


@pytest.fixture
def tries(request: pytest.FixtureRequest) -> Tries:
    """How often this test tries, and its dice."""
    return tries_of(request)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """The data folder of the servers that `serve` starts."""
    return DataFolder(tmp_path / "data")


@pytest.fixture
def serve(data: DataFolder) -> Iterator[Serve]:
    """Starts servers in processes of their own; they are gone when the test ends."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, **arguments: Any) -> ServerProcess:
            return stack.enter_context(ServerProcess(data.root, *options, **arguments).start())

        yield start
