"""The tree of errors, and the line each one writes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tusserver import errors
from tusserver.errors import Interrupted, MethodNotAllowed, OffsetConflict, Refuse, TusError


def classes(parent: type[TusError] = TusError, depth: int = 0) -> Iterator[tuple[int, type[TusError]]]:
    """The tree, as the modules of the package itself define it."""
    yield depth, parent
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from classes(child, depth + 1)


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+) +(\d\d\d|4xx) +(\w+)", errors.__doc__ or "", re.MULTILINE)
    tree = {(cls.__name__, depth, "4xx" if cls is Refuse else str(cls.status), cls.code) for depth, cls in classes()}
    assert {(name, len(lines) // 4, status, code) for lines, name, status, code in drawn} == tree


def test_no_two_errors_have_one_code() -> None:
    codes = [cls.code for _, cls in classes()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OffsetConflict(5, 7), "offset_conflict: Upload-Offset is 7, the upload is at 5"),
        (MethodNotAllowed(("POST", "OPTIONS")), "method_not_allowed: this URL takes POST, OPTIONS"),
        (Interrupted(), "interrupted: a newer request took over"),
        (Refuse(422, "no\r\npicture"), "no picture"),
    ],
)
def test_an_error_is_one_line(error: TusError, line: str) -> None:
    assert error.line == line


@pytest.mark.parametrize("status", [200, 399, 500])
def test_a_refusal_is_the_clients_fault(status: int) -> None:
    with pytest.raises(ValueError, match="400 to 499"):
        Refuse(status, "text")
