"""Traces with scores, for the tests of the whole way of these."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sync_worker.demo.receiver import ReceivedSignal
from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import ExitCode
from sync_worker.pipeline.report import SourceReport
from tests.support.rows import NOON, Row, score, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

SESSION = "session-1"


def score_on(row: Row | None, number: int, at: float = 0.0, **fields: Any) -> dict[str, Any]:
    """Make a score on the trace of a row, dated so many seconds after noon; `fields` are keys of `v3/scores`."""
    return score(number, None if row is None else row["traceId"], NOON + timedelta(seconds=at), **fields)


def trace_with_session(start: float = 0.0, **fields: Any) -> list[Row]:
    """Make a trace of two observations and five seconds, so many seconds after noon."""
    return trace(2, start=NOON + timedelta(seconds=start), seconds=5.0, **({"session": SESSION} | fields))


def scored_world(make_world: MakeWorld, rows: Any, **environ: str) -> World:
    """Make a world in which scores are sent, and traces as soon as they have ended."""
    return make_world(rows, **({"SYNC_SCORES": "true", "SYNC_SETTLE": "0s"} | environ))


def once(world: World) -> SourceReport:
    """Do a live cycle, without an error."""
    report, code = world.once()
    assert (report.error, code) == (None, ExitCode.OK)
    return report


def signals_of(world: World, number: int) -> list[ReceivedSignal]:
    """Return the signals of a score that arrived."""
    return [
        signal for signal in world.kelet.signals if signal.content["metadata"]["langfuse_score_id"] == f"score-{number}"
    ]


def answer_signals(*replies: Reply | None) -> Any:
    """Answer the first signals with these; what follows, and spans, as usual."""
    left = list(replies)

    def script(request: Request) -> Reply | None:
        return left.pop(0) if request.path.endswith("/signal") and left else None

    return script
