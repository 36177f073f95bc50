"""Observations, their traces, deliveries and dead letters of the attached file, source by source.

By statements that stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from sync_worker.intervals import Interval
from sync_worker.ledger.ledger import Ledger
from sync_worker.ledger.score_notes import NOWHERE_YET, SCORE_COLUMNS, WAITING
from sync_worker.ledger.store import SENT_COLUMNS
from sync_worker.ledger.stored_records import DeadLetter, ReadScores

_LETTER_COLUMNS = ", ".join(name for name in DeadLetter.__slots__ if name not in {"id", "source_id"})
#: Why a score waits that may find its trace in the other file.
_FOR_A_TRACE = f"'pending', {NOWHERE_YET}"
_SAME_OBSERVATION = "{0}.trace_id IS {1}.trace_id AND {0}.observation_id = {1}.observation_id"
#: Of two dead letters: the same observation, or the same score.
_SAME_SUBJECT = f"({_SAME_OBSERVATION} OR {{0}}.score_id = {{1}}.score_id)"

#: What both know of a trace; where they differ, what stood here stays.
_JOINED = "json_patch(json_patch(context, excluded.context), context)"


@dataclass(frozen=True, slots=True)
class Pair:
    """A source in this file, and the same one in the file that is attached as `other`."""

    ledger: Ledger
    own: int
    other: int

    def change(self, sql: str, **values: int) -> int:
        """Run a statement with `:own` and `:other`; returns how many rows it changed."""
        return int(self.ledger.execute(sql, {"own": self.own, "other": self.other, **values}).rowcount)


def take_deliveries(pair: Pair) -> None:
    """Take in requests that Kelet took, and note in a table of this connection which number each has here.

    Numbers are each file's own, so requests are known again by what they were; of several alike, by their order.
    """
    connection = pair.ledger.connection
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS numbers (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)")
    connection.execute("DELETE FROM temp.numbers")
    alike = "row_number() OVER (PARTITION BY sent_ms, spans, project ORDER BY id) AS place"
    listed = f"SELECT id, sent_ms, spans, project, {alike} FROM {{}}.deliveries WHERE source_id = :{{}}"
    pair.change(
        f"INSERT INTO temp.numbers SELECT o.id, m.id FROM ({listed.format('other', 'other')}) o "
        f"JOIN ({listed.format('main', 'own')}) m ON m.sent_ms = o.sent_ms AND m.spans = o.spans "
        "AND m.project IS o.project AND m.place = o.place"
    )
    pair.change(
        "INSERT INTO temp.numbers SELECT id, row_number() OVER (ORDER BY id) + "
        "(SELECT coalesce(max(id), 0) FROM main.deliveries) FROM other.deliveries "
        "WHERE source_id = :other AND id NOT IN (SELECT old FROM temp.numbers)"
    )
    pair.change(
        "INSERT INTO main.deliveries (id, source_id, sent_ms, spans, project) "
        "SELECT n.new, :own, o.sent_ms, o.spans, o.project FROM temp.numbers n JOIN other.deliveries o ON o.id = n.old "
        "WHERE n.new NOT IN (SELECT id FROM main.deliveries)"
    )


def take_sent(pair: Pair) -> int:
    """Take in what was sent, of one that both know its later state; returns how many were not known in that state."""
    return pair.change(
        f"INSERT INTO main.sent ({SENT_COLUMNS}) SELECT :own, trace_id, observation_id, start_ms, updated_ms, "
        "fingerprint, sent_ms, (SELECT new FROM temp.numbers WHERE old = delivery) FROM other.sent "
        "WHERE source_id = :other "
        "ON CONFLICT (source_id, trace_id, observation_id) DO UPDATE SET start_ms = excluded.start_ms, "
        "updated_ms = excluded.updated_ms, fingerprint = excluded.fingerprint, sent_ms = excluded.sent_ms, "
        "delivery = excluded.delivery WHERE excluded.updated_ms > updated_ms"
    )


def take_second_reads(pair: Pair) -> None:
    """Take in which observations are to be read once more; what this file knows of an observation stays."""
    pair.change(
        "INSERT OR IGNORE INTO main.second_reads (source_id, trace_id, observation_id, start_ms, due_ms, tries) "
        "SELECT :own, trace_id, observation_id, start_ms, due_ms, tries FROM other.second_reads "
        "WHERE source_id = :other"
    )


def take_scores(pair: Pair) -> int:
    """Take in what became of scores, of one that both know what was sent last, and which intervals were read.

    Returns how many were not known so.
    """
    taken = pair.change(
        f"INSERT INTO main.scores (source_id, {SCORE_COLUMNS}) SELECT :own, {SCORE_COLUMNS} FROM other.scores "
        "WHERE source_id = :other ON CONFLICT (source_id, score_id) DO UPDATE SET content = excluded.content, "
        "state = excluded.state, reason = excluded.reason, sent_ms = excluded.sent_ms, "
        "sent_content = excluded.sent_content, project = excluded.project "
        "WHERE coalesce(excluded.sent_ms, 0) > coalesce(sent_ms, 0)"
    )
    rows = pair.ledger.query(
        "SELECT from_ms, to_ms, selection, window_ms FROM other.score_coverage WHERE source_id = ?", [pair.other]
    )
    for start, end, selection, window in rows:
        pair.ledger.add_read_scores(pair.own, ReadScores(Interval(start, end), selection, window))
    return taken


def wake_scores(pair: Pair) -> None:
    """Have scores be looked at again whose trace one file has and the other lacked: given up, left out, or waiting.

    One that waits for something else than its trace goes on waiting for that.
    """
    pair.change(
        f"UPDATE main.scores SET check_ms = 0, tries = 0 WHERE source_id = :own AND state = '{WAITING}' "
        f"AND coalesce(reason, 'pending') IN ({_FOR_A_TRACE})"
    )
    accepted = (
        "SELECT 1 FROM main.sent s WHERE s.source_id = :own AND s.trace_id = scores.trace_id AND delivery IS NOT NULL"
    )
    pair.change(
        f"UPDATE main.scores SET state = '{WAITING}', reason = NULL, check_ms = 0, tries = 0, seen_ms = :now "
        f"WHERE source_id = :own AND (state IN ('gone', 'no_trace') OR state = 'filtered' AND EXISTS ({accepted}))",
        now=pair.ledger.clock.now_ms(),
    )


def take_traces(pair: Pair, *, pending: bool) -> None:
    """Take in what is known of traces. What this file knows of a trace stays, and is added to; so does one that waits.

    With `pending`, traces that wait in the other file wait here too.
    """
    waits = "pending, {}, check_ms, pending_ms, open_ms" if pending else "0, {}, 0, NULL, NULL"
    pair.change(
        "INSERT INTO main.traces (source_id, trace_id, pending, earliest_ms, newest_ms, check_ms, pending_ms, open_ms, "
        "project, origin, context, left_out_by, rules, exceptional) "
        f"SELECT :own, trace_id, {waits.format('earliest_ms, newest_ms')}, project, origin, context, "
        "left_out_by, rules, exceptional FROM other.traces WHERE source_id = :other "
        "ON CONFLICT (source_id, trace_id) DO UPDATE SET pending = max(pending, excluded.pending), "
        "earliest_ms = min(earliest_ms, excluded.earliest_ms), newest_ms = max(newest_ms, excluded.newest_ms), "
        "check_ms = CASE WHEN pending THEN check_ms ELSE excluded.check_ms END, "
        "pending_ms = coalesce(pending_ms, excluded.pending_ms), open_ms = coalesce(open_ms, excluded.open_ms), "
        "origin = CASE WHEN project IS NULL THEN excluded.origin ELSE origin END, "
        "project = coalesce(project, excluded.project), "
        "left_out_by = CASE WHEN coalesce(project, excluded.project) IS NULL "
        "THEN coalesce(left_out_by, excluded.left_out_by) END, "
        "rules = CASE WHEN coalesce(project, excluded.project) IS NULL THEN coalesce(rules, excluded.rules) END, "
        "exceptional = max(exceptional, excluded.exceptional), "
        f"context = CASE WHEN {_JOINED} = json(context) THEN context ELSE {_JOINED} END"
    )


def take_whole_traces(pair: Pair) -> None:
    """Take in which traces are still to be sent whole."""
    pair.change(
        "INSERT OR IGNORE INTO main.whole_traces (source_id, trace_id) "
        "SELECT :own, trace_id FROM other.whole_traces WHERE source_id = :other"
    )


def take_dead_letters(pair: Pair, taken_to_ms: int) -> int:
    """Take in what was dead-lettered later than `taken_to_ms`; returns how many spans and scores that are.

    What was dead-lettered and then accepted, in either file, counts as accepted.
    """
    accepted = (
        f"(EXISTS (SELECT 1 FROM main.sent s WHERE s.source_id = :own AND {_SAME_OBSERVATION.format('s', 'd')} "
        "AND s.sent_ms >= d.made_ms) OR EXISTS (SELECT 1 FROM main.scores c WHERE c.source_id = :own "
        "AND c.score_id = d.score_id AND c.sent_ms >= d.made_ms))"
    )
    pair.change(
        f"DELETE FROM main.dead_letters AS d WHERE source_id = :own AND {accepted} "
        f"AND (EXISTS (SELECT 1 FROM other.sent o WHERE o.source_id = :other AND {_SAME_OBSERVATION.format('o', 'd')}) "
        "OR EXISTS (SELECT 1 FROM other.scores o WHERE o.source_id = :other AND o.score_id = d.score_id))"
    )
    first_new = int(pair.ledger.execute("SELECT coalesce(max(id), 0) FROM main.dead_letters").fetchone()[0])
    pair.change(
        f"INSERT INTO main.dead_letters (source_id, {_LETTER_COLUMNS}) SELECT :own, {_LETTER_COLUMNS} "
        f"FROM other.dead_letters d WHERE source_id = :other AND made_ms > :taken AND NOT {accepted} "
        "AND NOT EXISTS (SELECT 1 FROM main.dead_letters m WHERE m.source_id = :own "
        f"AND {_SAME_SUBJECT.format('m', 'd')} AND m.made_ms >= d.made_ms) "
        "AND NOT EXISTS (SELECT 1 FROM main.dead_letters m WHERE d.observation_id IS NULL AND d.score_id IS NULL "
        "AND m.source_id = :own AND m.observation_id IS NULL AND m.score_id IS NULL AND m.made_ms = d.made_ms "
        "AND m.reason = d.reason AND m.spans IS d.spans) ORDER BY id",
        taken=taken_to_ms,
    )
    pair.change(
        "DELETE FROM main.dead_letters AS d WHERE source_id = :own AND id <= :first AND EXISTS ("
        "SELECT 1 FROM main.dead_letters m WHERE m.source_id = :own AND m.id > :first "
        f"AND {_SAME_SUBJECT.format('m', 'd')})",
        first=first_new,
    )
    counted = "SELECT coalesce(sum(spans), 0) FROM main.dead_letters WHERE id > ?"
    return int(pair.ledger.execute(counted, [first_new]).fetchone()[0])
