"""The events of an upload's life, and the lists one appends to.

    before_create      asked before an upload is made; may return other metadata         may refuse
    after_create       it was made
    progress           bytes came: at most one a second, the latest wins; the last one before the end may be left out
    before_finish      asked when all bytes are in; may be asked again after a failure   may refuse: the upload is discarded
    after_finish       the file is there                                                 at least once for each listener
    before_terminate   asked before a client deletes (not when an upload expires)        may refuse
    after_terminate    it is gone, for the `reason` that is told

`before_*` listeners are asked, one after the other, and may `raise Refuse(status, text)`; anything else that they raise, or lateness, is a
failure that passes. The others observe: one that fails is logged. The events of one upload arrive in order, `after_finish` also across crashes:
a listener that fails is told again after 1 s, 2 s … 1 h, with the same `id`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tusserver.model import TerminateReason, Upload

Take: TypeAlias = Callable[[str, Path], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a listener is given.

    Args:
        name: Which event: "before_create", "after_create", "progress", "before_finish", "after_finish", "before_terminate",
            "after_terminate".
        id: Names this event for ever: a delivery that is repeated has the same.
        number: Rises with each event of one upload.
        upload: The upload at that moment.
        request: For `before_*`, the `web.Request` that asks; None where no request does (the sweeper finishes a full upload).
        path: For `after_finish` with local storage, where the finished content lies.
        reason: For `after_terminate`, why: "client", "expired", "digest" or "refused".
    """

    name: str
    id: str
    number: int
    upload: Upload
    request: Any = None
    path: Path | None = None
    reason: TerminateReason | None = None
    _take: Take | None = field(default=None, repr=False, compare=False)

    async def take(self, target: str | Path) -> bool:
        """Move the finished file out of the data folder to where the application wants it; the upload stays known to its client.

        Args:
            target: The path of the file to be; an existing file is replaced. On another file system the content is copied.

        Returns:
            False when it had been taken before (then nothing happens).

        Raises:
            RuntimeError: This is not an `after_finish`.
        """
        if self._take is None:
            raise RuntimeError(f"{self.name} has no file to take, only after_finish has")
        return await self._take(self.upload.id, Path(target))


Listener: TypeAlias = Callable[[Event], Awaitable[Mapping[str, str | bytes] | None]]


class Listeners(list[Listener]):
    """The listeners of one event, in the order in which they are asked. Append before the application starts; then it is frozen."""

    frozen = False

    def append(self, listener: Listener) -> None:
        """Add a coroutine function that takes the event.

        Raises:
            RuntimeError: The application has started.
        """
        if self.frozen:
            raise RuntimeError("listeners are added before the application starts")
        super().append(listener)


@dataclass(kw_only=True)
class Events:
    """All lists of listeners of one mount."""

    before_create: Listeners = field(default_factory=Listeners)
    after_create: Listeners = field(default_factory=Listeners)
    progress: Listeners = field(default_factory=Listeners)
    before_finish: Listeners = field(default_factory=Listeners)
    after_finish: Listeners = field(default_factory=Listeners)
    before_terminate: Listeners = field(default_factory=Listeners)
    after_terminate: Listeners = field(default_factory=Listeners)

    def freeze(self) -> None:
        """From now on nobody can be added."""
        for listeners in vars(self).values():
            listeners.frozen = True
