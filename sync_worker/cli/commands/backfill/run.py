"""`backfill`: syncs the history between two times, once; a rerun resumes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from sync_worker.cli.common import run_async, select_sources, settings_for, state_file
from sync_worker.cli.lazy_crew import crew_of
from sync_worker.cli.leased_run import LeasedRun, run_leased
from sync_worker.cli.metrics_file import metrics_file
from sync_worker.cli.shard import full_range, shard_of
from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError, DailyLimitReached, PausedByOperator, SourcePaused
from sync_worker.intervals import Interval
from sync_worker.ledger.lease import BACKFILL
from sync_worker.runs.backfill import ScoreChoice
from sync_worker.settings import Settings, Source, WrongValueError, parse_duration, parse_time
from sync_worker.settings.target_settings import target_of
from sync_worker.sync.engine import Engine
from sync_worker.sync.shards import Shard
from sync_worker.times import iso_time, moment_ms, span_ms


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_interval(arguments.start, arguments.end)
    shard = shard_of(arguments.shard, os.environ)
    clock = SystemClock()
    settings = settings_for(arguments)
    sources = select_sources(settings, arguments)
    _check_scores(arguments.scores, settings, sources)
    metrics = metrics_file(arguments, settings, "backfill")
    with state_file(settings, clock) as ledger:
        _check_pauses(Engine(settings, ledger, clock, None), sources)
        crew = crew_of(settings)

        async def work() -> int:
            parts = 1 if shard is None else shard.of
            now = await Engine(settings, ledger, clock, settings.patience.total_seconds(), parts=parts).now_ms(sources)
            job = _job(arguments, shard, now)
            return await run_leased(
                job, settings, sources, ledger, clock, as_json=arguments.json, metrics=metrics, crew=crew
            )

        return run_async(work, clock, at_once=None if crew is None else crew.kill)


def _check_pauses(engine: Engine, sources: Sequence[Source]) -> None:
    """Raise SourcePaused where all sources are paused: nothing is asked, and no lease is taken."""
    paused: list[SourcePaused] = []
    for source in sources:
        try:
            engine.check_pauses(source)
        except (PausedByOperator, DailyLimitReached) as error:
            paused.append(error)
    if len(paused) == len(sources):
        raise SourcePaused(" · ".join(map(str, paused)))


def _job(arguments: argparse.Namespace, shard: Shard | None, now_ms: int) -> LeasedRun:
    """Return the job. `now_ms` is the current time in Unix milliseconds. Raises ConfigError."""
    if shard is None:
        interval, parts, of = interval_of(arguments.start, arguments.end, now_ms), None, 1
    else:
        whole = full_range(arguments.start, arguments.end, now_ms)
        interval, parts, of = Interval(whole.start, min(whole.end, now_ms)), shard.partitions(whole), shard.of
    scores: ScoreChoice = arguments.scores or "too"
    return LeasedRun(
        "backfill",
        BACKFILL,
        lambda engine, source, line: engine.backfill(source, interval, line, parts, scores),
        interval,
        of,
    )


def _check_scores(wanted: str | None, settings: Settings, sources: Sequence[Source]) -> None:
    """Check that scores that were asked for are on. Raises ConfigError."""
    without = [source.name for source in sources if not settings.of(source).scores]
    if wanted in {"too", "only"} and without:
        raise ConfigError(
            f"--scores {wanted}, but SYNC_SCORES is false for {', '.join(without)}. Try: SYNC_SCORES=true"
        )
    no_events = [
        source.name
        for source in sources
        if not target_of(source).preset.takes_signals and not settings.of(source).score_events
    ]
    if wanted in {"too", "only"} and no_events:
        raise ConfigError(
            f"--scores {wanted}, but the target of {', '.join(no_events)} is not Kelet. Try: SYNC_SCORE_EVENTS=true"
        )


def check_interval(start: str, end: str) -> None:
    """Check that `--from` and `--to` can be parsed, before any request for the time. Raises ConfigError."""
    for option, text in (("--from", start), ("--to", end)):
        _moment(option, text, 0)


def interval_of(start: str, end: str, now_ms: int) -> Interval:
    """Return the interval of `--from` and `--to`; an end in the future becomes now. Raises ConfigError."""
    interval = Interval(_moment("--from", start, now_ms), min(_moment("--to", end, now_ms), now_ms))
    if interval.length <= 0:
        raise ConfigError(
            f"--from {start} is not before --to {end} ({iso_time(interval.start)} to {iso_time(interval.end)}). "
            "Try: an earlier --from"
        )
    return interval


def _moment(option: str, text: str, now_ms: int) -> int:
    if text == "now":
        return now_ms
    try:
        return now_ms - span_ms(parse_duration(text))
    except WrongValueError:
        pass
    try:
        return moment_ms(parse_time(text))
    except WrongValueError as error:
        raise ConfigError(f"{option} {text!r}: {error}. Try: 2026-01-31T00:00:00Z, 30d or now") from None
