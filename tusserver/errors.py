"""Every way a request can fail, each with a stable code and a status.

    TusError                        500  internal
    ├── Invalid                     400  bad_request
    ├── Forbidden                   403  forbidden
    ├── NotFound                    404  not_found
    ├── MethodNotAllowed            405  method_not_allowed      (allow)
    ├── OffsetConflict              409  offset_conflict         (offset)
    ├── NotFinished                 409  not_finished            (offset)
    ├── Taken                       410  taken
    ├── UnsupportedVersion          412  unsupported_version
    ├── TooLarge                    413  too_large
    ├── UnsupportedMediaType        415  unsupported_media_type
    ├── ExpectationFailed           417  expectation_failed
    ├── ClientGone                  499  client_gone             (nobody is there to be answered)
    ├── Refuse                      4xx  refused                 (a hook said no)
    ├── BodyConsumed                500  body_consumed
    └── Passing                     503  unavailable             (retry_after)
        ├── Locked                  423  locked
        ├── Interrupted             423  interrupted
        ├── Finishing               423  finishing
        ├── Stopping                503  stopping
        ├── HookFailed              503  hook_failed
        ├── StorageFailed           503  storage_failed
        │   └── Damaged             503  damaged
        └── NoSpace                 507  no_space

An error holds its fields and writes its own line, `code: what is wrong and what was expected`. That line goes to the client: it never
has a path, a stack or another upload's data in it. `Passing` is trouble that passes by itself: a HEAD is told 423, since clients throw
an upload away on any other status.
"""

from __future__ import annotations


class TusError(Exception):
    """The root: whatever the server answers instead of doing what was asked.

    Args:
        message: One line for the client.
        close: Whether the connection ends after the answer.
    """

    status = 500
    code = "internal"

    def __init__(self, message: str = "the server failed", *, close: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.close = close

    @property
    def line(self) -> str:
        """What the body of the answer says, in one line."""
        return f"{self.code}: {self.message}"


class Invalid(TusError):
    """A header or a value that breaks the protocol's rules."""

    status, code = 400, "bad_request"


class Forbidden(TusError):
    """The configuration or the state of the upload does not allow this."""

    status, code = 403, "forbidden"


class NotFound(TusError):
    """No such upload, an expired one, or somebody else's."""

    status, code = 404, "not_found"

    def __init__(self, message: str = "no such upload", *, close: bool = False) -> None:
        super().__init__(message, close=close)


class MethodNotAllowed(TusError):
    """The method is unknown, or not for this URL.

    Args:
        allow: The methods that this URL takes.
    """

    status, code = 405, "method_not_allowed"

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__(f"this URL takes {', '.join(allow)}")
        self.allow = allow


class OffsetConflict(TusError):
    """`Upload-Offset` is not the present offset (core protocol, PATCH).

    Args:
        offset: The present offset in bytes; None where it must not be told.
    """

    status, code = 409, "offset_conflict"

    def __init__(self, offset: int | None, given: int) -> None:
        super().__init__(f"Upload-Offset is {given}, the upload is at {offset}")
        self.offset = offset


class NotFinished(TusError):
    """Only a finished upload can be downloaded.

    Args:
        offset: The present offset in bytes.
    """

    status, code = 409, "not_finished"

    def __init__(self, offset: int | None) -> None:
        super().__init__("the upload is not finished, there is no file to download yet")
        self.offset = offset


class Taken(TusError):
    """The application has moved the finished file away."""

    status, code = 410, "taken"

    def __init__(self) -> None:
        super().__init__("the file has been taken by the application")


class UnsupportedVersion(TusError):
    """`Tus-Resumable` is missing or names a version that is not spoken here."""

    status, code = 412, "unsupported_version"


class TooLarge(TusError):
    """More bytes than the upload's length or the server's limit."""

    status, code = 413, "too_large"


class UnsupportedMediaType(TusError):
    """The body is not `application/offset+octet-stream`, or is encoded."""

    status, code = 415, "unsupported_media_type"


class ExpectationFailed(TusError):
    """An `Expect` other than `100-continue`."""

    status, code = 417, "expectation_failed"


class ClientGone(TusError):
    """The connection died, or stalled, in the body: what came is kept, and no answer is sent; the status is for the log."""

    status, code = 499, "client_gone"

    def __init__(self, message: str = "the connection broke off; what came is kept") -> None:
        super().__init__(message, close=True)


class Refuse(TusError):
    """Raised by a `before_*` listener: no, for good.

    Args:
        status: 400 … 499, what the client is answered.
        text: One line for the client.
    """

    code = "refused"

    def __init__(self, status: int = 403, text: str = "refused") -> None:
        if not 400 <= status <= 499:
            raise ValueError("a refusal has a status from 400 to 499")
        super().__init__(" ".join(text.split()))
        self.status = status

    @property
    def line(self) -> str:
        """The listener's own words."""
        return self.message


class BodyConsumed(TusError):
    """Something in front of this server (a middleware of the host) read the body."""

    status, code = 500, "body_consumed"

    def __init__(self) -> None:
        super().__init__("the body was read before it reached the upload server: a middleware of the application consumed it")


class Passing(TusError):
    """Trouble that passes: the client should come again.

    Args:
        retry_after: Seconds, for the `Retry-After` header.
    """

    status, code = 503, "unavailable"

    def __init__(self, message: str = "try again", *, close: bool = False, retry_after: int = 1) -> None:
        super().__init__(message, close=close)
        self.retry_after = retry_after


class Locked(Passing):
    """Somebody else is writing to the upload, and did not let go in time."""

    status, code = 423, "locked"

    def __init__(self, message: str = "the upload is in use") -> None:
        super().__init__(message)


class Interrupted(Passing):
    """A newer request took this transfer over."""

    status, code = 423, "interrupted"

    def __init__(self) -> None:
        super().__init__("a newer request took over", close=True)


class Finishing(Passing):
    """All bytes are in, and the file is not in its place yet."""

    status, code = 423, "finishing"

    def __init__(self) -> None:
        super().__init__("the upload is being finished")


class Stopping(Passing):
    """The server is going down."""

    status, code = 503, "stopping"

    def __init__(self) -> None:
        super().__init__("the server is stopping", close=True, retry_after=5)


class HookFailed(Passing):
    """A listener raised, or took longer than `hook_timeout`."""

    status, code = 503, "hook_failed"


class StorageFailed(Passing):
    """The disk said no for a reason that may pass (EIO, EMFILE, EACCES, a failed fsync)."""

    status, code = 503, "storage_failed"

    def __init__(self, message: str = "the storage failed", *, close: bool = False) -> None:
        super().__init__(message, close=close)


class Damaged(StorageFailed):
    """What is on disk contradicts itself, and nothing was touched."""

    status, code = 503, "damaged"


class NoSpace(Passing):
    """The disk or the quota is full; what fitted is kept."""

    status, code = 507, "no_space"

    def __init__(self, message: str = "no space left; what fitted is kept") -> None:
        super().__init__(message)
