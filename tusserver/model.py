"""What an upload is, as frozen values and pure transitions: no I/O, no clock, no protocol.

An upload is *unfinished* until its bytes are all in, then *full*, and *finished* once the file is durable, verified, accepted and in its
place. Only a finished upload may be told to a client as complete.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

MAX_INTEGER = 2**63 - 1
TerminateReason = Literal["client", "expired", "digest", "refused"]


@dataclass(frozen=True, slots=True)
class Metadata(Mapping[str, str]):
    """What a client said about its file: `Upload-Metadata` as it was sent, readable by key.

    A value reads as text where it is UTF-8, and as the base64 that was sent otherwise.

    Args:
        raw: The header's value, exactly as it came; "" for none.
    """

    raw: str = ""
    _values: Mapping[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", {key: _text(value) for key, value in split_metadata(self.raw)})

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def split_metadata(raw: str) -> list[tuple[str, str]]:
    """The pairs (key, base64 text) of an `Upload-Metadata`, unchecked."""
    pairs = (pair.strip(" \t").partition(" ") for pair in raw.split(",") if pair.strip(" \t"))
    return [(key, value.strip(" \t")) for key, _, value in pairs]


def _text(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError:  # no base64, or no UTF-8
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One upload at one moment.

    Args:
        id: 32 lower-case hex digits.
        owner: Who it belongs to, as the application's `owner` said; None without owners.
        length: Bytes in all; None while deferred.
        offset: Bytes that are there, from the first on without a gap.
        metadata: What the client said at creation.
        created: When, in seconds since the epoch.
        touched: When its last byte was received, in seconds since the epoch.
        finished: Whether the file is in its place.
        taken: Whether the application has moved the finished file away.
    """

    id: str
    owner: str | None = None
    length: int | None = None
    offset: int = 0
    metadata: Metadata = field(default_factory=Metadata)
    created: float = 0.0
    touched: float = 0.0
    finished: bool = False
    taken: bool = False

    @property
    def full(self) -> bool:
        """All bytes are in (which does not make it finished)."""
        return self.length is not None and self.offset >= self.length

    @property
    def remaining(self) -> int | None:
        """Bytes still to come; None while the length is deferred."""
        return None if self.length is None else self.length - self.offset

    def expires(self, limits: Limits) -> float | None:
        """When it expires, in seconds since the epoch; None if it never does."""
        if self.finished or limits.expire_after is None:
            return None
        return self.touched + limits.expire_after

    def expired(self, limits: Limits, now: float) -> bool:
        """Whether it has expired at `now`; a last byte in the future counts as received now."""
        expires = self.expires(limits)
        return expires is not None and self.touched <= now and expires <= now

    def at(self, offset: int, touched: float) -> Upload:
        """The same upload with its bytes up to `offset`, the last of them received at `touched`."""
        return replace(self, offset=offset, touched=touched)

    def declared(self, length: int | None) -> Upload:
        """The same upload with its length known, or deferred again."""
        return replace(self, length=length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a mount allows.

    Args:
        max_size: Bytes that one upload may have; None for no limit.
        expire_after: Seconds from the last byte received to the end of an unfinished upload; None for never.
        terminate: Which uploads a client may delete.
        download: Whether finished uploads can be fetched with GET.
        max_metadata: Bytes that `Upload-Metadata` may have.
    """

    max_size: int | None = None
    expire_after: float | None = 7 * 86400.0
    terminate: Literal["all", "unfinished", "none"] = "all"
    download: bool = True
    max_metadata: int = 16 * 1024
