"""Two processes on one state file that come by the same scores: each arrives once, in its last state."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import ExitCode
from tests.support.faults import status
from tests.support.rows import Row, iso, score, trace
from tests.sync.conftest import MakeWorld
from tests.sync.scored import scored_world, signals_of
from tests.sync.world import World

#: Processes run by the clock of this machine.
HOUR_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
LIVE, RETRY = ("once",), ("dead-letters", "retry", "--all")
BACKFILL = ("backfill", "--from", iso(HOUR_AGO - timedelta(hours=1)), "--to", "now", "--scores", "only")
SCORES = 6
_SECONDS = 60.0


def _score(number: int, row: Row, **fields: Any) -> dict[str, Any]:
    return score(number, row["traceId"], HOUR_AGO + timedelta(seconds=number), **fields)


class Gate:
    """Holds the first signal until it is opened."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()

    def script(self, request: Request) -> Reply | None:
        """Answer as usual, the first signal later."""
        if request.path.endswith("/signal") and not self.reached.is_set():
            self.reached.set()
            self._opened.wait(_SECONDS)
        return None

    def open(self) -> None:
        """Let the signal pass."""
        self._opened.set()


def _world(make_world: MakeWorld) -> tuple[World, Row]:
    rows = trace(2, start=HOUR_AGO, seconds=5.0, session="session-1")
    world = scored_world(make_world, rows)
    assert world.program("once")[0] == ExitCode.OK  # the spans
    return world, rows[0]


def _counts(world: World) -> Counter[str]:
    return Counter(str(signal.content["metadata"]["langfuse_score_id"]) for signal in world.kelet.signals)


def _dead_letters(world: World, row: Row) -> None:
    """Have all scores rejected."""
    world.kelet.script = lambda request: status(422) if request.path.endswith("/signal") else None
    assert world.program("once")[0] == ExitCode.DEAD_LETTERS


def _nothing(world: World, row: Row) -> None:
    """Leave the scores as they are."""


@pytest.mark.parametrize(
    ("first", "second", "before"),
    [
        (LIVE, BACKFILL, _nothing),
        (BACKFILL, LIVE, _nothing),
        (RETRY, LIVE, _dead_letters),
        (RETRY, BACKFILL, _dead_letters),
    ],
    ids=["live first", "backfill first", "retry beside live", "retry beside backfill"],
)
def test_a_score_that_is_on_its_way_is_sent_by_no_other(
    make_world: MakeWorld, first: tuple[str, ...], second: tuple[str, ...], before: Callable[[World, Row], None]
) -> None:
    """A signal has no id by which Kelet could tell that it comes twice."""
    world, row = _world(make_world)
    world.langfuse.scores.put(*(_score(number, row) for number in range(SCORES)))
    before(world, row)
    gate = Gate()
    world.kelet.script = gate.script
    with world.start(*first) as process:
        assert gate.reached.wait(_SECONDS)
        code, _, err = world.program(*second)
        assert (code, world.kelet.signals) == (ExitCode.OK, []), err
        gate.open()
        _, err = process.communicate(timeout=_SECONDS)
    assert process.wait() == ExitCode.OK, err
    assert world.program("once")[0] == ExitCode.OK
    assert _counts(world) == {f"score-{number}": 1 for number in range(SCORES)}


def test_what_a_dead_process_was_sending_is_sent_by_the_next(make_world: MakeWorld) -> None:
    """It took six scores and sent none."""
    world, row = _world(make_world)
    world.langfuse.scores.put(*(_score(number, row) for number in range(SCORES)))
    gate = Gate()
    world.kelet.script = gate.script
    with world.start(*LIVE) as process:
        assert gate.reached.wait(_SECONDS)
        process.kill()
        process.communicate(timeout=_SECONDS)
    gate.open()
    assert world.program(*BACKFILL)[0] == ExitCode.OK
    counts = _counts(world)
    assert counts.keys() == {f"score-{number}" for number in range(SCORES)}
    assert sum(counts.values()) <= SCORES + 1


@pytest.mark.parametrize("reply", [None, status(422)], ids=["accepted", "rejected"])
def test_an_edit_that_another_process_sees_is_sent_after_what_is_on_its_way(
    make_world: MakeWorld, reply: Reply | None
) -> None:
    """The answer is to what was sent, and not to what was listed meanwhile."""
    world, row = _world(make_world)
    world.langfuse.scores.put(_score(1, row, value=0.25))
    gate = Gate()

    def script(request: Request) -> Reply | None:
        is_first = not gate.reached.is_set()
        gate.script(request)
        return reply if is_first and request.path.endswith("/signal") else None

    world.kelet.script = script
    with world.start(*LIVE) as process:
        assert gate.reached.wait(_SECONDS)
        world.langfuse.scores.put(_score(1, row, value=0.75))
        assert world.program(*BACKFILL)[0] == ExitCode.OK
        gate.open()
        process.communicate(timeout=_SECONDS)
    assert world.program("once")[0] == ExitCode.OK
    assert world.program("once")[0] == ExitCode.OK
    found = [signal.content["score"] for signal in signals_of(world, 1)]
    assert found == ([0.25, 0.75] if reply is None else [0.75])
    assert world.program_json("dead-letters", "list")[1]["dead_letters"] == []
