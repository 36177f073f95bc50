"""Values of metrics that the state file holds, read at each scrape: they say how it stands, and cannot freeze."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sync_worker import __version__
from sync_worker.clock import Clock
from sync_worker.ledger import Ledger, SourceState, source_scope
from sync_worker.ledger.daily_spans import DAY_MS, spans_of_day
from sync_worker.ledger.lease import BACKFILL, LIVE, lease_owner
from sync_worker.ledger.pauses import active_pauses
from sync_worker.ledger.state_keys import ARRIVAL_DELAY, CYCLES, DAILY_LIMIT, LAST_SCORE_SCAN, last_cycle
from sync_worker.ledger.totals import ACCEPTED, DEAD_LETTERED, EDITED_SIGNALS, SIGNALS, totals
from sync_worker.measurements import Histogram
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.settings import Settings, Source
from sync_worker.sync.engine import OUTCOMES, PAUSED_ON_PURPOSE, outcome_of
from sync_worker.sync.keys import keys_of
from sync_worker.sync.opening import projects_of
from sync_worker.times import span_ms
from sync_worker.watch.metrics import Samples
from sync_worker.watch.quotas import request_quotas
from sync_worker.watch.status import SCORE_STATES, live_state, now_ms


def read(ledger: Ledger, settings: Settings, sources: Sequence[Source], clock: Clock) -> Samples:
    """Return what the state file says of these sources. Raises StateError."""
    found = _Found()
    now = now_ms(ledger, clock)
    found.put("build_info", 1, __version__)
    _read_file(found, ledger)
    pauses = active_pauses(ledger)
    for source in sources:
        _read_cycle(found, ledger, source)
        for pause in pauses:
            if pause.concerns(source.name):
                found.put("paused", 1, source.name, pause.project or "", "operator")
        if projects_of(source) <= {pause.project for pause in pauses if pause.concerns(source.name)}:
            found.put("paused", 1, source.name, "", "operator")  # nothing of it is left
        state = ledger.source_by_key(keys_of(source), source.target)
        if state is not None:
            longest = max(span_ms(window) for window in settings.of(source).late_horizons)
            _read_source(found, ledger, source.name, state, now, longest)
            _read_day(found, ledger, source.name, state, settings.of(source).max_spans_per_day, now // DAY_MS)
            if settings.of(source).scores:
                _read_scores(found, ledger, source.name, state)
            _read_limits(found, ledger, source.name, state, settings.of(source), now)
    return found.samples


class _Found:
    def __init__(self) -> None:
        self.samples: Samples = {}

    def put(self, name: str, value: float | Histogram, *labels: str) -> None:
        self.samples.setdefault(name, {})[labels] = value

    def put_time(self, name: str, at_ms: int | None, *labels: str) -> None:
        if at_ms is not None:
            self.put(name, at_ms / 1000, *labels)


def _read_file(found: _Found, ledger: Ledger) -> None:
    found.put("state_file_bytes", ledger.size_bytes())
    system = os.statvfs(ledger.path.resolve().parent)
    found.put("state_file_system_free_bytes", system.f_bavail * system.f_frsize)
    found.put("state_file_system_size_bytes", system.f_blocks * system.f_frsize)
    for role in (LIVE, BACKFILL):
        found.put(f"{role}_lease_held", int(lease_owner(ledger, role) is not None))


def _read_cycle(found: _Found, ledger: Ledger, source: Source) -> None:
    cycle = ledger.state(CYCLES).get(last_cycle(source.name))
    if cycle is None:
        return
    found.put_time("last_cycle_timestamp_seconds", cycle["ended_ms"], source.name)
    found.put_time("last_successful_cycle_timestamp_seconds", cycle["good_ms"], source.name)
    ended = outcome_of(cycle["exit_code"], on_purpose=cycle.get("on_purpose", False))
    for outcome in (*OUTCOMES.values(), PAUSED_ON_PURPOSE):
        found.put("last_cycle_outcome", int(outcome == ended), source.name, outcome)


def _read_source(
    found: _Found, ledger: Ledger, name: str, state: SourceState, now: int, longest_window_ms: int
) -> None:
    live = live_state(ledger, state, now, longest_window_ms)
    if live.watermark_ms is not None:
        found.put_time("watermark_timestamp_seconds", live.watermark_ms, name)
        found.put("lag_seconds", max(0, now - live.watermark_ms) / 1000, name)
        found.put("gap_seconds", sum(gap.length for gap in live.gaps) / 1000, name)
    pending = ledger.pending(state.id)
    found.put("pending_traces", pending.count, name)
    found.put_time("oldest_pending_timestamp_seconds", pending.oldest_ms, name)
    for kind, spans in ledger.dead_letters_by_kind(state.id).items():
        found.put("dead_letters", spans, name, kind)
    for (total, label), value in totals(ledger, state.id).items():
        if total == ACCEPTED:
            found.put("spans_total", value, name, label, "accepted")
        elif total == SIGNALS:
            found.put("signals_total", value, name, label, "accepted")
        elif total == EDITED_SIGNALS:
            found.put("signals_total", value, name, label, "edited")
        elif total == DEAD_LETTERED and label == "score":
            found.put("signals_total", value, name, "", "rejected")
        elif total == DEAD_LETTERED:
            found.put("spans_total", value, name, "", label)
    delays = ArrivalDelay.from_counts(ledger.state(source_scope(state.id)).get(ARRIVAL_DELAY))
    found.put("arrival_delay_seconds", Histogram(tuple(delays.counts), None), name)


def _read_scores(found: _Found, ledger: Ledger, name: str, state: SourceState) -> None:
    """Read what became of scores; those that wait have their reason in the outcome."""
    counts = ledger.score_counts(state.id)
    for outcome in dict.fromkeys((*SCORE_STATES, *counts)):
        found.put("scores", counts.get(outcome, 0), name, outcome.replace(": ", "_"))
    listed = ledger.state(source_scope(state.id)).get(LAST_SCORE_SCAN)
    found.put_time("last_score_listing_timestamp_seconds", listed, name)


def _read_day(found: _Found, ledger: Ledger, name: str, state: SourceState, limit: int, day: int) -> None:
    found.put("spans_today", spans_of_day(ledger, state.id, day), name)
    if limit:
        reached = ledger.state(source_scope(state.id)).get(DAILY_LIMIT)
        found.put("spans_daily_limit", limit, name)
        if reached == {"day": day, "limit": limit}:
            found.put("paused", 1, name, "", "daily_limit")


def _read_limits(found: _Found, ledger: Ledger, name: str, state: SourceState, settings: Settings, now: int) -> None:
    for one in request_quotas(ledger, state, settings, now):
        found.put("langfuse_request_limit", one.limit, name, one.endpoint)
        found.put("langfuse_request_quota", one.quota, name, one.endpoint)
        found.put("langfuse_requests_remaining", one.remaining, name, one.endpoint)
