"""The kill loop: stock clients send files to a server that is killed at random moments, and at moments chosen to hurt.

In a long run (`--tries`) the clients go on sending until the kills are done; give it `--timeout 0` as well.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.reliability.kill_loop import KillLoop
from tests.support.tries import Tries

pytestmark = [pytest.mark.clients, pytest.mark.slow]
SHORT = 18


@pytest.fixture
def many(node: list[str]) -> list[str]:
    """The command that uploads with tus-js-client what it is told to."""
    return [node[0], str(Path(node[1]).with_name("many.mjs"))]


def test_nothing_is_lost_by_kills_at_any_moment(tmp_path: Path, tries: Tries, many: list[str]) -> None:
    loop = KillLoop(tmp_path, tries, many)
    tries.tell(loop.go(tries.count(SHORT)))
    assert loop.in_transfers, "no kill fell into a transfer"
    shutil.rmtree(tmp_path)


def test_bytes_that_a_restart_gives_up_are_missed(tmp_path: Path, tries: Tries, many: list[str]) -> None:
    loop = KillLoop(tmp_path, tries, many, "--fault", "restart_taken_for_reboot")
    with pytest.raises(AssertionError, match=r"HEAD says \d+ after"):
        loop.go(SHORT)
    tries.tell(f"missed after {loop.kills.total()} kills")


def test_an_event_that_a_restart_forgets_is_missed(tmp_path: Path, tries: Tries, many: list[str]) -> None:
    loop = KillLoop(tmp_path, tries, many, "--fault", "owed_forgotten", moments={"owing": 1}, patience=5)
    with pytest.raises(AssertionError, match="left in outbox"):
        loop.go(3)
    tries.tell(f"missed after {loop.kills.total()} kills")
