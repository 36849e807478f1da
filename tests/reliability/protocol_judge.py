"""Whether an answer is one that the model allows, to the last header field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from tests.reliability.protocol_model import Outcome, Request, Upload
from tests.support.raw import Response

ERROR_LINE = re.compile(r"[a-z_]+: [^\n]+\n")
LOCATION = re.compile(r"/files/([0-9a-f]{32})")


def upload_id_of(response: Response) -> str:
    """The id in `Location`; "" without one."""
    found = LOCATION.fullmatch(response.headers.get("location", ""))
    return found[1] if found else ""


def brief(upload: Upload | None) -> str:
    """An upload in a failure message."""
    return "no upload" if upload is None else f"{replace(upload, content=b'')} at {upload.offset}"


def shown(response: Response) -> str:
    """An answer in a failure message."""
    return f"{response.status} {dict(response.headers)} {response.body[:100]!r}"


def judged(request: Request, response: Response, allowed: Sequence[Outcome]) -> Outcome:
    """The outcome that an answer is; an answer that is none of those allowed, or spelled wrongly, fails."""
    found = next((outcome for outcome in allowed if response.status in outcome.statuses), None)
    seen = f"{request.method} {dict(request.headers)} of {request.owner}, {len(request.body)} bytes: {shown(response)}"
    assert found is not None, f"{seen}\nallowed: {[(sorted(outcome.statuses), brief(outcome.upload)) for outcome in allowed]}"
    wrong = [name for name, value in expected_fields(request, response, found).items() if value != response.headers.get(name)]
    assert not wrong, f"{seen}\nwrong: {wrong}; {brief(found.upload)}"
    assert response.closed or not (found.close or request.chunked), f"{seen}\nthe connection stays"
    if response.status >= 400 and request.method != "HEAD":
        assert ERROR_LINE.fullmatch(response.text), f"{seen}\nnot one line of text"
    assert found.body in {None, response.body}, f"{seen}\nother bytes than were sent"
    return found


def expected_fields(request: Request, response: Response, found: Outcome) -> dict[str, str | None]:
    """The header fields that an answer has, None for one that it must not have."""
    status, upload = response.status, found.upload
    tells = found.offset is not None and status in {200, 201, 204, 206, 409}
    fields = {"tus-resumable": "1.0.0", "upload-offset": str(found.offset) if tells else None}
    if request.asks_for_state and status == 200 and upload is not None:
        fields["cache-control"] = "no-store"
        fields["upload-length"] = None if upload.length is None else str(upload.length)
        fields["upload-defer-length"] = "1" if upload.length is None else None
        fields["upload-metadata"] = upload.metadata or None
    if request.method == "GET" and status == 409:
        fields["cache-control"] = "no-store"
    for name, there in present_fields(request, status, upload).items():
        fields[name] = response.headers.get(name, "anything") if there else None
    return fields


def present_fields(request: Request, status: int, upload: Upload | None) -> dict[str, bool]:
    """Which header fields an answer has, whatever they say."""
    exists = upload is not None and not upload.gone
    expires = upload is not None and not upload.finished and request.method != "OPTIONS"
    tells_state = status in {201, 204} or (status == 200 and request.asks_for_state)
    return {
        "location": exists and request.creates and request.method == "POST",
        "upload-expires": exists and tells_state and expires,
        "retry-after": status in {423, 503},
        "tus-version": status == 412 or request.method == "OPTIONS",
        "allow": status == 405 or request.method == "OPTIONS",
    }
