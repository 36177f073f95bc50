"""Traces that rules leave out, and those that are to be sent whole since they were left out before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sync_worker.intervals import Interval
from sync_worker.ledger.dead_letters import DeadLetters
from sync_worker.ledger.store import SENT_COLUMNS, in_lists, storable
from sync_worker.ledger.stored_records import TraceNote
from sync_worker.ledger.totals import FILTERED, count

if TYPE_CHECKING:
    from sync_worker.spans.span_model import ObservationKey


class Selected(DeadLetters):
    """The part of the ledger about what is left out.

    The observations of a trace that is left out are in the table of those that were sent, as done.
    """

    def leave_out(self, source_id: int, observations: Iterable[tuple[ObservationKey, int, int, bytes]]) -> None:
        """Note observations (with start and update in Unix ms, and fingerprint) as completed that are never sent."""
        with self.transaction():
            self._leave_out(source_id, observations)

    def _leave_out(self, source_id: int, observations: Iterable[tuple[ObservationKey, int, int, bytes]]) -> None:
        now = self.clock.now_ms()
        self.execute_many(
            f"INSERT OR REPLACE INTO sent ({SENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            [
                (source_id, storable(key.trace), storable(key.observation), start, updated, fingerprint, now)
                for key, start, updated, fingerprint in observations
            ],
        )

    def leave_out_traces(
        self,
        source_id: int,
        notes: Sequence[TraceNote],
        observations: Mapping[str, Iterable[tuple[ObservationKey, int, int, bytes]]],
    ) -> set[str]:
        """Store traces that are left out, and their observations, by trace, as done, in one transaction.

        Observations are as in `leave_out`. Returns the traces that another run has begun to send at the same time; of
        them nothing is stored.
        """
        with self.transaction():
            known = self.traces(source_id, [note.trace_id for note in notes])
            taken = {trace_id for trace_id, note in known.items() if note.project is not None}
            mine = [note for note in notes if storable(note.trace_id) not in taken]
            self._store_traces(source_id, mine)
            before = {trace_id: note.left_out_by for trace_id, note in known.items()}
            for rule, traces in Counter(
                note.left_out_by for note in mine if note.left_out_by != before.get(note.trace_id)
            ).items():
                count(self, source_id, FILTERED, str(rule), traces)
            done = [one for note in mine for one in observations.get(note.trace_id, ())]
            self._leave_out(source_id, done)
            keys = [(storable(key.trace), storable(key.observation)) for key, _, _, _ in done]
            self._drop_dead_letters(source_id, keys)
        return {note.trace_id for note in notes if storable(note.trace_id) in taken}

    def bring_back(
        self, source_id: int, notes: Sequence[TraceNote], forgotten: Mapping[int, int] | None = None
    ) -> None:
        """Store that traces which were left out are to be sent, whole, in one transaction.

        `forgotten` are how many of their observations, by the hour of their start counted from 1970, are known by the
        hourly counts alone.
        """
        ids = [(source_id, storable(note.trace_id)) for note in notes]
        with self.transaction():
            self._store_traces(source_id, notes)
            self.execute_many(
                "UPDATE traces SET left_out_by = NULL, rules = NULL WHERE source_id = ? AND trace_id = ?", ids
            )
            self.execute_many("DELETE FROM sent WHERE source_id = ? AND trace_id = ?", ids)
            self.execute_many("INSERT OR IGNORE INTO whole_traces VALUES (?, ?)", ids)
            self.execute_many(
                "UPDATE hourly_counts SET rows = max(0, rows - ?) WHERE source_id = ? AND hour = ?",
                [(count, source_id, hour) for hour, count in (forgotten or {}).items()],
            )

    def sent_within(self, source_id: int, interval: Interval, environments: Sequence[str]) -> list[str]:
        """Return the traces of these environments that are sent, and may have observations in an interval."""
        marks = ",".join("?" * len(environments))
        rows = self.query(
            "SELECT trace_id FROM traces WHERE source_id = ? AND newest_ms >= ? AND earliest_ms < ? "
            f"AND exceptional = 0 AND project IS NOT NULL AND json_extract(context, '$.environment') IN ({marks})",
            [source_id, interval.start, interval.end, *environments],
        )
        return [trace_id for (trace_id,) in rows]

    def note_exceptional(self, source_id: int, trace_ids: Iterable[str]) -> None:
        """Note that these traces were decided on otherwise than by the rules under which their time counts as read."""
        ids = [(source_id, storable(trace_id)) for trace_id in trace_ids]
        if not ids:
            return
        with self.transaction():
            self.execute_many("UPDATE traces SET exceptional = 1 WHERE source_id = ? AND trace_id = ?", ids)

    def left_out_exceptionally(self, source_id: int, digest: str) -> list[Interval]:
        """Return when the traces were that are left out, by other rules than these, though their time's let them in."""
        rows = self.query(
            "SELECT earliest_ms, newest_ms FROM traces WHERE source_id = ? AND exceptional = 1 "
            "AND left_out_by IS NOT NULL AND rules IS NOT ?",
            [source_id, digest],
        )
        return [Interval(earliest, newest + 1) for earliest, newest in rows]

    def whole_traces(self, source_id: int, limit: int, after: str = "") -> list[str]:
        """Return traces that are still to be sent whole, by their ids; `after` is the last one seen."""
        rows = self.query(
            "SELECT trace_id FROM whole_traces WHERE source_id = ? AND trace_id > ? ORDER BY trace_id LIMIT ?",
            [source_id, after, limit],
        )
        return [trace_id for (trace_id,) in rows]

    def are_whole(self, source_id: int, trace_ids: Iterable[str]) -> set[str]:
        """Return which of these traces are still to be sent whole."""
        found: set[str] = set()
        for marks, part in in_lists(trace_ids):
            rows = self.query(
                f"SELECT trace_id FROM whole_traces WHERE source_id = ? AND trace_id IN ({marks})", [source_id, *part]
            )
            found |= {trace_id for (trace_id,) in rows}
        return found

    def end_whole(self, source_id: int, trace_ids: Iterable[str]) -> None:
        """Store that these traces were sent whole."""
        ids = [(source_id, storable(trace_id)) for trace_id in trace_ids]
        if ids:
            with self.transaction():
                self.execute_many("DELETE FROM whole_traces WHERE source_id = ? AND trace_id = ?", ids)

    def projects(self, source_id: int) -> set[str]:
        """Return the Kelet projects that traces of a source were sent to, as far as that is remembered."""
        rows = self.query(
            "SELECT project FROM traces WHERE source_id = ? AND project IS NOT NULL "
            "UNION SELECT project FROM deliveries WHERE source_id = ?",
            [source_id, source_id],
        )
        return {project for (project,) in rows}

    def left_out(self, source_id: int) -> dict[str, int]:
        """Return how many traces are remembered that are left out, by rule."""
        return dict(
            self.query(
                "SELECT left_out_by, count(*) FROM traces WHERE source_id = ? AND left_out_by IS NOT NULL "
                "GROUP BY 1 ORDER BY 1",
                [source_id],
            )
        )
