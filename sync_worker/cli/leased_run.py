"""Runs a command on each source: under a lease where it sends, with reports, or for a result alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from sync_worker.cli.common import hold_lease, run_async, run_with_heartbeats, select_sources, settings_for, state_file
from sync_worker.cli.lazy_crew import LazyCrew
from sync_worker.cli.metrics_file import MetricsFile
from sync_worker.cli.output import is_quiet, print_json, say, summarise
from sync_worker.cli.terminal import moves_cursor
from sync_worker.clock import Stopped, SystemClock
from sync_worker.errors import ExitCode
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger
from sync_worker.ledger.lease import LIVE
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.progress import Counts, Progress
from sync_worker.settings import Settings, Source
from sync_worker.sync.engine import GOOD, Engine
from sync_worker.sync.source_sync import SourceSync
from sync_worker.waits import collect
from sync_worker.watch.progress_line import ProgressLine, drawn

#: The work on one source: (engine, source, progress) to its report and exit code.
Work = Callable[[Engine, Source, Progress], Awaitable[tuple[SourceReport, int]]]


@dataclass(frozen=True, slots=True)
class LeasedRun:
    """A command that sends: its name, the lease it needs, and its interval if it is given one.

    `parts` is the number of processes (shards) that share the request limit of Langfuse.
    """

    command: str
    role: str
    work: Work
    interval: Interval | None = None
    parts: int = 1


async def run_leased(
    run: LeasedRun,
    settings: Settings,
    sources: Sequence[Source],
    ledger: Ledger,
    clock: SystemClock,
    *,
    as_json: bool,
    metrics: MetricsFile | None = None,
    crew: LazyCrew | None = None,
) -> int:
    """Run it on sources under its lease, print its reports, and return the exit code."""
    engine = Engine(settings, ledger, clock, settings.patience.total_seconds(), parts=run.parts)
    started = clock.monotonic()
    line = ProgressLine(run.command, sys.stderr if moves_cursor(sys.stderr) and not is_quiet() else None)
    progress = {source.name: Progress() for source in sources}
    made = engine.transports.measurements
    with hold_lease(ledger, run.role) as lease:
        if metrics is not None:
            metrics.begin(ledger, made)
        if crew is not None:
            crew.lead(engine)
        if run.role == LIVE:
            engine.note_starts(sources)
        try:
            with collect() as waits:
                async with drawn(line, lambda: _together(progress.values()), waits):
                    reports, code = await run_with_heartbeats(
                        ledger,
                        lease,
                        engine.each(sources, lambda source: run.work(engine, source, progress[source.name])),
                    )
        except Stopped:
            say("sync-worker: stopped; every response is stored, and the same command resumes from there")
            return ExitCode.OK
        began_ms = ledger.clock.now_ms() - round((clock.monotonic() - started) * 1000)
        if metrics is not None:
            metrics.keep(ledger, made)
        ledger.store_run(run.command, began_ms, code, {"sources": [report.as_json() for report in reports]})
        if metrics is not None:
            metrics.write(ledger, settings, sources, clock, made)
    if run.role == LIVE and settings.heartbeat_url is not None:
        await _call_heartbeat(settings.heartbeat_url.get_secret_value(), good=code in GOOD)
    if as_json:
        print_json({"exit_code": code, "sources": [report.as_json() for report in reports]})
    else:
        for report in reports:
            for text in (report.line(), *report.hints()):
                summarise(text)
    return code


def _together(progress: Iterable[Progress]) -> Counts:
    return sum((one.counts for one in progress), Counts())


async def _call_heartbeat(url: str, *, good: bool) -> None:
    """Call the heartbeat URL for a cycle of all sources, and wait for its end, some seconds at most."""
    from sync_worker.watch.heartbeat import Heartbeat  # noqa: PLC0415 - only where one is set

    heartbeat = Heartbeat(url, ["all"])
    heartbeat.note("all", good=good)
    await heartbeat.close(wait=True)


def for_each_source(
    arguments: argparse.Namespace,
    visit: Callable[[SourceSync], Awaitable[None]],
    *,
    must_exist: bool,
    role: str | None = None,
    only_reads: bool = False,
) -> tuple[int, dict[str, str]]:
    """Connect each source and pass it to `visit`; return the exit code and the errors by source.

    With a `role`, its lease is held during the work: without one, nothing may be sent.
    """
    settings = settings_for(arguments)
    sources = select_sources(settings, arguments)
    clock = SystemClock()
    errors: dict[str, str] = {}
    with state_file(settings, clock, must_exist=must_exist, only_reads=only_reads) as ledger:
        engine = Engine(settings, ledger, clock, settings.patience.total_seconds())

        async def work() -> int:
            reports, code = await engine.each(sources, lambda source: engine.work(source, visit))
            errors.update({report.source: report.error for report in reports if report.error})
            return code

        if role is None:
            return run_async(work, clock), errors
        with hold_lease(ledger, role) as lease:
            return run_async(lambda: run_with_heartbeats(ledger, lease, work()), clock), errors
