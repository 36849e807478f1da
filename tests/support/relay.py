"""A slow line: lets a client's bytes through at a fixed rate, so that a test can step in while they are on their way."""

from __future__ import annotations

import itertools

from tests.support.faulty_line import Fault, FaultyLine, Kind


class SlowLine(FaultyLine):
    """Relays to a server; a context manager.

    Args:
        url: The creation URL of the server; its port may be told later, with `lead_to`.
        rate: Bytes a second, from the client to the server, on each connection.
    """

    def __init__(self, url: str, rate: int) -> None:
        super().__init__(url, itertools.repeat(Fault(Kind.BANDWIDTH, seconds=1 / rate)))
