"""`check`: settings, both credentials, the API, clocks, the state file, and what would be read. Sends no trace."""

from __future__ import annotations

import argparse
import email.utils
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from sync_worker.backoff import Backoff
from sync_worker.cli.common import Subparsers, add_common_options, chosen_sources, run_async, settings_for
from sync_worker.cli.output import print_json, print_line
from sync_worker.clock import SystemClock
from sync_worker.errors import ExitCode, SyncError
from sync_worker.kelet.client import KeletClient
from sync_worker.langfuse.budget import Budget
from sync_worker.langfuse.client import LangfuseClient
from sync_worker.langfuse.identity import Project, project_of, server_version
from sync_worker.langfuse.v2 import LIGHT, MAX_LIMIT, PATH
from sync_worker.ledger import open_ledger
from sync_worker.ledger.file import file_system, on_network
from sync_worker.settings import Settings, Source
from sync_worker.sync.engine import overall
from sync_worker.times import iso_time, moment_ms, span_ms

#: Clocks further apart than this make traces settle too early or too late.
_CLOCK_TOLERANCE = 10.0  # seconds


@dataclass(slots=True)
class Findings:
    """What was checked: name, whether it is well, and what was found."""

    lines: list[dict[str, object]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def note(self, name: str, found: str, *, ok: bool = True) -> None:
        """Note a finding."""
        self.lines.append({"check": name, "ok": ok, "found": found})

    async def attempt(self, name: str, work: Callable[[], Awaitable[str]]) -> bool:
        """Do a check; an error becomes a finding."""
        try:
            self.note(name, await work())
        except SyncError as fault:
            self.note(name, str(fault), ok=False)
            self.codes.append(fault.exit_code)
            return False
        return True


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("check", help="settings, credentials, API, clocks, state file; sends no trace")
    parser.add_argument(
        "--skip-kelet", action="store_true", help="do not post an empty request to Kelet to try the key"
    )
    add_common_options(parser, source=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    settings = settings_for(arguments)
    sources = chosen_sources(settings, arguments)
    clock = SystemClock()
    findings = Findings()
    findings.note("settings", f"{len(sources)} source(s); `config show` tells where each value comes from")

    async def work() -> int:
        await findings.attempt("state file", lambda: _state_file(settings, clock))
        for source in sources:
            await _check_source(source, settings, clock, findings, skip_kelet=arguments.skip_kelet)
        return overall(findings.codes)

    code = run_async(work, clock)
    if arguments.json:
        print_json({"exit_code": code, "checks": findings.lines})
    else:
        for line in findings.lines:
            print_line(f"{'ok  ' if line['ok'] else 'FAIL'}  {line['check']}: {line['found']}")
    return code


async def _state_file(settings: Settings, clock: SystemClock) -> str:
    path = settings.state_path
    existed = path.exists()
    ledger = open_ledger(path, clock)
    try:
        with ledger.transaction(fenced=False):
            pass
        size = ledger.size_bytes()
    finally:
        ledger.close()
    kind = file_system(path) or "an unknown file system"
    words = f"{path} on {kind}, {size / 1024:,.0f} KiB" + ("" if existed else ", made now")
    if on_network(path):
        words += "; a network file system is slow and its locks are not to be trusted: prefer a local disk or volume"
    return words


async def _check_source(
    source: Source, settings: Settings, clock: SystemClock, findings: Findings, *, skip_kelet: bool
) -> None:
    patience = min(settings.patience.total_seconds(), 10.0)
    client = LangfuseClient(
        source.langfuse_base_url, source.langfuse_public_key, source.langfuse_secret_key.get_secret_value(),
        budget=Budget(clock, settings.requests_per_minute), backoff=Backoff("Langfuse", clock, patience), clock=clock,
    )  # fmt: skip
    kelet = KeletClient(source.kelet_api_url, source.kelet_api_key.get_secret_value(), compression=settings.compression)
    name = source.name
    try:
        if await findings.attempt(f"{name}: Langfuse server", lambda: _server(client)) and await findings.attempt(
            f"{name}: Langfuse keys", lambda: _keys(client)
        ):
            await findings.attempt(f"{name}: Langfuse API", lambda: _due(client, settings, clock, findings, name))
        if skip_kelet:
            findings.note(f"{name}: Kelet key", "not tried")
        else:
            await findings.attempt(f"{name}: Kelet key", lambda: _kelet(kelet, source))
    finally:
        await client.close()
        await kelet.close()


async def _server(client: LangfuseClient) -> str:
    return f"{client.base_url}, version {await server_version(client)}"


async def _keys(client: LangfuseClient) -> str:
    project: Project = await project_of(client)
    return f"open project {project.name!r} ({project.id})"


async def _due(client: LangfuseClient, settings: Settings, clock: SystemClock, findings: Findings, name: str) -> str:
    now = clock.now_ms()
    start = now - span_ms(settings.start) if isinstance(settings.start, timedelta) else moment_ms(settings.start)
    params = {"fields": LIGHT, "limit": str(MAX_LIMIT), "fromStartTime": iso_time(start), "toStartTime": iso_time(now)}
    answer = await client.get(PATH, params)
    _compare_clocks(answer.headers.get("Date"), clock.now_ms(), findings, name)
    rows = answer.body.get("data", []) if isinstance(answer.body, dict) else []
    more = isinstance(answer.body, dict) and bool((answer.body.get("meta") or {}).get("cursor"))
    count = f"at least {len(rows)}" if more else str(len(rows))
    return f"v2 observations answer; a first run would read {count} rows that start from {iso_time(start)} on"


def _compare_clocks(date: str | None, now_ms: int, findings: Findings, name: str) -> None:
    if not date:
        return
    try:
        apart = now_ms / 1000 - email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    fine = abs(apart) <= _CLOCK_TOLERANCE
    words = f"{abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} Langfuse's"
    findings.note(f"{name}: clock", words if fine else f"{words}. Try: time synchronisation on this machine", ok=fine)
    if not fine:
        findings.codes.append(ExitCode.USAGE)


async def _kelet(kelet: KeletClient, source: Source) -> str:
    await kelet.post_body(b"", source.kelet_project, 0)
    return f"{kelet.url} took an empty request for project {source.kelet_project!r}"
