"""The state machine is let loose on a server, and sees faults that were put in on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.reliability.state_machine import Machine
from tests.reliability.threaded import ThreadedServer, threaded
from tests.support.tries import Tries
from tusserver.body import Body
from tusserver.engine.core import Engine
from tusserver.engine.finishing import Finisher
from tusserver.model import Upload
from tusserver.protocol import tus1
from tusserver.protocol.command import Append
from tusserver.storage.local_sink import LocalSink
from tusserver.web.handlers import Handlers

STEPS = 30
EXAMPLES = 40
Replace = Callable[[object, str, object], None]


def tried(server: ThreadedServer, seed: int, counted: Counter[str], phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)) -> None:
    """Run some examples on a server."""

    class OnThisServer(Machine):
        def __init__(self) -> None:
            super().__init__(server, counted)

    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),  # they are about the speed of a pure function: here each step asks a server
    )
    run_state_machine_as_test(hypothesis.seed(seed)(OnThisServer), settings=settings)


@pytest.mark.timeout(0)  # each wait in it has a limit; to find the shortest sequence that fails takes minutes
def test_every_answer_is_one_that_the_model_allows(tmp_path: Path, tries: Tries) -> None:
    counted: Counter[str] = Counter()
    with threaded(tmp_path / "data") as server:
        while counted["steps"] < tries.count(STEPS):
            tried(server, tries.dice.randrange(2**32), counted)
            tries.tell(f"{counted['steps']} steps, 0 wrong answers")
        server.is_clean()


# -- faults put in on purpose


def refused_patch_stops_the_running_one(replace: Replace) -> None:
    append = Engine.append

    async def stop_first(engine: Engine, upload: Upload, command: Append, body: Body, request: object = None) -> Upload:
        for running in list(engine._bodies):
            running.stop("patch")
        return await append(engine, upload, command, body, request)

    replace(Engine, "append", stop_first)


def bytes_past_the_length_are_kept(replace: Replace) -> None:
    replace(LocalSink, "abort", LocalSink.commit)


def full_is_said_to_be_finished(replace: Replace) -> None:
    async def settled(_finisher: Finisher, upload: Upload) -> Upload:
        return upload

    replace(Finisher, "settled", settled)
    replace(tus1, "_offset", lambda upload: {"Upload-Offset": str(upload.offset)})


def head_ignores_the_owner(replace: Replace) -> None:
    head = Handlers._head

    async def anybody(handlers: Handlers, exchange: object, upload_id: str, _owner: str | None) -> object:
        owner = (await handlers._engine.storage.load(upload_id)).owner
        return await head(handlers, exchange, upload_id, owner)  # type: ignore[arg-type]  # an Exchange

    replace(Handlers, "_head", anybody)


@pytest.mark.parametrize(
    "fault",
    [refused_patch_stops_the_running_one, bytes_past_the_length_are_kept, full_is_said_to_be_finished, head_ignores_the_owner],
)
def test_a_fault_put_in_on_purpose_is_caught(
    fault: Callable[[Replace], None], tmp_path: Path, tries: Tries, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch.setattr)
    with threaded(tmp_path / "data", patience=2) as server, pytest.raises(AssertionError):
        tried(server, tries.seed, Counter(), phases=(Phase.generate,))
    tries.tell("caught")
