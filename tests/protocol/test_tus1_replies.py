"""The dialect tus 1.0.0: what is answered, errors included."""

from __future__ import annotations

import pytest

from tusserver import errors
from tusserver.model import Limits, Metadata, Upload
from tusserver.protocol import tus1
from tusserver.protocol.message import Headers, Reply, Request

ID = "0123456789abcdef" * 2
FREE = Limits()
FOREVER = Limits(expire_after=None)
ALL = frozenset(tus1.EXTENSIONS)
EVERY_EXTENSION = "creation,creation-with-upload,creation-defer-length,termination,expiration"
WEEK_AFTER_TEN_SECONDS = "Thu, 08 Jan 1970 00:00:10 GMT"
VERSIONED = ("Tus-Resumable", "1.0.0")

HALF = Upload(id=ID, offset=4, length=10, touched=10.0)
DEFERRED = Upload(id=ID, offset=4, touched=10.0)
FULL = Upload(id=ID, offset=10, length=10, touched=10.0)
DONE = Upload(id=ID, offset=10, length=10, touched=10.0, finished=True)


def request(method: str, *fields: tuple[str, str], upload_id: str | None = ID, base: str = "/files/") -> Request:
    return Request(method=method, headers=Headers(fields), upload_id=upload_id, base=base)


POST = request("POST", upload_id=None)


def every_error() -> list[errors.TusError]:
    """One of each class of the tree."""
    samples: list[errors.TusError] = [
        errors.TusError(),
        errors.Invalid("bad"),
        errors.Forbidden("no"),
        errors.NotFound(),
        errors.MethodNotAllowed(("OPTIONS", "POST")),
        errors.OffsetConflict(4, 5),
        errors.NotFinished(4),
        errors.Taken(),
        errors.UnsupportedVersion("old"),
        errors.TooLarge("big"),
        errors.UnsupportedMediaType("text"),
        errors.ExpectationFailed("odd"),
        errors.ClientGone(),
        errors.Refuse(422, "not this one"),
        errors.BodyConsumed(),
        errors.Passing(),
        errors.Locked(),
        errors.Interrupted(),
        errors.Finishing(),
        errors.Stopping(),
        errors.HookFailed(),
        errors.StorageFailed(),
        errors.Damaged(),
        errors.NoSpace(),
    ]
    return samples


ERRORS = every_error()
NAMES = [type(error).__name__ for error in ERRORS]


def family(root: type[errors.TusError]) -> set[type[errors.TusError]]:
    return {root}.union(*(family(child) for child in root.__subclasses__()))


def test_the_samples_are_the_whole_tree() -> None:
    assert {type(error) for error in ERRORS} == {error for error in family(errors.TusError) if error.__module__ == errors.__name__}


# -- success


def test_every_reply_names_the_version() -> None:
    replies = [
        tus1.options(POST, FREE, ALL),
        tus1.created(POST, HALF, FREE, with_body=False),
        tus1.state(HALF, FREE),
        tus1.appended(HALF, FREE),
        tus1.terminated(),
        *(tus1.failed(POST, error) for error in ERRORS),
    ]
    assert {reply.headers["Tus-Resumable"] for reply in replies} == {"1.0.0"}


@pytest.mark.parametrize(
    ("limits", "features", "extensions"),
    [
        (FREE, ALL, EVERY_EXTENSION),
        (Limits(terminate="unfinished"), ALL, EVERY_EXTENSION),
        (Limits(terminate="none"), ALL, "creation,creation-with-upload,creation-defer-length,expiration"),
        (FOREVER, ALL, "creation,creation-with-upload,creation-defer-length,termination"),
        (FREE, ALL - {"termination"}, "creation,creation-with-upload,creation-defer-length,expiration"),
        (FREE, ALL | {"teleportation"}, EVERY_EXTENSION),
        (FREE, frozenset({"creation"}), "creation"),
        (FREE, frozenset(), None),
    ],
)
def test_options_lists_what_can_really_be_done(limits: Limits, features: frozenset[str], extensions: str | None) -> None:
    reply = tus1.options(POST, limits, features)
    assert (reply.status, reply.headers["Tus-Version"], reply.headers.get("Tus-Extension")) == (204, "1.0.0", extensions)


@pytest.mark.parametrize(("max_size", "told"), [(None, None), (0, "0"), (1 << 40, "1099511627776")])
def test_options_tells_a_limit_where_there_is_one(max_size: int | None, told: str | None) -> None:
    assert tus1.options(POST, Limits(max_size=max_size), ALL).headers.get("Tus-Max-Size") == told


def test_options_names_the_methods_of_the_url() -> None:
    assert tus1.options(POST, FREE, ALL).headers["Allow"] == "OPTIONS, POST"
    assert tus1.options(request("OPTIONS"), FREE, ALL).headers["Allow"] == "OPTIONS, HEAD, PATCH, GET, DELETE"


@pytest.mark.parametrize("base", ["/files/", "https://up.example/store/files/", "/"])
def test_a_creation_says_where_and_until_when(base: str) -> None:
    reply = tus1.created(request("POST", upload_id=None, base=base), HALF, FREE, with_body=False)
    assert reply == Reply(status=201, headers={"Tus-Resumable": "1.0.0", "Location": base + ID, "Upload-Expires": WEEK_AFTER_TEN_SECONDS})


def test_a_creation_with_a_body_says_how_far_it_is() -> None:
    assert tus1.created(POST, HALF, FREE, with_body=True).headers["Upload-Offset"] == "4"
    assert tus1.created(POST, DONE, FREE, with_body=True).headers["Upload-Offset"] == "10"


def test_an_append_says_how_far_it_is_and_until_when() -> None:
    expected = {"Tus-Resumable": "1.0.0", "Upload-Offset": "4", "Upload-Expires": WEEK_AFTER_TEN_SECONDS}
    assert tus1.appended(HALF, FREE) == Reply(status=204, headers=expected)


@pytest.mark.parametrize(
    ("upload", "limits", "expected"),
    [
        (HALF, FREE, {"Upload-Offset": "4", "Upload-Length": "10", "Upload-Expires": WEEK_AFTER_TEN_SECONDS}),
        (HALF, FOREVER, {"Upload-Offset": "4", "Upload-Length": "10"}),
        (DEFERRED, FOREVER, {"Upload-Offset": "4", "Upload-Defer-Length": "1"}),
        (DONE, FREE, {"Upload-Offset": "10", "Upload-Length": "10"}),
        (Upload(id=ID, length=0, finished=True), FREE, {"Upload-Offset": "0", "Upload-Length": "0"}),
    ],
)
def test_a_state_says_how_far_of_how_much_until_when_and_is_not_stored(upload: Upload, limits: Limits, expected: dict[str, str]) -> None:
    assert tus1.state(upload, limits) == Reply(status=200, headers={"Tus-Resumable": "1.0.0", "Cache-Control": "no-store", **expected})


@pytest.mark.parametrize("raw", ["filename Zm9vLnR4dA==", "empty", "b Yg== , a  YQ==", "empty ,a YQ=="])
def test_metadata_is_echoed_as_it_was_sent(raw: str) -> None:
    upload = Upload(id=ID, length=10, metadata=Metadata(raw))
    assert tus1.state(upload, FREE).headers["Upload-Metadata"] == raw


def test_a_deletion_is_a_bare_204() -> None:
    assert tus1.terminated() == Reply(status=204, headers={"Tus-Resumable": "1.0.0"})


def test_the_length_is_told_as_an_offset_only_of_a_finished_upload() -> None:
    with pytest.raises(errors.Finishing):
        tus1.state(FULL, FREE)
    with pytest.raises(errors.Finishing):
        tus1.appended(FULL, FREE)
    with pytest.raises(errors.Finishing):
        tus1.created(POST, FULL, FREE, with_body=True)


# -- failure


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_who_changes_something_is_told_the_status_of_the_error(method: str, error: errors.TusError) -> None:
    reply = tus1.failed(request(method), error)
    assert (reply.status, reply.body, reply.close) == (error.status, error.line, error.close)


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_an_answer_that_says_no_is_one_line_and_not_stored(error: errors.TusError) -> None:
    reply = tus1.failed(request("PATCH"), error)
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.body
    assert len(reply.body.splitlines()) == 1


@pytest.mark.parametrize("asked", [request("HEAD"), request("GET", VERSIONED)], ids=["HEAD", "a cache's GET"])
@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_trouble_that_passes_is_423_to_who_asks_for_the_state(asked: Request, error: errors.TusError) -> None:
    reply = tus1.failed(asked, error)
    passes = isinstance(error, errors.Passing) or error.status >= 500
    assert reply.status == (423 if passes else error.status)
    assert ("Retry-After" in reply.headers) is passes


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_a_head_has_no_body(error: errors.TusError) -> None:
    assert tus1.failed(request("HEAD"), error).body == ""


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_trouble_that_passes_is_503_to_a_download(error: errors.TusError) -> None:
    assert tus1.failed(request("GET"), error).status == (503 if isinstance(error, errors.Passing) else error.status)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.Locked(), 423, "1"),
        (errors.Interrupted(), 423, "1"),
        (errors.Finishing(), 423, "1"),
        (errors.Stopping(), 503, "5"),
        (errors.HookFailed(), 503, "1"),
        (errors.NoSpace(), 507, "1"),
        (errors.Passing(retry_after=30), 503, "30"),
        (errors.TusError(), 500, None),
        (errors.Invalid("bad"), 400, None),
    ],
)
def test_who_should_come_again_is_told_when(error: errors.TusError, status: int, retry_after: str | None) -> None:
    reply = tus1.failed(request("PATCH"), error)
    assert (reply.status, reply.headers.get("Retry-After")) == (status, retry_after)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.OffsetConflict(4, 5), "4"),
        (errors.OffsetConflict(0, 5), "0"),
        (errors.OffsetConflict(None, 5), None),
        (errors.NotFinished(4), "4"),
        (errors.NotFinished(None), None),
    ],
)
def test_a_conflict_tells_the_offset_where_it_may_be_told(error: errors.TusError, told: str | None) -> None:
    reply = tus1.failed(request("PATCH"), error)
    assert (reply.status, reply.headers.get("Upload-Offset")) == (409, told)


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_no_other_failure_tells_an_offset(error: errors.TusError) -> None:
    assert ("Upload-Offset" in tus1.failed(request("PATCH"), error).headers) is (error.status == 409)


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_412_names_the_versions_and_405_the_methods(error: errors.TusError) -> None:
    headers = tus1.failed(request("PATCH"), error).headers
    assert headers.get("Tus-Version") == ("1.0.0" if error.status == 412 else None)
    assert headers.get("Allow") == ("OPTIONS, POST" if error.status == 405 else None)


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
def test_a_creation_that_fails_says_where_the_upload_is_unless_it_is_gone(error: errors.TusError) -> None:
    gone = isinstance(error, errors.NotFound | errors.Refuse)
    assert "Location" not in tus1.failed(POST, error).headers
    assert tus1.failed(POST, error, location="/files/" + ID).headers.get("Location") == (None if gone else "/files/" + ID)
