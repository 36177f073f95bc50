"""How it stands: watermark, lag, pending traces and dead letters of each source, from the state file alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sync_worker.clock import Clock
from sync_worker.intervals import Interval, contiguous_end, gaps
from sync_worker.ledger import Ledger, SourceState, source_scope
from sync_worker.ledger.daily_spans import DAY_MS, spans_of_day
from sync_worker.ledger.lease import BACKFILL, LIVE, lease_owner
from sync_worker.ledger.pauses import Pause, active_pauses
from sync_worker.ledger.score_notes import WAITING
from sync_worker.ledger.state_keys import LAST_SCORE_SCAN
from sync_worker.pipeline.plan import live_view
from sync_worker.runs import arrival_delay
from sync_worker.settings import Settings
from sync_worker.sync.keys import keys_of
from sync_worker.sync.timekeeping import last_certain_ms
from sync_worker.times import iso_time, span_ms

#: States of scores that do not wait, in the order of the output.
SCORE_STATES = ("sent", "filtered", "ignored", "gone", "no_trace", "experiment", "rejected", "deleted")


@dataclass(frozen=True, slots=True)
class LiveState:
    """How far the live sync of a source is, in Unix ms; None before its first cycle."""

    watermark_ms: int | None
    gaps: list[Interval]
    backfilled: list[Interval]


def now_ms(ledger: Ledger, clock: Clock) -> int:
    """Return the time in Unix ms, offline: no server is asked, but it is at least as late as it ever certainly was."""
    return max(clock.now_ms(), last_certain_ms(ledger))


def live_state(ledger: Ledger, source: SourceState, now_ms: int, longest_window_ms: int) -> LiveState:
    """Return how far the live sync of a source is. `longest_window_ms` is its longest lookback window."""
    completed = ledger.completed_by_role(source.id)
    live, backfilled = completed.get(LIVE, []), completed.get(BACKFILL, [])
    first = source.sync_start_ms
    if first is None:
        return LiveState(None, [], backfilled)
    seen = live_view(live, backfilled, now_ms, longest_window_ms)
    open_gaps = gaps(Interval(first, live[-1].end), seen) if live else []
    return LiveState(contiguous_end(first, seen), open_gaps, backfilled)


def describe(
    ledger: Ledger,
    now_ms: int,
    lookback_windows_ms: Callable[[int], Sequence[int]],
    daily_limit: Callable[[int], int | None] = lambda _: None,
) -> dict[str, Any]:
    """Return the state as a JSON object; times in ISO 8601, durations in seconds, sizes in bytes.

    `lookback_windows_ms` returns the windows of a source, by its id in the ledger, `daily_limit` its
    SYNC_MAX_SPANS_PER_DAY.
    """
    last = ledger.last_run()
    return {
        "state_file": str(ledger.path),
        "size_bytes": ledger.size_bytes(),
        "held_by": {role: _lease_owner(ledger, role) for role in (LIVE, BACKFILL)},
        "last_run": None if last is None else {
            "command": last["command"],
            "ended": iso_time(last["ended_ms"]),
            "exit_code": last["exit_code"],
            "errors": [part["error"] for part in json.loads(last["report"])["sources"] if part["error"]],
        },
        "pauses": [describe_pause(one) for one in active_pauses(ledger)],
        "sources": [
            _source(ledger, source, now_ms, lookback_windows_ms(source.id), daily_limit(source.id))
            for source in ledger.sources()
        ],
    }  # fmt: skip


def lookback_windows_ms(settings: Settings, ledger: Ledger) -> Callable[[int], Sequence[int]]:
    """Return the lookback windows of a source as a function; one that no settings name any more has the common ones."""
    states = [(source, ledger.source_by_key(keys_of(source), source.target)) for source in settings.sources]
    own = {state.id: settings.of(source) for source, state in states if state is not None}
    return lambda source_id: [span_ms(window) for window in own.get(source_id, settings).late_horizons]


def describe_pause(one: Pause) -> dict[str, Any]:
    """Return a pause as a JSON object."""
    return {
        "source": one.source,
        "project": one.project,
        "since": iso_time(one.since_ms),
        "until": None if one.until_ms is None else iso_time(one.until_ms),
        "reason": one.reason,
    }


def daily_limits(settings: Settings, ledger: Ledger) -> Callable[[int], int | None]:
    """Return the SYNC_MAX_SPANS_PER_DAY of a source as a function, None where there is none."""
    states = [(source, ledger.source_by_key(keys_of(source), source.target)) for source in settings.sources]
    limits = {state.id: settings.of(source).max_spans_per_day for source, state in states if state is not None}
    return lambda source_id: limits.get(source_id) or None


def _lease_owner(ledger: Ledger, role: str) -> dict[str, Any] | None:
    held = lease_owner(ledger, role)
    if held is None:
        return None
    return {"host": held["host"], "pid": held["pid"], "since": iso_time(int(str(held["taken_ms"])))}


def _source(
    ledger: Ledger, source: SourceState, now_ms: int, lookback_windows_ms: Sequence[int], daily_limit: int | None
) -> dict[str, Any]:
    live = live_state(ledger, source, now_ms, max(lookback_windows_ms))
    first, watermark = source.sync_start_ms, live.watermark_ms
    pending = ledger.pending(source.id)
    return {
        "langfuse_url": source.langfuse_url,
        "project_id": source.project_id,
        "project_name": source.project_name,
        "target": source.target,
        "sync_start": None if first is None else iso_time(first),
        "watermark": None if watermark is None else iso_time(watermark),
        "lag_seconds": None if watermark is None else max(0, (now_ms - watermark) // 1000),
        "gaps": [_interval(gap) for gap in live.gaps],
        "backfilled": [_interval(interval) for interval in live.backfilled],
        "arrival_delay": arrival_delay.describe(ledger, source.id, lookback_windows_ms),
        "pending_traces": pending.count,
        "oldest_pending": None if pending.oldest_ms is None else iso_time(pending.oldest_ms),
        "spans_today": spans_of_day(ledger, source.id, now_ms // DAY_MS),
        "max_spans_per_day": daily_limit,
        "filtered": ledger.left_out(source.id),
        "dead_letters": ledger.count_dead_letters(source.id),
        "scores": _scores(ledger, source.id),
    }


def _scores(ledger: Ledger, source_id: int) -> dict[str, Any]:
    counts = ledger.score_counts(source_id)
    waiting = {key.partition(": ")[2]: count for key, count in counts.items() if key.startswith(WAITING)}
    listed = ledger.state(source_scope(source_id)).get(LAST_SCORE_SCAN, fresh=True)
    return {
        "listed": None if listed is None else iso_time(listed),
        **{name: counts.get(name, 0) for name in SCORE_STATES},
        "waiting": sum(waiting.values()),
        "waiting_for": waiting,
    }


def _interval(interval: Interval) -> dict[str, str]:
    return {"from": iso_time(interval.start), "to": iso_time(interval.end)}
