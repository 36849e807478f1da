"""What stands in the outbox is read back as it was, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tusserver.engine.owed import build_owed, parse_owed
from tusserver.hooks.base import Event
from tusserver.model import Metadata, Upload

UPLOAD = Upload(
    id="a" * 32, owner="ann", length=7, offset=7, metadata=Metadata("name YQ==,flag"), created=12.5, touched=13.0, finished=True
)
EVENT = Event(name="after_finish", id="e" * 32, number=41, upload=UPLOAD)


@pytest.mark.parametrize("changes", [{}, {"owner": None}, {"length": 0, "offset": 0}, {"metadata": Metadata()}, {"owner": "żółw \udc80"}])
def test_an_event_is_read_back_as_it_was(changes: dict[str, Any]) -> None:
    event = replace(EVENT, upload=replace(UPLOAD, **changes))
    assert parse_owed(build_owed(event)) == event


def test_what_is_owed_is_the_event_of_a_finished_upload_even_when_it_was_written_just_before() -> None:
    event = replace(EVENT, upload=replace(UPLOAD, finished=False))
    assert parse_owed(build_owed(event)).upload.finished


GOOD = json.loads(build_owed(EVENT))
BROKEN = [
    b"",
    b"\xff",
    b"{",
    b"[]",
    b"7",
    b"null",
    b"[" * 100_000,
    json.dumps(GOOD | {"v": 2}).encode(),
    json.dumps(GOOD | {"id": None}).encode(),
    json.dumps(GOOD | {"number": "1"}).encode(),
    json.dumps(GOOD | {"upload": []}).encode(),
    *(json.dumps(GOOD | {"upload": GOOD["upload"] | {name: []}}).encode() for name in GOOD["upload"]),
    *(json.dumps({name: value for name, value in GOOD.items() if name != missing}).encode() for missing in GOOD),
]


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: body[:40].decode("latin-1"))
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the decoders of the standard library have words of their own
        parse_owed(body)
