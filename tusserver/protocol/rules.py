"""What is allowed: pure functions of an upload, a command and the limits. Each raises the error that the client gets, or returns.

They are asked twice: before the lock, so that what will be refused stops nobody, and under it, about the upload as it is then.
"""

from __future__ import annotations

from tusserver.errors import Forbidden, Invalid, NotFinished, OffsetConflict, Taken, TooLarge
from tusserver.model import Limits, Upload
from tusserver.protocol.command import Append, Create


def check_create(command: Create, limits: Limits) -> None:
    """Extension Creation.

    Raises:
        TooLarge: The length, or what comes along, is over the limit or the length.
    """
    _check_limit(command.length, limits)
    if command.with_body and command.content_length is not None:
        _check_limit(command.content_length, limits)
        if command.length is not None and command.content_length > command.length:
            raise TooLarge("the body is longer than Upload-Length")


def _check_limit(size: int | None, limits: Limits) -> None:
    if size is not None and limits.max_size is not None and size > limits.max_size:
        raise TooLarge(f"an upload may have {limits.max_size} bytes")


def check_append(upload: Upload, command: Append, limits: Limits) -> None:
    """Core protocol, PATCH, and extension Creation-Defer-Length.

    A chunked body may turn out to be empty, also on a finished upload (some clients end each upload so): it passes here, and `cap` bounds it.

    Raises:
        OffsetConflict: The upload is at another offset.
        Invalid: A length that contradicts the one that is known, or what is there.
        TooLarge: The body goes past the length or the limit.
    """
    if command.offset != upload.offset:
        told = upload.offset if upload.finished or not upload.full else None
        raise OffsetConflict(told, command.offset)
    _check_declared(upload, command, limits)
    room = cap(upload, command, limits)
    if room is not None and command.content_length is not None and command.content_length > room:
        raise TooLarge(f"the body has {command.content_length} bytes, the upload has room for {room}")


def _check_declared(upload: Upload, command: Append, limits: Limits) -> None:
    if command.length is None:
        return
    if upload.length is not None:
        if command.length != upload.length:
            raise Invalid(f"Upload-Length is {upload.length} for good")
        return
    if command.length < upload.offset:
        raise Invalid(f"Upload-Length is below the {upload.offset} bytes that are there")
    _check_limit(command.length, limits)


def cap(upload: Upload, command: Append, limits: Limits) -> int | None:
    """How many bytes a body may add; None for no limit.

    Args:
        upload: As it is before a length that the command declares is applied.
    """
    length = upload.length if upload.length is not None else command.length
    ends = [end for end in (length, limits.max_size if length is None else None) if end is not None]
    return max(0, min(ends) - upload.offset) if ends else None


def check_terminate(upload: Upload, limits: Limits) -> None:
    """Extension Termination.

    Raises:
        Forbidden: No upload may be deleted, or unfinished ones only.
    """
    if limits.terminate == "none" or (upload.finished and limits.terminate == "unfinished"):
        raise Forbidden("this upload cannot be deleted here")


def check_download(upload: Upload, limits: Limits) -> None:
    """GET of a finished file.

    Raises:
        NotFinished: There is no file yet.
        Forbidden: Downloads are switched off.
        Taken: The application has the file.
    """
    if not limits.download:
        raise Forbidden("files cannot be downloaded here")
    if not upload.finished:
        raise NotFinished(None if upload.full else upload.offset)
    if upload.taken:
        raise Taken
