"""`status`: watermark, lag, pending traces and dead letters of each source. Offline: reads only the state file."""

from __future__ import annotations

import argparse
import time
from typing import Any

from sync_worker.cli.common import settings_for, state_file
from sync_worker.cli.output import clear_screen, flush, print_json, print_line
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError
from sync_worker.settings import Settings, WrongValueError
from sync_worker.settings.durations import parse_positive_duration
from sync_worker.watch.status import SCORE_STATES, daily_limits, describe, lookback_windows_ms, now_ms
from sync_worker.wording import counted, in_words


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    settings = settings_for(arguments, need_sources=False)
    if arguments.watch is None:
        return _show(settings, arguments)
    seconds = _seconds(arguments.watch)
    while True:
        if not arguments.json:
            clear_screen()
        _show(settings, arguments)
        flush()
        time.sleep(seconds)


def _seconds(text: str) -> float:
    """Return how long to wait between two views. Raises ConfigError."""
    try:
        return parse_positive_duration(text).total_seconds()
    except WrongValueError as error:
        raise ConfigError(f"--watch {text!r}: {error}. Try: 2s, 1m or 1h") from None


def _show(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print how it stands now."""
    clock = SystemClock()
    with state_file(settings, clock, must_exist=True, only_reads=True) as ledger:
        windows, limits = lookback_windows_ms(settings, ledger), daily_limits(settings, ledger)
        state = describe(ledger, now_ms(ledger, clock), windows, limits)
    if arguments.json:
        print_json(state)
    else:
        _print(state)
    return 0


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
    for pause in state["pauses"]:
        project = f", Kelet project {pause['project']}" if pause["project"] else ""
        until = f" until {pause['until']}" if pause["until"] else ""
        reason = f": {pause['reason']}" if pause["reason"] else ""
        print_line(f"paused      {pause['source'] or 'all sources'}{project} since {pause['since']}{until}{reason}")
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
            print_line(f"  lag           {in_words(source['lag_seconds'])}")
        for gap in source["gaps"]:
            print_line(f"  gap           {gap['from']} to {gap['to']}")
        for interval in source["backfilled"]:
            print_line(f"  backfilled    {interval['from']} to {interval['to']}")
        _print_arrival_delay(source["arrival_delay"])
        oldest = f", the oldest since {source['oldest_pending']}" if source["oldest_pending"] else ""
        if source["max_spans_per_day"] is not None:
            print_line(f"  today         {source['spans_today']:,} of {counted(source['max_spans_per_day'], 'span')}")
        print_line(f"  pending       {counted(source['pending_traces'], 'trace')}{oldest}")
        for rule, count in source["filtered"].items():
            print_line(f"  filtered      {counted(count, 'trace')} by {rule}")
        print_line(f"  dead letters  {source['dead_letters']}")
        _print_scores(source["scores"])


def _print_scores(scores: dict[str, Any]) -> None:
    counts = [f"{scores[name]} {name}" for name in (*SCORE_STATES, "waiting") if scores[name]]
    if scores["listed"] is not None or counts:
        reasons = ", ".join(f"{reason} {count}" for reason, count in scores["waiting_for"].items())
        print_line(f"  scores        {', '.join(counts) or 'none'}" + (f" ({reasons})" if reasons else ""))


def _print_arrival_delay(delay: dict[str, Any]) -> None:
    if delay["observations"]:
        words = ", ".join(
            f"{share} within {in_words(bound)}" if bound else f"{share} later"
            for share, bound in delay["within_seconds"].items()
        )
        print_line(f"  first seen    {words} of their end")
    if delay["checked_back_seconds"]:
        print_line(f"  checked back  {in_words(delay['checked_back_seconds'])} for late-arriving observations")
