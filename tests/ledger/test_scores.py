"""Scores in the state file: what became of each, who sends which, and what is merged and forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sync_worker.errors import DeadLettersFull
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, ScoreNote, open_ledger, open_scratch
from sync_worker.ledger.lease import BACKFILL, LIVE, pretend, release, take
from sync_worker.ledger.merging import merge
from sync_worker.ledger.stored_records import ReadScores
from tests.ledger.made import letter, note
from tests.support.clock import VirtualClock

A, B = b"content-a", b"content-b"


def _note(score_id: str = "s", content: bytes = A, time: int = 10, state: str = "waiting") -> ScoreNote:
    return ScoreNote(score_id, content, time, "trace", None, state, seen_ms=5)


def test_what_was_accepted_is_noted_with_its_content(ledger: Ledger) -> None:
    """Another content of it is an edit, this one is not sent again."""
    ledger.store_scores(1, [_note()])
    ledger.commit_score(1, "s", A, "project")
    (found,) = ledger.scores(1, ["s"]).values()
    assert (found.state, found.sent_content, found.project) == ("sent", A, "project")


def test_signals_are_counted_once_each_and_edits_beside_them(ledger: Ledger) -> None:
    """Metrics and the status page would tell more signals than Kelet took, or an edit as a new one."""
    ledger.store_scores(1, [_note()])
    ledger.commit_score(1, "s", A, "project")
    ledger.commit_score(1, "s", B, "project")
    assert ledger.query("SELECT sum(signals) FROM history") == [(2,)]
    counted = {name: total for name, total in ledger.query("SELECT name, value FROM state_keys") if "signals" in name}
    assert sorted(counted.values()) == ["1", "1"]


def test_traces_of_a_session_newest_first(ledger: Ledger) -> None:
    """A score of a session would go to an old trace of it, or all traces of a long session be read."""
    ledger.store_traces(1, [note(f"t{at}", at, context={"session_id": "s"}) for at in range(5)])
    ledger.store_traces(1, [note("other", 9, context={"session_id": "o"}), note("none", 9)])
    assert ledger.traces_of_sessions(1, ["s", "o", "x"], 2) == {"s": ["t4", "t3"], "o": ["other"]}


def test_a_pretended_lease_owns_all_scores(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A dry run would leave out the scores that a run is sending just then."""
    held = take(ledger, LIVE)
    ledger.store_scores(1, [_note()])
    assert ledger.own_scores(1, [_note()]) == {"s"}
    copy = open_scratch(path, clock)
    pretend(copy, BACKFILL)
    assert copy.own_scores(1, [_note()]) == {"s"}
    copy.close()
    release(ledger, held)


def test_an_older_note_does_not_undo_an_answer(ledger: Ledger) -> None:
    """Another run listed the score before this one sent it."""
    ledger.store_scores(1, [_note()])
    ledger.commit_score(1, "s", A, "project")
    ledger.store_scores(1, [_note()])
    assert ledger.scores(1, ["s"])["s"].state == "sent"


def test_only_one_run_sends_a_score(path: Path, clock: VirtualClock) -> None:
    """A live sync and a backfill list the same scores; what a dead run took is free."""
    live, backfill = open_ledger(path, clock), open_ledger(path, clock)
    held, other = take(live, LIVE), take(backfill, BACKFILL)
    live.store_scores(1, [_note("one"), _note("two")])
    assert live.own_scores(1, [_note("one")]) == {"one"}
    assert backfill.own_scores(1, [_note("one"), _note("two")]) == {"two"}
    assert live.own_scores(1, [_note("one"), _note("two")]) == {"one"}
    release(live, held)
    assert backfill.own_scores(1, [_note("one", B)]) == set()
    assert backfill.own_scores(1, [_note("one")]) == {"one"}
    release(backfill, other)
    live.close()
    backfill.close()


def test_a_dead_letter_goes_when_its_score_is_accepted(ledger: Ledger) -> None:
    """It would be retried for ever."""
    ledger.store_scores(1, [_note()])
    ledger.reject_score(A, letter(None, None, kind="score", score_id="s"))
    ledger.reject_score(A, letter(None, None, kind="score", score_id="s", reason="later"))
    assert [one.reason for one in ledger.dead_letters(1)] == ["later"]
    assert ledger.scores(1, ["s"])["s"].state == "rejected"
    ledger.commit_score(1, "s", A, "project")
    assert ledger.dead_letters(1) == []


def test_an_answer_is_to_the_content_that_was_sent(ledger: Ledger) -> None:
    """Another run has seen an edit meanwhile: noted as settled, it would be sent by nobody."""
    for answered in ("accepted", "rejected"):
        ledger.store_scores(1, [_note(answered, B)])
    ledger.commit_score(1, "accepted", A, "project")
    ledger.reject_score(A, letter(None, None, kind="score", score_id="rejected"))
    assert {note.state for note in ledger.scores(1, ["accepted", "rejected"]).values()} == {"waiting"}


def test_full_dead_letters_leave_the_score_waiting(ledger: Ledger) -> None:
    """Nothing is dropped for want of room."""
    ledger.max_dead_letters = 0
    ledger.store_scores(1, [_note()])
    with pytest.raises(DeadLettersFull):
        ledger.reject_score(A, letter(None, None, kind="score", score_id="s"))
    assert ledger.scores(1, ["s"])["s"].state == "waiting"


def test_what_waits_is_not_forgotten(ledger: Ledger) -> None:
    """A score may wait for a backfill that brings its trace."""
    states = {"waits": "waiting", "settled": "gone", "no_trace": "no_trace"}
    ledger.store_scores(1, [_note(name, state=state) for name, state in states.items()])
    ledger.store_scores(1, [_note("new", time=99, state="gone")])
    assert ledger.has_scores_before(1, 50)
    ledger.forget_scores(1, 50, ReadScores(Interval(0, 50), "all", 40))
    assert set(ledger.scores(1, [*states, "new"])) == {"waits", "no_trace", "new"}


def test_what_is_forgotten_is_known_to_be_taken(ledger: Ledger) -> None:
    """A live sync forgets what a backfill has sent of an interval that it has yet to read to its end."""
    ledger.store_scores(1, [_note("live", time=30, state="gone"), _note("backfill", state="gone")])
    ledger.forget_scores(1, 50, ReadScores(Interval(20, 50), "all", 40))
    assert set(ledger.scores(1, ["live", "backfill"])) == {"backfill"}
    ledger.commit_scores_interval(1, Interval(0, 20), "all")
    ledger.forget_scores(1, 50, None)
    assert ledger.scores(1, ["live", "backfill"]) == {}


def test_scores_of_shards_are_merged(tmp_path: Path, clock: VirtualClock) -> None:
    """A later backfill would send again what another machine sent."""
    own, other = open_ledger(tmp_path / "own.db", clock), open_ledger(tmp_path / "other.db", clock)
    for ledger in (own, other):
        ledger.store_source("key", "https://lf.example", "p", "kelet", "P", "org")
    own.store_scores(1, [_note("both"), _note("own")])
    other.store_scores(1, [_note("both"), _note("other")])
    other.commit_score(1, "both", A, "project")
    other.commit_scores_interval(1, Interval(10, 20), "all")
    own.commit_scores_interval(1, Interval(20, 30), "all")
    other.commit_scores_interval(1, Interval(0, 10), "some")
    for _ in range(2):
        merge(own, other)
    found = own.scores(1, ["both", "own", "other"])
    assert {score_id: note.state for score_id, note in found.items()} == {
        "both": "sent", "own": "waiting", "other": "waiting",
    }  # fmt: skip
    assert found["both"] == replace(_note("both"), state="sent", sent_ms=found["both"].sent_ms, sent_content=A,
                                    project="project")  # fmt: skip
    assert own.completed_scores(1, "all") == [Interval(10, 30)]
    assert own.completed_scores(1, "some") == [Interval(0, 10)]
    own.close()
    other.close()
