"""Traces that rules leave out: done while they are, and all of them open again when they come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger
from sync_worker.spans.span_model import ObservationKey
from tests.ledger.made import note, sent_observations, span

OUT: dict[str, Any] = {"left_out_by": "SYNC_SAMPLE=1%", "rules": "abc"}


def _leave_out(ledger: Ledger, *traces: str) -> set[str]:
    rows = {trace: [(ObservationKey(trace, "r"), 10, 0, b"f")] for trace in traces}
    return ledger.leave_out_traces(1, [note(trace, 10, **OUT) for trace in traces], rows)


def test_what_is_left_out_is_done(ledger: Ledger) -> None:
    """Each lookback scan would find it again."""
    assert _leave_out(ledger, "t", "u") == set()
    assert set(ledger.completed_observations(1, ["t", "u"])) == {("t", "r"), ("u", "r")}
    assert ledger.left_out(1) == {"SYNC_SAMPLE=1%": 2}


def test_what_another_run_has_begun_to_send_is_not_left_out(ledger: Ledger) -> None:
    """A trace would be torn between a live sync and a backfill that see different parts of it."""
    ledger.begin_sending(1, [note("t", 10, project="p")])
    assert _leave_out(ledger, "t") == {"t"}
    assert ledger.traces(1, ["t"])["t"].left_out_by is None
    assert not sent_observations(ledger)


def test_a_decision_outlives_notes_that_do_not_know_it(ledger: Ledger) -> None:
    """A run that read the note before would forget that the trace is left out, and send what comes late."""
    _leave_out(ledger, "t")
    ledger.store_traces(1, [note("t", 10)])
    assert ledger.traces(1, ["t"])["t"].left_out_by == "SYNC_SAMPLE=1%"
    ledger.begin_sending(1, [note("t", 10, project="p")])
    found = ledger.traces(1, ["t"])["t"]
    assert (found.left_out_by, found.rules) == (None, None)


def test_a_trace_that_comes_back_is_open_and_kept(ledger: Ledger) -> None:
    """Its observations would count as done, or its mark be forgotten before it was sent."""
    _leave_out(ledger, "t", "u")
    ledger.bring_back(1, [note("t", 10)])
    assert set(ledger.completed_observations(1, ["t", "u"])) == {("u", "r")}
    assert [ledger.traces(1, [trace])[trace].left_out_by for trace in ("t", "u")] == [None, "SYNC_SAMPLE=1%"]
    assert ledger.left_out(1) == {"SYNC_SAMPLE=1%": 1}
    assert ledger.whole_traces(1, 10) == ["t"]
    assert ledger.forget(1, 1_000, [Interval(0, 1_000)]) == 1
    assert set(ledger.traces(1, ["t", "u"])) == {"t"}
    ledger.commit_result(1, [span("t", "r", 10)], [])
    ledger.end_whole(1, ["t"])
    assert ledger.forget(1, 1_000, [Interval(0, 1_000)]) == 1


def test_forgotten_observations_that_come_back_are_not_counted_twice(ledger: Ledger) -> None:
    """`verify` would compare the listing with counts that hold what was left out beside what was sent."""
    _leave_out(ledger, "t")
    ledger.forget(1, 1_000, [Interval(0, 1_000)])
    assert ledger.completed_by_hour(1) == {0: 1}
    ledger.bring_back(1, [note("t", 10)], {0: 1})
    ledger.commit_result(1, [span("t", "r", 10)], [])
    assert ledger.completed_by_hour(1) == {0: 1}


def test_notes_carry_what_was_decided(ledger: Ledger) -> None:
    """A note that is changed and stored again would lose the decision."""
    _leave_out(ledger, "t")
    stored = ledger.traces(1, ["t"])["t"]
    ledger.store_traces(1, [replace(stored, pending=True)])
    assert ledger.traces(1, ["t"])["t"] == replace(stored, pending=True)
