"""Commands that work on every source: under a lease and telling what was sent, or only asking."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sync_worker.cli.common import chosen_sources, held_lease, run_async, settings_for, state_file, with_heartbeats
from sync_worker.cli.output import print_json, say
from sync_worker.clock import Stopped, SystemClock
from sync_worker.errors import ExitCode
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger
from sync_worker.ledger.lease import LIVE
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.backfill import Progress
from sync_worker.settings import Settings, Source
from sync_worker.sync.engine import Engine
from sync_worker.sync.source import SourceSync
from sync_worker.watch.progress import ProgressLine

#: Does one source's part: (engine, source, progress) to its report and exit code.
Work = Callable[[Engine, Source, Progress], Awaitable[tuple[SourceReport, int]]]


@dataclass(frozen=True, slots=True)
class Job:
    """A command that sends: its name, the lease it needs, and the interval it works on, if it is told one.

    `parts` is how many processes share the limit of requests to Langfuse.
    """

    command: str
    role: str
    work: Work
    interval: Interval | None = None
    parts: int = 1


async def do(
    job: Job, settings: Settings, sources: Sequence[Source], ledger: Ledger, clock: SystemClock, *, as_json: bool
) -> int:
    """Do a job on sources under its lease, tell what it did, and return the exit code."""
    engine = Engine(settings, ledger, clock, settings.patience.total_seconds(), parts=job.parts)
    started = clock.monotonic()
    line = ProgressLine(job.command)
    with held_lease(ledger, job.role) as lease:
        if job.role == LIVE:
            engine.note_starts(sources)
        try:
            reports, code = await with_heartbeats(
                ledger, lease, engine.each(sources, lambda source: job.work(engine, source, line))
            )
        except Stopped:
            line.close()
            say("sync-worker: stopped; what was answered is kept, the same command goes on from there")
            return ExitCode.OK
        finally:
            line.close()
        began_ms = ledger.clock.now_ms() - round((clock.monotonic() - started) * 1000)
        ledger.store_run(job.command, began_ms, code, {"sources": [report.as_json() for report in reports]})
    if as_json:
        print_json({"exit_code": code, "sources": [report.as_json() for report in reports]})
    else:
        for report in reports:
            for text in (report.line(), *report.hints()):
                say(text)
    return code


def ask(
    arguments: argparse.Namespace,
    look: Callable[[SourceSync], Awaitable[None]],
    *,
    must_exist: bool,
    role: str | None = None,
    only_reads: bool = False,
) -> tuple[int, dict[str, str]]:
    """Connect each source and look at it; return the exit code and, by source, what went wrong.

    With a `role`, its lease is held meanwhile: without one, nothing may be sent.
    """
    settings = settings_for(arguments)
    sources = chosen_sources(settings, arguments)
    clock = SystemClock()
    errors: dict[str, str] = {}
    with state_file(settings, clock, must_exist=must_exist, only_reads=only_reads) as ledger:
        engine = Engine(settings, ledger, clock, settings.patience.total_seconds())

        async def work() -> int:
            reports, code = await engine.each(sources, lambda source: engine.work(source, look))
            errors.update({report.source: report.error for report in reports if report.error})
            return code

        if role is None:
            return run_async(work, clock), errors
        with held_lease(ledger, role) as lease:
            return run_async(lambda: with_heartbeats(ledger, lease, work()), clock), errors
