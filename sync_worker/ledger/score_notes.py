"""Scores: what became of each, and which wait."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.ledger.history import add_to_history
from sync_worker.ledger.lease import BACKFILL, LIVE, RETRY, lease_owner
from sync_worker.ledger.score_intervals import ScoreIntervals
from sync_worker.ledger.store import in_lists, storable
from sync_worker.ledger.stored_records import DeadLetter, ReadScores, ScoreNote
from sync_worker.ledger.totals import EDITED_SIGNALS, SIGNALS, count

SCORE_COLUMNS = (
    "score_id, content, timestamp_ms, trace_id, session_id, state, seen_ms, reason, check_ms, tries, sent_ms, "
    "sent_content, project"
)
#: What Kelet accepted of a score is written by the commit of its answer alone.
_UPSERT = (
    f"INSERT INTO scores (source_id, {SCORE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (source_id, score_id) DO UPDATE SET content = excluded.content, "
    "timestamp_ms = excluded.timestamp_ms, trace_id = excluded.trace_id, session_id = excluded.session_id, "
    "state = excluded.state, seen_ms = excluded.seen_ms, reason = excluded.reason, check_ms = excluded.check_ms, "
    "tries = excluded.tries WHERE sent_content IS excluded.sent_content"
)
WAITING = "waiting"
#: Why a score waits whose trace is not known of.
NOWHERE_YET = "'not_synced', 'no_trace', 'not_found'"
#: A backfill may still bring the trace that a score lacks.
_HAS_RESULT = f"state NOT IN ('{WAITING}', 'rejected', 'no_trace')"
#: With a result, and known without a note to have been taken.
_FORGETTABLE = (
    f"{_HAS_RESULT} AND EXISTS (SELECT 1 FROM score_coverage WHERE "
    "score_coverage.source_id = scores.source_id AND timestamp_ms >= from_ms AND timestamp_ms < to_ms)"
)


class Scores(ScoreIntervals):
    """The part of the ledger about scores."""

    def scores(self, source_id: int, ids: Iterable[str]) -> dict[str, ScoreNote]:
        """Return what is remembered of these scores, by id."""
        found: dict[str, ScoreNote] = {}
        for marks, part in in_lists(ids):
            rows = self.query(
                f"SELECT {SCORE_COLUMNS} FROM scores WHERE source_id = ? AND score_id IN ({marks})", [source_id, *part]
            )
            found |= {row[0]: ScoreNote(*row) for row in rows}
        return found

    def scores_of_trace(self, source_id: int, trace_id: str) -> list[ScoreNote]:
        """Return what is remembered of the scores of a trace, by their time."""
        rows = self.query(
            f"SELECT {SCORE_COLUMNS} FROM scores WHERE source_id = ? AND trace_id = ? ORDER BY timestamp_ms, score_id",
            [source_id, storable(trace_id)],
        )
        return [ScoreNote(*row) for row in rows]

    def scores_within(self, source_id: int, interval: Interval) -> list[ScoreNote]:
        """Return what is remembered of the scores that are dated in an interval."""
        rows = self.query(
            f"SELECT {SCORE_COLUMNS} FROM scores WHERE source_id = ? AND timestamp_ms >= ? AND timestamp_ms < ?",
            [source_id, interval.start, interval.end],
        )
        return [ScoreNote(*row) for row in rows]

    def scores_waiting(self, source_id: int, now_ms: int, limit: int) -> list[ScoreNote]:
        """Return scores that wait and are due, those due longest first."""
        rows = self.query(
            f"SELECT {SCORE_COLUMNS} FROM scores WHERE source_id = ? AND state = '{WAITING}' AND check_ms <= ? "
            "ORDER BY check_ms, score_id LIMIT ?",
            [source_id, now_ms, limit],
        )
        return [ScoreNote(*row) for row in rows]

    def score_counts(self, source_id: int) -> dict[str, int]:
        """Return how many scores are in each state; those that wait by their reason, as `waiting: pending`."""
        rows = self.query(
            f"SELECT CASE WHEN state = '{WAITING}' THEN state || ': ' || coalesce(reason, 'new') ELSE state END, "
            "count(*) FROM scores WHERE source_id = ? GROUP BY 1 ORDER BY 1",
            [source_id],
        )
        return dict(rows)

    def traces_of_sessions(self, source_id: int, sessions: Iterable[str], most: int) -> dict[str, list[str]]:
        """Return ids of traces whose stored context names one of these sessions, newest first, `most` of each."""
        found: dict[str, list[str]] = {}
        for marks, part in in_lists(sessions):
            rows = self.query(
                "SELECT json_extract(context, '$.session_id') AS session, trace_id FROM traces "
                f"WHERE source_id = ? AND session IN ({marks}) ORDER BY newest_ms DESC",
                [source_id, *part],
            )
            for session, trace_id in rows:
                traces = found.setdefault(session, [])
                if len(traces) < most:
                    traces.append(trace_id)
        return found

    def delivered_traces(self, source_id: int, trace_ids: Iterable[str]) -> dict[str, int]:
        """Return which of these traces have a span that Kelet accepted, with the last delivery of each."""
        found: dict[str, int] = {}
        for marks, part in in_lists(trace_ids):
            rows = self.query(
                f"SELECT trace_id, max(delivery) FROM sent WHERE source_id = ? AND trace_id IN ({marks}) "
                "AND delivery IS NOT NULL GROUP BY trace_id",
                [source_id, *part],
            )
            found |= dict(rows)
        return found

    def store_scores(self, source_id: int, notes: Collection[ScoreNote]) -> None:
        """Store notes of scores; one that was sent by another process since stays as it is."""
        if notes:
            with self.transaction():
                self.execute_many(_UPSERT, [(source_id, *_values(note)) for note in notes])

    def _wake_scores(self, source_id: int, traces: Iterable[str]) -> None:
        """Have scores be looked at at once of whose traces something was accepted: they wait longer each time."""
        self.execute_many(
            "UPDATE scores SET check_ms = 0, tries = 0 WHERE source_id = ? AND trace_id = ? "
            f"AND state = '{WAITING}' AND reason IN ({NOWHERE_YET})",
            [(source_id, storable(trace_id)) for trace_id in traces],
        )

    def drop_scores(self, source_id: int, ids: Iterable[str], letters_of: Sequence[str]) -> None:
        """Delete the notes of scores that were never sent, and dead letters of scores that are gone at Langfuse."""
        with self.transaction():
            self._drop_score_letters(source_id, letters_of)
            self.execute_many(
                "DELETE FROM scores WHERE source_id = ? AND score_id = ?", [(source_id, score_id) for score_id in ids]
            )

    def own_scores(self, source_id: int, notes: Sequence[ScoreNote]) -> set[str]:
        """Take scores that wait for this run to send, and return the ids of those that no other run sends.

        What a run took that has ended, however it did, is free.
        """
        own = "" if self.lease is None else self.lease.token
        others = [
            str(held["token"]) for role in (LIVE, BACKFILL, RETRY) if (held := lease_owner(self, role)) is not None
        ]
        others = [token for token in others if token != own]
        marks = ",".join("?" * len(others))
        with self.transaction():
            self.execute_many(
                "UPDATE scores SET owner = ? WHERE source_id = ? AND score_id = ? AND content = ? "
                f"AND state = '{WAITING}' AND (owner IS NULL OR owner NOT IN ({marks}))",
                [(own, source_id, note.score_id, note.content, *others) for note in notes],
            )
        found: set[str] = set()
        for names, part in in_lists(note.score_id for note in notes):
            found |= {
                score_id
                for (score_id,) in self.query(
                    f"SELECT score_id FROM scores WHERE source_id = ? AND score_id IN ({names}) AND owner IS ? "
                    f"AND state = '{WAITING}'",
                    [source_id, *part, own],
                )
            }
        return found

    def commit_score(self, source_id: int, score_id: str, content: bytes, project: str) -> None:
        """Store that a signal was accepted. What another run has since seen edited waits on, in its new state."""
        now = self.clock.now_ms()
        with self.transaction():
            edited = self.query(
                "SELECT 1 FROM scores WHERE source_id = ? AND score_id = ? AND sent_content IS NOT NULL",
                [source_id, score_id],
            )
            count(self, source_id, EDITED_SIGNALS if edited else SIGNALS, project, 1)
            add_to_history(self, source_id, now, signals=1)
            self.execute(
                "UPDATE scores SET state = CASE content WHEN ? THEN 'sent' ELSE state END, reason = NULL, tries = 0, "
                "sent_ms = ?, sent_content = ?, project = ?, owner = NULL WHERE source_id = ? AND score_id = ?",
                [content, now, content, project, source_id, score_id],
            )
            self._drop_score_letters(source_id, [score_id])

    def reject_score(self, content: bytes, letter: DeadLetter) -> None:
        """Store a score as a dead letter; `content` is what was rejected. Raises DeadLettersFull."""
        with self.transaction():
            self.execute(
                "UPDATE scores SET state = CASE content WHEN ? THEN 'rejected' ELSE state END, reason = NULL, "
                "owner = NULL WHERE source_id = ? AND score_id = ?",
                [content, letter.source_id, letter.score_id],
            )
            self._add_dead_letters([letter])

    def forget_scores(self, source_id: int, before_ms: int, taken: ReadScores | None) -> None:
        """Forget scores with a result that are dated before a time in Unix ms.

        `taken` says of those that no backfill has read that they were taken.
        """
        with self.transaction():
            if taken is not None:
                self.add_read_scores(source_id, taken)
            self.execute(
                f"DELETE FROM scores WHERE source_id = ? AND timestamp_ms < ? AND {_FORGETTABLE}",
                [source_id, before_ms],
            )

    def has_scores_before(self, source_id: int, before_ms: int) -> bool:
        """Whether there are scores with a result that are dated before a time in Unix ms."""
        return bool(
            self.query(
                f"SELECT 1 FROM scores WHERE source_id = ? AND timestamp_ms < ? AND {_HAS_RESULT} LIMIT 1",
                [source_id, before_ms],
            )
        )


def _values(note: ScoreNote) -> tuple[Any, ...]:
    kept = replace(
        note,
        trace_id=None if note.trace_id is None else storable(note.trace_id),
        session_id=None if note.session_id is None else storable(note.session_id),
        reason=None if note.reason is None else storable(note.reason),
    )
    return tuple(getattr(kept, name) for name in SCORE_COLUMNS.split(", "))
