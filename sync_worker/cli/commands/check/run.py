"""`check`: settings, credentials, the API, clocks, the state file, and what a first run would read. Sends no trace."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sync_worker.backoff import Backoff
from sync_worker.choices import Api
from sync_worker.cli.common import (
    ignored_starts,
    run_async,
    select_sources,
    settings_for,
)
from sync_worker.cli.output import print_json, print_line
from sync_worker.cli.terminal import GREEN, RED, styled
from sync_worker.clock import Stopped, SystemClock
from sync_worker.corrected import AGREEMENT_MS, CorrectedClock
from sync_worker.errors import ConfigError, ExitCode, SourcePaused, SyncError
from sync_worker.http import date_hooks
from sync_worker.intervals import Interval
from sync_worker.langfuse.buckets import Buckets
from sync_worker.langfuse.generation import ask
from sync_worker.langfuse.identity import Project, key_expiry, project_of, server_version
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.langfuse.page_size import MAX_LIMIT
from sync_worker.langfuse.rate_limiter import Quota
from sync_worker.langfuse.v1 import V1Reader
from sync_worker.langfuse.v2 import V2Reader
from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.copies import check_latest
from sync_worker.ledger.file_systems import file_system, on_network
from sync_worker.otlp.posting import STOP_GRACE, until_stopped
from sync_worker.otlp.target_client import Rejected, TargetClient
from sync_worker.printable import escape
from sync_worker.settings import Settings, Source, target_of
from sync_worker.settings.model import SECRETS
from sync_worker.spans.routing import is_template
from sync_worker.sync.engine import Engine, overall
from sync_worker.times import iso_time, moment_ms, span_ms
from sync_worker.wording import counted

#: A line about a secret that is not set, or stands in a file that is not there.
_SECRET_NOT_THERE = re.compile(
    rf"(?:.* )?(?:{'|'.join(SECRETS)}): (?:missing\b|the file .* does not exist)", re.IGNORECASE
)


@dataclass(slots=True)
class Findings:
    """Results of the checks, each a name, whether it passed, and what was found."""

    lines: list[dict[str, object]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def note(self, name: str, found: str, *, ok: bool = True) -> None:
        """Add a finding."""
        self.lines.append({"check": name, "ok": ok, "found": found})

    async def attempt(self, name: str, work: Callable[[], Awaitable[str]]) -> bool:
        """Run a check; an error of any kind becomes a finding, so that the other checks still run. Raises Stopped."""
        try:
            self.note(name, await work())
        except Stopped:
            raise
        except SyncError as error:
            self.fail(name, str(error), error.exit_code)
            return False
        except Exception as error:  # noqa: BLE001 - the other checks still run
            self.fail(name, f"unexpected {type(error).__name__}: {error}", ExitCode.TRANSIENT)
            return False
        return True

    def fail(self, name: str, found: str, code: int) -> None:
        """Add a failed check with its exit code."""
        self.note(name, found, ok=False)
        self.codes.append(code)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.offline:
        return _check_offline(arguments)
    settings = settings_for(arguments)
    sources = select_sources(settings, arguments)
    clock = SystemClock()
    findings = Findings()
    findings.note("settings", f"{counted(len(sources), 'source')}; `config show` shows where each value comes from")

    async def work() -> int:
        with ExitStack() as opened:
            ledgers: list[Ledger] = []

            async def state_file() -> str:
                existed = os.path.exists(settings.state_path)  # noqa: ASYNC240, PTH110 - opening reports other errors
                ledgers.append(opened.enter_context(closing(open_ledger(settings.state_path, clock))))
                return _state_file(ledgers[0], settings, sources, findings, existed=existed)

            is_well = await findings.attempt("state file", state_file)
            engine = Engine(settings, ledgers[0], clock, _patience(settings)) if is_well else None
            for source in sources:
                try:
                    await _check_source(
                        source, settings.of(source), clock, findings, engine, skip_target=arguments.skip_target
                    )
                except Stopped:
                    findings.note(source.name, "interrupted by a signal before the end", ok=False)
                    break
                except Exception as error:  # noqa: BLE001 - other sources are checked too
                    findings.fail(source.name, f"unexpected {type(error).__name__}: {error}", ExitCode.TRANSIENT)
            return overall(findings.codes)

    return _print(findings, run_async(work, clock), arguments)


def _check_offline(arguments: argparse.Namespace) -> int:
    """Check the settings alone. A secret that is not there is no error: CI has none."""
    findings = Findings()
    try:
        settings = settings_for(arguments)
    except ConfigError as error:
        wrong = [line for line in error.lines if not _SECRET_NOT_THERE.match(line)]
        if not wrong:
            settings_for(arguments, need_sources=False)  # what is wrong beside the secrets
        for line in wrong:
            findings.fail("settings", line, ExitCode.USAGE)
        for line in error.lines:
            if line not in wrong:
                findings.note("settings", f"{line.partition(';')[0]} here; a run needs it")
    else:
        for source in select_sources(settings, arguments):
            target = target_of(source)
            where = f"{target.title} at {target.url}, project {source.kelet_project}"
            findings.note(source.name, f"{source.langfuse_base_url} to {where}")
    findings.note("requests", "none was sent: addresses, keys and the state file are not checked")
    return _print(findings, overall(findings.codes), arguments)


def _print(findings: Findings, code: int, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json({"exit_code": code, "checks": findings.lines})
    else:
        for line in findings.lines:
            mark = styled("ok", GREEN, sys.stdout) + "  " if line["ok"] else styled("FAIL", RED, sys.stdout)
            found = escape(f"{line['check']}: {line['found']}")
            print_line(f"{mark}  {found}", styled=True)
    return code


def _patience(settings: Settings) -> float:
    return min(settings.patience.total_seconds(), 10.0)


def _state_file(
    ledger: Ledger, settings: Settings, sources: Sequence[Source], findings: Findings, *, existed: bool
) -> str:
    path = settings.state_path
    with ledger.transaction(fenced=False):
        pass
    for line in ignored_starts(settings, sources, ledger):
        findings.note("start", line)
    ledger.check_damage()
    check_latest(ledger)
    size = ledger.size_bytes()
    kind = file_system(path) or "an unknown file system"
    words = f"{path} on {kind}, {size / 1024:,.0f} KiB" + ("" if existed else ", created now")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        words += f"; its mode {mode:04o} gives other users access. Try: chmod 600 {shlex.quote(str(path))}"
    if on_network(path):
        words += "; a network file system is slow and its locks are unreliable: prefer a local disk or volume"
    return words


async def _check_source(
    source: Source,
    settings: Settings,
    clock: SystemClock,
    findings: Findings,
    engine: Engine | None,
    *,
    skip_target: bool,
) -> None:
    patience = _patience(settings)
    corrected = CorrectedClock(clock)
    client = LangfuseClient(
        source.langfuse_base_url, source.langfuse_public_key, source.langfuse_secret_key.get_secret_value(),
        rate_limits=Buckets(clock, Quota(settings.requests_per_minute, settings.budget_share)),
        backoff=Backoff("Langfuse", clock, patience), clock=corrected, max_bytes=settings.max_response_bytes,
        hooks=date_hooks(clock.monotonic, corrected.langfuse.report),
    )  # fmt: skip
    target = target_of(source)
    receiver = TargetClient(
        target,
        compression=settings.compression,
        max_bytes=settings.max_response_bytes,
        left=lambda: patience,
        hooks=date_hooks(clock.monotonic, corrected.kelet.report),
    )
    name = source.name
    try:
        opened: list[Project] = []
        if await findings.attempt(f"{name}: Langfuse server", lambda: _server(client)) and await findings.attempt(
            f"{name}: Langfuse keys", lambda: _keys(client, opened)
        ):
            if engine is not None:
                await findings.attempt(
                    f"{name}: Langfuse project", lambda: engine.identities.preview(source, opened[0])
                )
            await findings.attempt(f"{name}: Langfuse API", lambda: _due(client, settings, corrected))
        routed = [one.project for one in source.routes if not one.drop and not is_template(one.project)]
        projects = dict.fromkeys([source.kelet_project, *routed])
        for project in projects:
            of = f"{name}: {target.title[:1].upper()}{target.title[1:]} key"
            of = of if len(projects) == 1 else f"{of}, project {project}"
            if skip_target:
                findings.note(of, "skipped")
            else:
                await findings.attempt(of, partial(_receiver, receiver, project, clock))
        _compare_clocks(corrected, findings, name)
    finally:
        await client.close()
        await receiver.close()


async def _server(client: LangfuseClient) -> str:
    return f"{client.base_url}, version {await server_version(client)}"


async def _keys(client: LangfuseClient, opened: list[Project]) -> str:
    project = await project_of(client)
    opened.append(project)
    expires = await key_expiry(client, project)
    end = (
        "no expiry date in Langfuse" if expires is None else f"expire at {iso_time(round(expires.timestamp() * 1000))}"
    )
    return (
        f"belong to project {project.name!r} ({project.id}); {end}; "
        "read-only keys (Viewer) are enough, where the server has them"
    )


async def _api(client: LangfuseClient, settings: Settings) -> tuple[Api, str | None, str]:
    """Return the generation that a run would read, the server's version, and why this generation."""
    found = await ask(client)
    if settings.langfuse_api == "auto":
        return found.api, found.version, found.why
    if not (found.v2 if settings.langfuse_api == "v2" else found.v1):
        raise ConfigError(
            f"SYNC_LANGFUSE_API={settings.langfuse_api}, which this server does not have ({found.why}). "
            "Try: SYNC_LANGFUSE_API=auto"
        )
    return settings.langfuse_api, found.version, f"SYNC_LANGFUSE_API={settings.langfuse_api}"


async def _due(client: LangfuseClient, settings: Settings, clock: CorrectedClock) -> str:
    api, version, why = await _api(client, settings)
    now = clock.now_ms()
    start = now - span_ms(settings.start) if isinstance(settings.start, timedelta) else moment_ms(settings.start)
    interval = Interval(start, max(start + 1, now))
    if api == "v1":
        return (
            f"v1 is read ({why}); a first run would read observations and traces from {iso_time(start)} on, "
            f"{await V1Reader(client, version=version).count(interval):,} in all"
        )
    async for page in V2Reader(client).interval(interval, metadata_only=True):
        least = "" if len(page.observations) < MAX_LIMIT else "at least "
        count = least + counted(len(page.observations), "observation")
        return f"v2 is read ({why}); a first run would read {count} from {iso_time(start)} on"
    return f"v2 is read ({why}); no observation starts at or after {iso_time(start)}"


def _compare_clocks(clock: CorrectedClock, findings: Findings, name: str) -> None:
    ahead = clock.drift_ms
    if ahead is None:
        return
    words = f"{abs(ahead) / 1000:,.0f} s {'ahead of' if ahead > 0 else 'behind'} Langfuse's"
    if not clock.is_certain:
        findings.codes.append(ExitCode.USAGE)
        words += (
            f", and no two of three clocks agree ({clock.describe()}): the sync would read and send, but complete no "
            "interval. Try: time synchronisation on this machine"
        )
    elif abs(ahead) > AGREEMENT_MS:
        words += "; the sync uses Langfuse's time. Try: time synchronisation on this machine"
    else:
        words += "; the sync uses Langfuse's time"
    findings.note(f"{name}: clock", words, ok=clock.is_certain)


async def _receiver(receiver: TargetClient, project: str, clock: SystemClock) -> str:
    try:
        await until_stopped(receiver.post_body(b"", project, 0), clock, STOP_GRACE, receiver.target.title)
    except Rejected as refusal:
        raise SourcePaused(
            f"{refusal}. The request was empty: this proves neither the key nor the project {project!r}. "
            "Try: `once`, which sends spans; `check --skip-target` skips this check"
        ) from refusal
    return f"{receiver.url} accepted an empty request for project {project!r}"
