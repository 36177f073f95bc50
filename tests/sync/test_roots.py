"""Roots that were not read with their trace, and the interval that is completed though not all of it was read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sync_worker.errors import ExitCode
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.langfuse_v1 import LangfuseV1
from tests.support.rows import NOON, at, trace
from tests.support.v1_items import observation_item, trace_item
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

START = moment_ms(NOON)
HOUR = 3600.0
DOWN = faults.status(503)


def test_the_root_of_each_trace_is_found_however_long_an_interval_is(make_world: MakeWorld) -> None:
    """The oldest traces of a long interval arrive without the session that their roots have."""
    root, child = trace(1, start=-300.0, seconds=600.0, session="session-1")
    alone = trace(1, start=3300.0, seconds=5.0)[1]
    made = make_world([root, child, alone], after_noon=5 * HOUR, SYNC_LATE_HORIZONS="20m", SYNC_MAX_OPEN="10m")
    child["startTime"] = at(1.0)
    report, code = made.backfill(START, START + 3_600_000)
    assert (report.error, code, report.spans_sent) == (None, 0, 2)
    (span,) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert span.attributes["session.id"] == "session-1"


@pytest.mark.parametrize(("root_id", "spans"), [(f"{7:016x}", 0), ("root/1", 1)], ids=["OpenTelemetry", "legacy"])
def test_a_synthetic_root_that_is_read_alone_is_sent_only_where_a_direct_export_had_it(
    make_world: MakeWorld, root_id: str, spans: int
) -> None:
    """A span that no program made stands above those of OpenTelemetry; or an old trace goes without its root."""
    of_trace = trace_item(start=0.0, name="chat", **({} if spans == 0 else {"id": "chat_42"}))
    item = observation_item(of_trace["id"], id=root_id, start=1800.0, seconds=5.0)
    made = make_world(LangfuseV1([of_trace], [item]), after_noon=3 * HOUR)
    report, code = made.backfill(START - 1000, START + 600_000)
    assert (report.error, code, report.spans_sent) == (None, 0, spans)


def test_a_moment_of_which_a_part_was_read_is_read_again(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill that ends amid observations of one moment completes it, and the others are never read."""
    monkeypatch.setattr("sync_worker.langfuse.page_size.MAX_LIMIT", 2)
    rows = [row for start in (60.0, 60.0, 60.0, 60.0, 90.0, 91.0) for row in trace(0, start=start, seconds=5.0)]
    made = make_world(rows)
    made.limits = replace(made.limits, interval_observations=3)
    made.langfuse.script = faults.when(lambda request: "cursor" in request.query, faults.in_turn(None, *[DOWN] * 99))
    report, code = made.backfill(START, START + 600_000)
    assert (report.spans_sent, code) == (4, ExitCode.TRANSIENT)
    made.langfuse.script = None
    report, code = made.backfill(START, START + 600_000)
    assert (report.error, code) == (None, ExitCode.OK)
    assert made.arrived() == identities(rows)
