"""Locks of one host: what another process holds, and folders that move."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.locks.contract import ID, LocksContract
from tusserver.errors import Locked, NotFound
from tusserver.locks.host import HostLocks

HOLDER = """
import fcntl, os, sys, time
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (ID, ID[::-1]):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def locks(folder: Path) -> HostLocks:
    def find(upload_id: str) -> int:
        try:
            return os.open(folder / upload_id, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise NotFound from None

    return HostLocks(find)


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder / ID)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


class TestHostLocks(LocksContract):
    """The suite that every kind passes."""


async def test_what_another_process_holds_is_waited_for_no_longer_than_said(locks: HostLocks, holder: subprocess.Popen[str]) -> None:
    for wait in (0, 0.2):
        with pytest.raises(Locked):
            await locks.acquire(ID, wait=wait)
    assert holder.poll() is None
    assert len(locks) == 0


async def test_what_a_killed_process_held_is_free(locks: HostLocks, holder: subprocess.Popen[str]) -> None:
    waiting = asyncio.create_task(locks.acquire(ID, wait=30))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    holder.kill()
    await (await waiting).release()


async def test_a_folder_that_is_not_there_is_not_found_and_not_locked(locks: HostLocks) -> None:
    with pytest.raises(NotFound):
        await locks.acquire("f" * 32)
    assert len(locks) == 0


async def test_a_folder_that_moved_while_it_was_waited_for_is_not_the_lock(
    locks: HostLocks, folder: Path, holder: subprocess.Popen[str]
) -> None:
    waiting = asyncio.create_task(locks.acquire(ID, wait=30))
    await asyncio.sleep(0.1)
    (folder / ID).rename(folder / "elsewhere")
    (folder / ID).mkdir()
    hold = await waiting
    holder.kill()
    holder.wait()
    with pytest.raises(Locked):
        await locks.acquire(ID, wait=0)
    await hold.release()


async def test_an_older_contender_gives_up_while_it_waits_for_another_process(locks: HostLocks, holder: subprocess.Popen[str]) -> None:
    older = asyncio.create_task(locks.acquire(ID, wait=30))
    await asyncio.sleep(0.1)
    newer = asyncio.create_task(locks.acquire(ID, wait=30))
    with pytest.raises(Locked):
        await older
    holder.kill()
    await (await newer).release()


async def test_no_descriptor_is_left(locks: HostLocks) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        async with locks.hold(ID):
            with pytest.raises(Locked):
                await locks.acquire(ID, wait=0)
    assert len(os.listdir("/proc/self/fd")) == before
