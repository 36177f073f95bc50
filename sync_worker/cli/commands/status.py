"""`status`: watermark, lag, pending traces and dead letters of each source. Offline: reads only the state file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from sync_worker.cli.common import settings_for, state_file
from sync_worker.cli.output import print_json, print_line
from sync_worker.clock import SystemClock
from sync_worker.intervals import Interval, contiguous_end, gaps
from sync_worker.ledger import Ledger, SourceState, source_scope
from sync_worker.ledger.lease import BACKFILL, LIVE, lease_owner
from sync_worker.ledger.scores import WAITING
from sync_worker.ledger.state_keys import LAST_SCORE_SCAN
from sync_worker.pipeline.plan import live_view
from sync_worker.runs import arrival_delay
from sync_worker.settings import Settings
from sync_worker.sync.keys import keys_of
from sync_worker.sync.timekeeping import last_certain_ms
from sync_worker.times import iso_time, span_ms

#: States of scores that do not wait, in the order of the output.
_SCORE_STATES = (
    "sent", "filtered", "ignored", "gone", "no_trace", "experiment", "rejected", "deleted"
)  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    settings = settings_for(arguments, need_sources=False)
    clock = SystemClock()
    with state_file(settings, clock, must_exist=True, only_reads=True) as ledger:
        lookback_windows = _lookback_windows_ms(settings, ledger)
        now = max(clock.now_ms(), last_certain_ms(ledger))  # offline: no server is asked, but it is at least this late
        state = describe(ledger, now, lookback_windows)
    if arguments.json:
        print_json(state)
    else:
        _print(state)
    return 0


def describe(ledger: Ledger, now_ms: int, lookback_windows_ms: Callable[[int], Sequence[int]]) -> dict[str, Any]:
    """Return the state as a JSON object; times in ISO 8601, durations in seconds, sizes in bytes.

    `lookback_windows_ms` returns the windows of a source, by its id in the ledger.
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
        "sources": [_source(ledger, source, now_ms, lookback_windows_ms(source.id)) for source in ledger.sources()],
    }  # fmt: skip


def _lookback_windows_ms(settings: Settings, ledger: Ledger) -> Callable[[int], Sequence[int]]:
    """Return what tells the lookback windows of a source; one that no settings name any more has the common ones."""
    states = [(source, ledger.source_by_key(keys_of(source), source.target)) for source in settings.sources]
    own = {state.id: settings.of(source) for source, state in states if state is not None}
    return lambda source_id: [span_ms(window) for window in own.get(source_id, settings).late_horizons]


def _lease_owner(ledger: Ledger, role: str) -> dict[str, Any] | None:
    held = lease_owner(ledger, role)
    if held is None:
        return None
    return {"host": held["host"], "pid": held["pid"], "since": iso_time(int(str(held["taken_ms"])))}


def _source(ledger: Ledger, source: SourceState, now_ms: int, lookback_windows_ms: Sequence[int]) -> dict[str, Any]:
    live = ledger.completed_intervals(source.id, LIVE)
    first = source.sync_start_ms
    longest = max(lookback_windows_ms)
    completed = live_view(live, ledger.completed_intervals(source.id, BACKFILL), now_ms, longest)
    watermark = None if first is None else contiguous_end(first, completed)
    open_gaps = [] if first is None or not live else gaps(Interval(first, live[-1].end), completed)
    pending = ledger.pending(source.id)
    return {
        "langfuse_url": source.langfuse_url,
        "project_id": source.project_id,
        "project_name": source.project_name,
        "target": source.target,
        "sync_start": None if first is None else iso_time(first),
        "watermark": None if watermark is None else iso_time(watermark),
        "lag_seconds": None if watermark is None else max(0, (now_ms - watermark) // 1000),
        "gaps": [_interval(gap) for gap in open_gaps],
        "backfilled": [_interval(interval) for interval in ledger.completed_intervals(source.id, BACKFILL)],
        "arrival_delay": arrival_delay.describe(ledger, source.id, lookback_windows_ms),
        "pending_traces": pending.count,
        "oldest_pending": None if pending.oldest_ms is None else iso_time(pending.oldest_ms),
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
        **{name: counts.get(name, 0) for name in _SCORE_STATES},
        "waiting": sum(waiting.values()),
        "waiting_for": waiting,
    }


def _interval(interval: Interval) -> dict[str, str]:
    return {"from": iso_time(interval.start), "to": iso_time(interval.end)}


def _print(state: dict[str, Any]) -> None:
    print_line(f"state file  {state['state_file']}, {state['size_bytes'] / 1024:,.0f} KiB")
    for role, held in state["held_by"].items():
        if held is not None:
            print_line(f"running     {role}: pid {held['pid']} on {held['host']} since {held['since']}")
    last = state["last_run"]
    if last is not None:
        print_line(f"last run    {last['command']} ended {last['ended']} with {last['exit_code']}")
        for error in last["errors"]:
            print_line(f"            {error}")
    if not state["sources"]:
        print_line("no source has been synced yet")
    for source in state["sources"]:
        print_line()
        print_line(
            f"{source['project_name']} ({source['project_id']}) at {source['langfuse_url']} to {source['target']}"
        )
        if source["watermark"] is None:
            print_line("  live          not started")
        else:
            print_line(f"  live          from {source['sync_start']} complete to {source['watermark']}")
            print_line(f"  lag           {timedelta(seconds=source['lag_seconds'])}")
        for gap in source["gaps"]:
            print_line(f"  gap           {gap['from']} to {gap['to']}")
        for interval in source["backfilled"]:
            print_line(f"  backfilled    {interval['from']} to {interval['to']}")
        _print_arrival_delay(source["arrival_delay"])
        oldest = f", the oldest since {source['oldest_pending']}" if source["oldest_pending"] else ""
        print_line(f"  pending       {source['pending_traces']} traces{oldest}")
        for rule, count in source["filtered"].items():
            print_line(f"  filtered      {count} traces by {rule}")
        print_line(f"  dead letters  {source['dead_letters']}")
        _print_scores(source["scores"])


def _print_scores(scores: dict[str, Any]) -> None:
    counts = [f"{scores[name]} {name}" for name in (*_SCORE_STATES, "waiting") if scores[name]]
    if scores["listed"] is not None or counts:
        reasons = ", ".join(f"{reason} {count}" for reason, count in scores["waiting_for"].items())
        print_line(f"  scores        {', '.join(counts) or 'none'}" + (f" ({reasons})" if reasons else ""))


def _print_arrival_delay(delay: dict[str, Any]) -> None:
    if delay["observations"]:
        words = ", ".join(
            f"{share} within {timedelta(seconds=bound)}" if bound else f"{share} later"
            for share, bound in delay["within_seconds"].items()
        )
        print_line(f"  first seen    {words} of their end")
    if delay["checked_back_seconds"]:
        print_line(f"  checked back  {timedelta(seconds=delay['checked_back_seconds'])} for late-arriving observations")
