"""How an `after_finish` stands in the outbox: JSON, with all that its listeners are told.

The law: what `build_owed` wrote, `parse_owed` reads back, with the same id and number, in whatever process; anything else is refused whole.
"""

from __future__ import annotations

import json
from typing import Any

from tusserver.hooks.base import Event
from tusserver.model import Metadata, Upload

VERSION = 1


def build_owed(event: Event) -> bytes:
    """An event as it stands in the outbox."""
    upload = event.upload
    fields = {
        "v": VERSION,
        "id": event.id,
        "number": event.number,
        "upload": {
            "id": upload.id,
            "owner": upload.owner,
            "length": upload.length,
            "metadata": upload.metadata.raw,
            "created": upload.created,
            "touched": upload.touched,
        },
    }
    return json.dumps(fields).encode()


def parse_owed(body: bytes) -> Event:
    """The event of an entry of the outbox.

    Raises:
        ValueError: It is none, or one of another version.
    """
    try:
        fields = json.loads(body)
        if fields["v"] != VERSION:
            raise ValueError(f"it has version {fields['v']}, this program writes {VERSION}")
        return Event(
            name="after_finish",
            id=_field(fields, "id", str),
            number=_field(fields, "number", int),
            upload=_parse_upload(fields["upload"]),
        )
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _parse_upload(fields: Any) -> Upload:
    length = _field(fields, "length", int)
    return Upload(
        id=_field(fields, "id", str),
        owner=_field(fields, "owner", str, type(None)),
        length=length,
        offset=length,
        metadata=Metadata(_field(fields, "metadata", str)),
        created=_field(fields, "created", int, float),
        touched=_field(fields, "touched", int, float),
        finished=True,
    )


def _field(fields: Any, name: str, *types: type) -> Any:
    value = fields[name]
    if not isinstance(value, types):
        raise TypeError(f"{name} is {value!r}")
    return value
