"""One state file into another, in one transaction: all of it is in, or nothing.

What is in both files stays as it is, so taking a file in again changes nothing, and takes in only what is new
since. The other file is read where it lies (`ATTACH`), by statements that stream, so its size costs no memory.

What another file's live sync completed counts, but its watermark is its own. Where this file has no live sync of the
source, or the same one (by its sync start), it is taken over with all that belongs to it. Where it has another, the
intervals count as a backfill's, without those of pending traces: no run would send the rest of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sync_worker.errors import StateError
from sync_worker.intervals import Interval, gaps
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.ledger import Ledger
from sync_worker.ledger.merging.counts import done_by_hour, known_by_hour, take_hourly_counts
from sync_worker.ledger.merging.memory import Memory
from sync_worker.ledger.merging.sent_observations import (
    Pair,
    take_dead_letters,
    take_deliveries,
    take_scores,
    take_second_reads,
    take_sent,
    take_traces,
    take_whole_traces,
    wake_scores,
)
from sync_worker.ledger.sources import memory_name, same_address, source_scope
from sync_worker.ledger.sqlite_errors import translated_errors
from sync_worker.ledger.state_keys import ID_MAPPING, Merge, names_by
from sync_worker.ledger.stored_records import SourceState
from sync_worker.spans.ids import ID_MAP_VERSION


@dataclass(slots=True)
class Merged:
    """What a state file added."""

    file: Path
    sources: int = 0  # in the file, known or not
    observations: int = 0  # sent
    observations_forgotten: int = 0  # sent, and known by their count alone
    dead_letters: int = 0
    completed_ms: int = 0


def merge(ledger: Ledger, other: Ledger, *, by_id: bool = False) -> Merged:
    """Take in what another state file knows. Neither may be in use by a run.

    With `by_id`, a project that is known at another address here is the same; else that is refused, since equal ids
    do not prove it. Raises StateError or LeaseHeld.
    """
    found = Merged(other.path)
    file_id = other.file_id()
    with _attached(ledger, other.path), ledger.transaction():
        _take_shared_keys(ledger)
        for source in other.sources():
            found.sources += 1
            _take_source(ledger, other, source, file_id, found, by_id=by_id)
    return found


@contextmanager
def _attached(ledger: Ledger, path: Path) -> Iterator[None]:
    connection = ledger.connection
    with translated_errors(path):
        connection.execute("ATTACH DATABASE ? AS other", [os.fsencode(path.resolve())])
    try:
        yield
    finally:
        connection.execute("DETACH DATABASE other")


def _take_shared_keys(ledger: Ledger) -> None:
    """Take in an organisation's limit and what Kelet was found to be like, where nothing is known of it."""
    ledger.execute(
        "INSERT OR IGNORE INTO state_keys SELECT * FROM other.state_keys "
        "WHERE scope GLOB 'organization *' AND name = 'limit' OR scope GLOB 'target *'"
    )


def _take_source(
    ledger: Ledger, other: Ledger, source: SourceState, file_id: str, found: Merged, *, by_id: bool
) -> None:
    own = _own_source(ledger, other, source, by_id=by_id)
    _check_mapping(ledger, own.id, other, source.id)
    pair = Pair(ledger, own.id, source.id)
    as_own = source.sync_start_ms is not None and own.sync_start_ms in {None, source.sync_start_ms}
    if as_own:
        ledger.execute("UPDATE sources SET sync_start_ms = ? WHERE id = ?", [source.sync_start_ms, own.id])
    _take_state_keys(ledger, pair, as_own=as_own)

    name = memory_name(own.langfuse_url, own.project_id, own.target)
    memory = Memory.read(ledger, "main", name)
    theirs = Memory.read(ledger, "other", memory_name(source.langfuse_url, source.project_id, source.target))
    before = memory.of(file_id)
    done, known = done_by_hour(other, source.id), known_by_hour(pair)
    take_deliveries(pair)
    sent = take_sent(pair)
    take_second_reads(pair)
    take_traces(pair, pending=as_own)
    take_whole_traces(pair)
    scores = take_scores(pair)
    found.dead_letters += take_dead_letters(pair, before.letters_ms)
    found.observations_forgotten += take_hourly_counts(pair, done, known, before.hours, memory.shared(theirs))
    ((letters_ms,),) = other.query(
        "SELECT coalesce(max(made_ms), 0) FROM dead_letters WHERE source_id = ?", [source.id]
    )
    memory.add(file_id, done, letters_ms)
    memory.take(theirs)
    memory.write(ledger, name)
    completed_ms = _take_completed(ledger, other, pair, as_own=as_own)
    if sent or scores or completed_ms:
        wake_scores(pair)
    found.observations += sent
    found.completed_ms += completed_ms


def _own_source(ledger: Ledger, other: Ledger, source: SourceState, *, by_id: bool) -> SourceState:
    known = _of_project(ledger, source)
    here = [one for one in known if same_address(one.langfuse_url, source.langfuse_url)]
    is_distinct = len(_of_project(other, source)) > 1  # there, by the operator
    if known and not here and not is_distinct and (not by_id or len(known) > 1):
        raise StateError(
            f"project {source.project_id} is known at {', '.join(one.langfuse_url for one in known)} in {ledger.path}, "
            f"and at {source.langfuse_url} in {other.path}: equal ids do not prove that it is one. Nothing was taken "
            "from the file. Try: --by-id if it is the same project; a file of its own if it is another one"
        )
    is_new = not here and (is_distinct or not known)
    if is_new:
        ledger.execute(
            "INSERT INTO sources (langfuse_url, project_id, target, project_name, organization_id, created_ms) "
            "SELECT langfuse_url, project_id, target, project_name, organization_id, created_ms "
            "FROM other.sources WHERE id = ?",
            [source.id],
        )
        own = ledger.sources()[-1]
    else:
        own = (here or known)[0]
    if here or is_new:  # keys that open it at another address would pass by the comparison of both
        ledger.execute(
            "INSERT OR IGNORE INTO keys (hash, target, source_id, checked_ms) SELECT hash, target, ?, checked_ms "
            "FROM other.keys WHERE source_id = ?",
            [own.id, source.id],
        )
    return own


def _of_project(ledger: Ledger, source: SourceState) -> list[SourceState]:
    """Return a file's sources of the same project id and target, at whatever address."""
    return [one for one in ledger.sources() if (one.project_id, one.target) == (source.project_id, source.target)]


def _check_mapping(ledger: Ledger, own_id: int, other: Ledger, other_id: int) -> None:
    """Refuse files whose spans went out under another mapping of ids: the same observation has two ids in Kelet."""
    for one, source_id in ((ledger, own_id), (other, other_id)):
        stored = one.state(source_scope(source_id)).get(ID_MAPPING)
        if stored not in {None, ID_MAP_VERSION}:
            raise StateError(
                f"{one.path} belongs to version {stored} of the mapping of ids, this program makes version "
                f"{ID_MAP_VERSION}: files of both cannot be joined. Try: the version of the worker that wrote it"
            )


def _take_state_keys(ledger: Ledger, pair: Pair, *, as_own: bool) -> None:
    scopes = [source_scope(pair.own), source_scope(pair.other)]
    merge, chosen = (Merge.NEVER, "NOT IN") if as_own else (Merge.ALWAYS, "IN")
    names = names_by(merge)
    ledger.execute(
        "INSERT OR IGNORE INTO state_keys SELECT ?, name, value FROM other.state_keys "
        f"WHERE scope = ? AND name {chosen} ({','.join('?' * len(names))})",
        [*scopes, *names],
    )
    for name in names_by(Merge.LARGER):
        ledger.execute(
            "INSERT INTO state_keys SELECT ?, name, value FROM other.state_keys WHERE scope = ? AND name = ? "
            "ON CONFLICT (scope, name) DO UPDATE SET "
            "value = max(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER))",
            [*scopes, name],
        )


def _take_completed(ledger: Ledger, other: Ledger, pair: Pair, *, as_own: bool) -> int:
    """Add the completed intervals of the other file; returns how much of it is new, in milliseconds.

    What is completed in both is under the rules of both.
    """
    before = _completed(ledger, pair.own)
    ledger.execute("INSERT OR IGNORE INTO rules SELECT * FROM other.rules")
    waits = [Interval(*row) for row in other.query(
        "SELECT earliest_ms, newest_ms + 1 FROM traces WHERE source_id = ? AND pending = 1", [pair.other]
    )]  # fmt: skip
    for interval, role, rules, _ in other.completed_with_rules(pair.other):
        as_role = role if as_own else BACKFILL
        parts = gaps(interval, waits) if role == LIVE and not as_own else [interval]
        for part in parts:
            ledger.add_completed(pair.own, as_role, part, rules)
    return sum(part.length for interval in _completed(ledger, pair.own) for part in gaps(interval, before))


def _completed(ledger: Ledger, source_id: int) -> Sequence[Interval]:
    return [*ledger.completed_intervals(source_id, LIVE), *ledger.completed_intervals(source_id, BACKFILL)]
