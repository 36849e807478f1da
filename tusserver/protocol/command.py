"""What a request asks for, once its header fields are understood: frozen values, the same for every dialect."""

from __future__ import annotations

from dataclasses import dataclass, field

from tusserver.model import Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Make an upload.

    Args:
        length: Bytes in all; None while deferred.
        metadata: What the client says about its file.
        with_body: Whether the first bytes come along (creation-with-upload).
        content_length: Bytes of the body; None when it is chunked.
    """

    length: int | None
    metadata: Metadata = field(default_factory=Metadata)
    with_body: bool = False
    content_length: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Add a body at an offset.

    Args:
        offset: Where the client believes the upload to be, in bytes.
        length: A length that is declared now (creation-defer-length); None for none.
        content_length: Bytes of the body; None when it is chunked.
    """

    offset: int
    length: int | None = None
    content_length: int | None = 0
