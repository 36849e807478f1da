"""How often a machine tries, with which dice, and what it counted: printed at the end of the run, whether it passed or not."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

LINES = pytest.StashKey[list[str]]()


@dataclass
class Tries:
    """The tries of one test.

    Args:
        name: What tries.
        seed: Repeats them.
        wanted: How many were asked for; None for a short run.
        lines: Where the count goes.
    """

    name: str
    seed: int
    wanted: int | None
    lines: list[str]
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def count(self, short: int) -> int:
        """How often to try; `short` unless the run was asked to be a long one."""
        return short if self.wanted is None else self.wanted

    def tell(self, text: str) -> None:
        """Say what was tried, and how often; a later text replaces an earlier one."""
        self.lines[:] = [line for line in self.lines if not line.startswith(f"{self.name}: ")]
        self.lines.append(f"{self.name}: {text} (seed {self.seed})")


def add_options(parser: pytest.Parser) -> None:
    """The options of the machines."""
    group = parser.getgroup("reliability")
    group.addoption("--tries", type=int, help="how often each machine tries; a short run by default")
    group.addoption("--seed", type=int, help="the seed of a run that is to be repeated")


def tries_of(request: pytest.FixtureRequest) -> Tries:
    """The tries of a test; said before it begins, so that the seed of one that fails is known."""
    seed = request.config.getoption("--seed")
    lines = request.config.stash.setdefault(LINES, [])
    name = request.node.nodeid.rpartition("/")[2].replace(".py::", ": ")
    tries = Tries(name, random.randrange(2**32) if seed is None else seed, request.config.getoption("--tries"), lines)
    tries.tell("began")
    return tries


def summarise(terminal: pytest.TerminalReporter) -> None:
    """Print what was counted."""
    if lines := terminal.config.stash.get(LINES, []):
        terminal.section("reliability")
        for line in lines:
            terminal.write_line(line)
