"""The power is cut under a running server, on ext4 and XFS: nothing that was promised is lost, and no byte is wrong.

`--tries N` is the number of cuts for each file system.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.power_cut import Counts, PowerCuts
from tests.support.image import Image, Kind, need_mounts
from tests.support.tries import Tries

CUTS_OF_AN_IMAGE = 10


def cut(tries: Tries, cuts: int, kind: Kind, folder: Path, *options: str) -> None:
    """Cut the power so often, on a fresh image from time to time."""
    need_mounts("unshare")
    counts = Counts()
    while counts.cuts < cuts:
        place = folder / f"{counts.cuts}"
        place.mkdir()
        with Image(kind, place) as image, PowerCuts(image, place, tries.dice, counts, *options) as machine:
            machine.run(min(CUTS_OF_AN_IMAGE, cuts - counts.cuts))
        tries.tell(str(counts))


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_loses_nothing_that_was_promised_and_leaves_no_wrong_byte(kind: Kind, tries: Tries, tmp_path: Path) -> None:
    cut(tries, tries.count(4), kind, tmp_path)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_dropped_fsync_is_caught(kind: Kind, tries: Tries, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"^cut \d+ "):
        cut(tries, 10, kind, tmp_path, "--fault", "dropped_fsync")
    tries.tell("caught")
