"""A sweeper that opened a folder while it was being born must not empty it once it has been born."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tusserver.storage import sweep
from tusserver.storage.disk import Disk
from tusserver.storage.layout import try_flock


def test_a_folder_that_was_born_while_the_sweeper_looked_at_it_keeps_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cradle, born = tmp_path / "trash" / "x.1", tmp_path / "uploads" / "x"
    for folder in (cradle, born.parent):
        folder.mkdir(parents=True)
    (cradle / "upload.json").write_text("{}")

    def late(fd: int) -> bool:  # between the sweeper's open and its flock the creator renames, and lets go
        cradle.rename(born)
        return try_flock(fd)

    monkeypatch.setattr(sweep, "try_flock", late)
    sweep.empty_trash(Disk(), tmp_path)
    assert os.listdir(born) == ["upload.json"]
