"""What a power cut leaves of a list of changes: pure, but for `rebuild`, which makes it on a disk. The law is in `trace.py`."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096


@dataclass(frozen=True)
class Made:
    """A new node got a name in a folder."""

    node: int
    parent: int
    name: str
    folder: bool


@dataclass(frozen=True)
class Named:
    """A node got a further name."""

    node: int
    parent: int
    name: str


@dataclass(frozen=True)
class Gone:
    """A name is no more."""

    parent: int
    name: str


@dataclass(frozen=True)
class Moved:
    """A name moved; what had the new one is replaced."""

    parent: int
    name: str
    target: int
    new_name: str


@dataclass(frozen=True)
class Wrote:
    """Bytes were written."""

    node: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    """A file was cut, or grew, to a size."""

    node: int
    size: int


@dataclass(frozen=True)
class Synced:
    """A node was synced, with what had happened when the sync began; or that failed."""

    node: int
    upto: int
    failed: bool = False


Change = Made | Named | Gone | Moved | Wrote | Cut | Synced
Entry = Made | Named | Gone | Moved


class Rubble:
    """One outcome of a power cut.

    Args:
        changes: What had happened before it.
        dice: Choose the outcome.
    """

    def __init__(self, changes: Sequence[Change], dice: random.Random) -> None:
        self._changes = changes
        self._dice = dice
        self._mood = dice.choice((0.0, 0.5, 0.5, 1.0))  # how much of what is not safe survives
        self._safe: dict[int, int] = defaultdict(int)
        for change in changes:
            if isinstance(change, Synced) and not change.failed:
                self._safe[change.node] = max(self._safe[change.node], change.upto)

    def rebuild(self, root: Path) -> None:
        """Make it, in an empty folder."""
        entries: dict[int, dict[str, int]] = defaultdict(dict)
        for change in self._entries():
            apply(change, entries)
        kinds = {change.node: change.folder for change in self._changes if isinstance(change, Made)}
        files = self._by_file()

        def make(folder: int, path: Path) -> None:
            for name, node in entries[folder].items():
                if kinds[node]:
                    (path / name).mkdir()
                    make(node, path / name)
                else:
                    (path / name).write_bytes(self._content(node, files[node]))

        make(0, root)

    # -- folders

    def _entries(self) -> list[Entry]:
        """The changes of folders that survive, in their order."""
        changes = [(index, change) for index, change in enumerate(self._changes) if isinstance(change, Entry)]
        kept = self._choose(self._closed(changes), changes)
        return [change for index, change in changes if all(index < kept[folder] for folder in folders(change))]

    def _closed(self, changes: list[tuple[int, Entry]]) -> dict[int, int]:
        """Up to which change each folder is safe: a rename that is safe in one folder is so in both."""
        safe = dict(self._safe)
        moving = True
        while moving:
            moving = False
            for index, change in changes:
                both = folders(change)
                if any(index < safe.get(folder, 0) for folder in both):
                    for folder in both:
                        if safe.get(folder, 0) <= index:
                            safe[folder], moving = index + 1, True
        return safe

    def _choose(self, safe: dict[int, int], changes: list[tuple[int, Entry]]) -> dict[int, int]:
        """Up to which change each folder survives: at random, but a rename is in both folders or in none."""
        kept = {folder: self._upto(safe.get(folder, 0)) for _, change in changes for folder in folders(change)}
        moving = True
        while moving:
            moving = False
            for index, change in changes:
                both = folders(change)
                if any(index >= kept[folder] for folder in both):
                    for folder in both:
                        if kept[folder] > index:
                            kept[folder], moving = index, True
        return kept

    def _upto(self, safe: int) -> int:
        end = len(self._changes)
        return {0.0: safe, 1.0: end}.get(self._mood, self._dice.randint(safe, max(safe, end)))

    # -- files

    def _by_file(self) -> dict[int, list[tuple[int, Wrote | Cut | Synced]]]:
        found: dict[int, list[tuple[int, Wrote | Cut | Synced]]] = defaultdict(list)
        for index, change in enumerate(self._changes):
            if isinstance(change, Wrote | Cut | Synced):
                found[change.node].append((index, change))
        return found

    def _content(self, node: int, changes: list[tuple[int, Wrote | Cut | Synced]]) -> bytes:
        content, sizes = bytearray(), [0]
        lost = self._lost(changes)
        for index, change in changes:
            safe = index < self._safe[node]
            match change:
                case Wrote(offset=offset, data=data):
                    if index not in lost:
                        store(content, offset, data, (lambda: True) if safe else self._survives)
                    size = max(sizes[-1], offset + len(data))
                case Cut(size=size):
                    if safe or self._survives():
                        del content[size:]
                case Synced():
                    continue
            sizes = [size] if safe else [*sizes, size]
        return bytes(resize(content, self._size(sizes)))

    def _lost(self, changes: list[tuple[int, Wrote | Cut | Synced]]) -> set[int]:
        """The writes that a failed sync lost: those since the good one before it."""
        lost, since = set(), 0
        for _, change in changes:
            if isinstance(change, Synced):
                if change.failed:
                    lost |= {index for index, _ in changes if since <= index < change.upto}
                since = max(since, change.upto)
        return lost

    def _survives(self) -> bool:
        return self._dice.random() < self._mood

    def _size(self, sizes: list[int]) -> int:
        """The last size, the last safe one, one of those between, or anything between."""
        by_mood = {0.0: sizes[0], 1.0: sizes[-1]}
        return by_mood.get(self._mood, self._dice.choice([*sizes, sizes[-1], self._dice.randint(min(sizes), max(sizes))]))


def folders(change: Entry) -> tuple[int, ...]:
    """The folders that a change is in."""
    return (change.parent, change.target) if isinstance(change, Moved) else (change.parent,)


def apply(change: Entry, entries: dict[int, dict[str, int]]) -> None:
    """Make a change of a folder."""
    match change:
        case Made(node=node, parent=parent, name=name) | Named(node=node, parent=parent, name=name):
            entries[parent][name] = node
        case Gone(parent=parent, name=name):
            del entries[parent][name]
        case Moved(parent=parent, name=name, target=target, new_name=new_name):
            entries[target][new_name] = entries[parent].pop(name)


def store(content: bytearray, offset: int, data: bytes, survives: Callable[[], bool]) -> None:
    """Write bytes, page by page, those that survive."""
    start = offset
    while start < offset + len(data):
        end = min(offset + len(data), (start // PAGE + 1) * PAGE)
        if survives():
            resize(content, max(len(content), end))
            content[start:end] = data[start - offset : end - offset]
        start = end


def resize(content: bytearray, size: int) -> bytearray:
    """Cut, or fill up with zeros."""
    del content[size:]
    content.extend(bytes(size - len(content)))
    return content
