"""Reads and writes the ledger. Every change of one answer or one interval is one transaction."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from sync_worker.errors import DeadLettersFull
from sync_worker.intervals import Interval, gaps, merged
from sync_worker.ledger.claims import unclaim
from sync_worker.ledger.completed_intervals import CompletedIntervals
from sync_worker.ledger.daily_spans import count_spans
from sync_worker.ledger.history import add_to_history
from sync_worker.ledger.hourly_counts import add_forgotten, completed_by_hour, forgotten_hours
from sync_worker.ledger.lease import BACKFILL
from sync_worker.ledger.requests import Requests, request_limits
from sync_worker.ledger.score_notes import Scores
from sync_worker.ledger.second_reads import SecondReads
from sync_worker.ledger.selected import Selected
from sync_worker.ledger.sources import Sources
from sync_worker.ledger.store import SENT_COLUMNS, in_lists, in_values, storable
from sync_worker.ledger.stored_records import DeadLetter, SecondRead, SentObservation, TraceNote, Waiting
from sync_worker.ledger.totals import ACCEPTED, REPLACED, count
from sync_worker.ledger.trace_claims import Holder, claim_traces, release_traces

if TYPE_CHECKING:
    from sync_worker.spans.span_model import EncodedSpan, ObservationKey

_SENT_OF = "FROM sent s WHERE s.source_id = t.source_id AND s.trace_id = t.trace_id"


class Decided(NamedTuple):
    """What is decided on a trace: its Kelet project and the setting that this comes from, or what leaves it out."""

    project: str | None
    origin: str | None
    left_out_by: str | None


class Begun(NamedTuple):
    """What is known of traces when they are about to be sent.

    `others` are being sent by another run, and nothing of them was stored. `sent` is what was sent of the rest, by
    (trace id, observation id). `decided`: by trace, what was since decided of undecided ones; those that are left
    out were not stored.
    """

    others: set[str]
    sent: dict[tuple[str, str], SentObservation]
    decided: dict[str, Decided]


class Ledger(Sources, CompletedIntervals, Scores, Selected, SecondReads):
    """The whole state file: all parts, and changes that concern several parts."""

    def requests(self, organization: str) -> Requests:
        """Return what the processes on this file share of an organisation's requests."""
        return Requests(self, organization)

    def request_limits(self, organization: str) -> dict[str, tuple[int | None, int, int | None]]:
        """Return by bucket the limit that Langfuse reported, its window in seconds, and the end of a wait, Unix ms."""
        return request_limits(self, organization)

    def count_requests(self, bucket: str, since_ms: int) -> int:
        """Return how many requests of a bucket all runs have sent since a time."""
        rows = self.query("SELECT count(*) FROM requests WHERE bucket = ? AND sent_ms > ?", [bucket, since_ms])
        return int(rows[0][0])

    def waiting(self, source_id: int) -> Waiting:
        """Return what of a source waits for its time, in one query."""
        rows = self.query(
            "SELECT (SELECT min(due_ms) FROM second_reads WHERE source_id = :source), "
            "(SELECT min(next_try_ms) FROM dead_letters WHERE source_id = :source), count(*), min(open_ms), "
            "min(check_ms), (SELECT min(check_ms) FROM traces WHERE source_id = :source AND pending = 1) "
            "FROM traces WHERE source_id = :source AND open_ms IS NOT NULL AND pending = 0",
            {"source": source_id},
        )
        return Waiting(*rows[0])

    def completed_observations(
        self, source_id: int, trace_ids: Iterable[str]
    ) -> dict[tuple[str, str], SentObservation]:
        """Return the completed observations of these traces, by (trace id, observation id): sent or dead-lettered.

        One that was sent in one state and dead-lettered in a later one is completed in the later.
        """
        ids = list(trace_ids)
        done = self.sent_observations(source_id, ids)
        for key, fingerprint in self._dead_lettered_states(source_id, ids).items():
            done[key] = SentObservation(done[key].updated_ms if key in done else 0, fingerprint, dead_lettered=True)
        return done

    def completed_among(
        self, source_id: int, keys: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], SentObservation]:
        """Return which of these observations (trace id, observation id) are completed, as `completed_observations`.

        For a page, which has a few observations of each of many traces: the others of these traces are not read.
        """
        wanted = list(dict.fromkeys(keys))
        done: dict[tuple[str, str], SentObservation] = {}
        for marks, part in in_values(wanted):
            rows = self.query(
                f"WITH wanted (trace, observation) AS (VALUES {marks}) "
                "SELECT trace_id, observation_id, updated_ms, fingerprint FROM wanted CROSS JOIN sent "
                "ON source_id = ? AND trace_id = trace AND observation_id = observation",
                [*part, source_id],
            )
            done |= {
                (trace, observation): SentObservation(updated, fingerprint)
                for trace, observation, updated, fingerprint in rows
            }
        letters = self._dead_lettered_states(source_id, list(dict.fromkeys(trace for trace, _ in wanted)))
        for key in letters.keys() & set(wanted):
            done[key] = SentObservation(done[key].updated_ms if key in done else 0, letters[key], dead_lettered=True)
        return done

    def sent_observations(self, source_id: int, trace_ids: Iterable[str]) -> dict[tuple[str, str], SentObservation]:
        """Return what of these traces was sent or left out, by (trace id, observation id).

        Whatever was dead-lettered since.
        """
        sent: dict[tuple[str, str], SentObservation] = {}
        for marks, part in in_lists(trace_ids):
            rows = self.query(
                f"SELECT trace_id, observation_id, updated_ms, fingerprint FROM sent WHERE source_id = ? "
                f"AND trace_id IN ({marks})",
                [source_id, *part],
            )
            sent |= {
                (trace, observation): SentObservation(updated, fingerprint)
                for trace, observation, updated, fingerprint in rows
            }
        return sent

    def commit_result(
        self, source_id: int, accepted: Sequence[EncodedSpan], dead_letters: Sequence[DeadLetter]
    ) -> None:
        """Store the result of one response in one transaction.

        Raises DeadLettersFull when there is no room for the dead letters. Stored all the same are what was accepted,
        its partial rejections, which no later response would repeat, and those of the others that there is room for.
        """
        try:
            self._commit_result(source_id, accepted, dead_letters)
        except DeadLettersFull as full:
            partial = [letter for letter in dead_letters if letter.kind == "partial"]
            others = [letter for letter in dead_letters if letter.kind != "partial"]
            room = max(0, self._room(source_id) - len(partial))
            if accepted or room:
                stored = [*partial, *others[:room]]
                self._commit_result(source_id, accepted, stored, beyond_the_limit=True)
                full.stored = sum(letter.spans for letter in stored)
            raise

    def _commit_result(
        self,
        source_id: int,
        accepted: Sequence[EncodedSpan],
        dead_letters: Sequence[DeadLetter],
        *,
        beyond_the_limit: bool = False,
    ) -> None:
        now = self.clock.now_ms()
        with self.transaction():
            delivery = self._store_delivery(source_id, accepted, now) if accepted else None
            self.execute_many(
                f"INSERT OR REPLACE INTO sent ({SENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        source_id,
                        storable(span.key.trace),
                        storable(span.key.observation),
                        span.start_ms,
                        span.updated_ms,
                        span.fingerprint,
                        now,
                        delivery,
                    )
                    for span in accepted
                ],
            )
            for project, spans in Counter(span.project for span in accepted).items():
                count(self, source_id, ACCEPTED, project, spans)
            if accepted:
                count_spans(self, source_id, len(accepted))
            replaced: Counter[str] = Counter()
            for span in accepted:
                if span.replaced:
                    replaced.update(span.replaced)
            for detector, times in replaced.items():
                count(self, source_id, REPLACED, detector, times)
            if accepted:
                add_to_history(self, source_id, now, spans=len(accepted))
            # The trace may have been forgotten while its observations were on their way: what is sent needs its trace.
            self._store_unknown(
                source_id,
                {span.key.trace: (storable(span.key.trace), span.start_ms, span.project) for span in accepted}.values(),
            )
            self._wake_scores(source_id, {span.key.trace for span in accepted})
            self._drop_dead_letters(
                source_id, [(storable(span.key.trace), storable(span.key.observation)) for span in accepted]
            )
            if dead_letters:
                self._add_dead_letters(dead_letters, beyond_the_limit=beyond_the_limit)
            self._schedule_second_reads(
                source_id,
                [
                    SecondRead(span.key.trace, span.key.observation, span.start_ms, span.read_again_ms)
                    for span in accepted
                    if span.read_again_ms is not None
                ],
            )

    def _store_delivery(self, source_id: int, accepted: Sequence[EncodedSpan], now_ms: int) -> int:
        """Note a request that was answered; by its number `explain` names the request of an observation."""
        cursor = self.execute(
            "INSERT INTO deliveries (source_id, sent_ms, spans, project) VALUES (?, ?, ?, ?)",
            [source_id, now_ms, len(accepted), accepted[0].project],
        )
        return int(cursor.lastrowid or 0)

    def last_delivery(self) -> int | None:
        """Return the number of the last request that was accepted; None where there is none."""
        ((last,),) = self.query("SELECT max(id) FROM deliveries")
        return None if last is None else int(last)

    def deliveries_of(self, source_id: int, trace_id: str) -> dict[str, tuple[int, int | None]]:
        """Return when, in Unix ms, and by which request each observation of a trace was sent, by observation id."""
        rows = self.query(
            "SELECT observation_id, sent_ms, delivery FROM sent WHERE source_id = ? AND trace_id = ?",
            [source_id, trace_id],
        )
        return {observation: (sent, delivery) for observation, sent, delivery in rows}

    def touch(
        self,
        source_id: int,
        observations: Iterable[tuple[ObservationKey, int, bytes]],
        reads: Iterable[SecondRead] = (),
    ) -> None:
        """Refresh sent observations that did not change: their update in Unix ms and their fingerprint.

        `reads` are those that are to be read once more all the same.
        """
        with self.transaction():
            self._schedule_second_reads(source_id, reads)
            self.execute_many(
                "UPDATE sent SET updated_ms = ?, fingerprint = ? "
                "WHERE source_id = ? AND trace_id = ? AND observation_id = ?",
                [(updated, known, source_id, key.trace, key.observation) for key, updated, known in observations],
            )

    def completed_by_hour(self, source_id: int) -> Counter[int]:
        """Return how many observations that start in each hour (from 1970) are done, forgotten ones included."""
        return completed_by_hour(self, source_id)

    def forgotten_hours(self, source_id: int) -> set[int]:
        """Return the hours (counted from 1970) in which observations start that were sent and forgotten."""
        return forgotten_hours(self, source_id)

    def delete_hourly_count(self, source_id: int, hour: int) -> None:
        """Count an hour's (from 1970) forgotten observations no longer: they are sent again, and then known by name."""
        with self.transaction():
            self.execute("DELETE FROM hourly_counts WHERE source_id = ? AND hour = ?", [source_id, hour])

    def begin_sending(
        self,
        source_id: int,
        notes: Sequence[TraceNote],
        rerouted: Sequence[TraceNote] = (),
        *,
        undecided: Collection[str] = (),
        holder: Holder = 0,
    ) -> Begun:
        """Claim traces and store their notes, before anything of them is sent; what others decided by then is returned.

        `rerouted` are those whose Kelet project followed the settings, `undecided` those of which the caller knew no
        decision when it made one: of these, what another interval or run has left out since is not stored.
        """
        with self.transaction():
            held = claim_traces(self, source_id, [note.trace_id for note in notes], holder)
            others = {note.trace_id for note in notes if storable(note.trace_id) in held}
            mine = [note for note in notes if note.trace_id not in others]
            decided = self._decided(source_id, [note.trace_id for note in mine if note.trace_id in undecided])
            out = {trace_id for trace_id, decision in decided.items() if decision.project is None}
            mine = [note for note in mine if storable(note.trace_id) not in out]
            if rerouted:
                self._reroute(source_id, rerouted)
            self._store_traces(source_id, mine)
            sent = self.sent_observations(source_id, [note.trace_id for note in mine])
        return Begun(others, sent, decided)

    def _decided(self, source_id: int, trace_ids: Iterable[str]) -> dict[str, Decided]:
        """Return what is decided on traces, where anything is: project, its origin, and what leaves it out."""
        found: dict[str, Decided] = {}
        for marks, part in in_lists(trace_ids):
            rows = self.query(
                "SELECT trace_id, project, origin, left_out_by FROM traces WHERE source_id = ? "
                f"AND trace_id IN ({marks}) AND (project IS NOT NULL OR left_out_by IS NOT NULL)",
                [source_id, *part],
            )
            found |= {trace_id: Decided(*decision) for trace_id, *decision in rows}
        return found

    def end_sending(self, source_id: int, holder: Holder = 0) -> None:
        """Release the traces that a holder of this process claimed."""
        with self.transaction():
            release_traces(self, source_id, holder)

    def commit_interval(
        self,
        source_id: int,
        role: str,
        interval: Interval,
        notes: Iterable[TraceNote],
        dead_letters: Sequence[DeadLetter],
        rules: str = "",
        regular: Iterable[str] = (),
    ) -> None:
        """Store a completed interval, its pending traces and its dead letters in one transaction.

        `rules` is the digest of the rules that it was read under; `regular` are traces that are decided on as these
        say, and were not as those of before. A backfill releases its claim.
        """
        with self.transaction():
            self.add_completed(source_id, role, interval, rules)
            self.execute_many(
                "UPDATE traces SET exceptional = 0 WHERE source_id = ? AND trace_id = ?",
                [(source_id, storable(trace_id)) for trace_id in regular],
            )
            if self.lease is not None and self.lease.role == BACKFILL:
                unclaim(self, source_id, interval)
            self._store_traces(source_id, notes)
            if dead_letters:
                self._add_dead_letters(dead_letters)

    def forget(self, source_id: int, before_ms: int, completed: Sequence[Interval], limit: int = 5_000) -> int:
        """Forget flushed traces, and their sent observations, that are older than `before_ms` and wholly completed.

        Returns how many traces were forgotten; at most `limit`, so that no transaction grows long.
        """
        with self.transaction():  # another process may add to a trace between query and deletion
            old = [(source_id, trace) for trace in islice(self._forgettable(source_id, before_ms, completed), limit)]
            add_forgotten(self, old)
            self.execute_many("DELETE FROM sent WHERE source_id = ? AND trace_id = ?", old)
            self.execute_many("DELETE FROM traces WHERE source_id = ? AND trace_id = ?", old)
            self.execute("DELETE FROM deliveries WHERE source_id = ? AND sent_ms < ?", [source_id, before_ms])
        return len(old)

    def _forgettable(self, source_id: int, before_ms: int, completed: Sequence[Interval]) -> Iterator[str]:
        """Yield old traces whose observations were all sent from one completed interval.

        The start of a trace may always lie before all completed intervals, so the starts of what was sent decide, and
        the last known moment of it: the rest of a trace that a gap cuts still needs its session. Kept is
        what starts where observations were not served whose ids are not known: they are tried again by reading all of
        it. Kept is also what has an observation that is to be read once more: without what was sent, nobody could say
        whether it differs. And what was decided on otherwise than the rules of its time say, by which a backfill goes.
        """
        unserved = self.unserved_intervals(source_id)
        intervals = [part for interval in merged(completed) for part in gaps(interval, unserved)]
        starts = [interval.start for interval in intervals]
        rows = self.execute(
            "SELECT trace_id, earliest_ms, newest_ms, "
            f"(SELECT min(start_ms) {_SENT_OF}), (SELECT max(start_ms) {_SENT_OF}) "
            "FROM traces t WHERE source_id = ? AND newest_ms < ? AND pending = 0 AND open_ms IS NULL "
            "AND exceptional = 0 AND NOT EXISTS "
            "(SELECT 1 FROM second_reads WHERE source_id = t.source_id AND trace_id = t.trace_id) AND NOT EXISTS "
            "(SELECT 1 FROM whole_traces WHERE source_id = t.source_id AND trace_id = t.trace_id) ORDER BY newest_ms",
            [source_id, before_ms],
        )
        for trace, earliest, newest, first, last in rows:
            at = bisect.bisect_right(starts, earliest if first is None else first) - 1
            if at >= 0 and max(newest, earliest if last is None else last) < intervals[at].end:
                yield trace
