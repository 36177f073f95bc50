"""A state file whose disk gets full while a run is sending, from outside of the process."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from sync_worker.errors import StateError
from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.sqlite_errors import state_error
from sync_worker.otlp.delivery import Result
from sync_worker.otlp.posting import MAX_IN_FLIGHT
from sync_worker.pipeline.report import SourceReport
from sync_worker.pipeline.sink import LedgerSink
from sync_worker.times import moment_ms
from tests.support.rows import NOON, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

SPANS = 4  # of a request


def test_a_result_that_could_not_be_stored_is_the_last(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request goes out although its result cannot be stored either."""
    made = make_world([])
    with closing(open_ledger(made.state, made.clock)) as ledger:
        sink = LedgerSink(ledger, 1, SourceReport("default"), made.clock, "Kelet")
        sink.check()

        def fill(*_: object) -> None:
            raise state_error(ledger.path, sqlite3.OperationalError("database or disk is full"))

        monkeypatch.setattr(ledger, "commit_result", fill)
        with pytest.raises(StateError, match="database or disk is full"):
            sink.commit(Result())
        with pytest.raises(StateError, match="database or disk is full"):
            sink.check()


def test_nothing_more_is_sent_than_was_in_flight(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that only waited for their turn go out too, and all of them again once there is room."""
    rows = [row for number in range(96) for row in trace(3, start=number * 300.0, seconds=5.0)]
    made = make_world(rows, after_noon=8 * 3600.0, SYNC_MAX_BATCH_SPANS=str(SPANS))
    made.limits = replace(made.limits, interval_observations=48)  # so that two intervals are synced at once
    commit, kept = Ledger.commit_result, 0

    def fill(ledger: Ledger, source_id: int, accepted: Sequence[Any], dead_letters: Sequence[Any]) -> None:
        nonlocal kept
        if kept >= 100:
            raise state_error(ledger.path, sqlite3.OperationalError("database or disk is full"))
        commit(ledger, source_id, accepted, dead_letters)
        kept += len(accepted)

    monkeypatch.setattr(Ledger, "commit_result", fill)
    with pytest.raises(StateError):
        made.backfill(moment_ms(NOON), made.clock.now_ms())
    lost = made.arrived().total() - kept
    assert 0 < lost <= MAX_IN_FLIGHT * SPANS
    monkeypatch.setattr(Ledger, "commit_result", commit)
    assert made.backfill(moment_ms(NOON), made.clock.now_ms())[1] == 0
    assert made.arrived().keys() == identities(rows).keys()
    assert made.arrived().total() == len(rows) + lost
