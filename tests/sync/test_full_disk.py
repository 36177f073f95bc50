"""A state file whose disk gets full while a run is sending, from outside of the process."""

from __future__ import annotations

import sqlite3

import pytest

from sync_worker.errors import StateError
from sync_worker.ledger import Ledger
from sync_worker.ledger.sqlite_errors import state_error
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

IN_FLIGHT = 4


def test_nothing_more_is_sent_than_was_in_flight(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that only waited for their turn go out too, and all of them again once there is room."""
    rows = [row for number in range(40) for row in trace(3, start=float(number), seconds=5.0)]
    made = make_world(rows, SYNC_START="2026-11-20T00:00:00Z", SYNC_MAX_BATCH_SPANS="4")
    commit = Ledger.commit_result

    def fail(ledger: Ledger, *_: object) -> None:
        raise state_error(ledger.path, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(Ledger, "commit_result", fail)
    with pytest.raises(StateError):
        made.once()
    assert 0 < made.arrived().total() <= IN_FLIGHT * 4
    monkeypatch.setattr(Ledger, "commit_result", commit)
    before = made.arrived().total()
    assert made.once()[1] == 0
    assert made.arrived().keys() == identities(rows).keys()
    assert made.arrived().total() <= len(rows) + before
