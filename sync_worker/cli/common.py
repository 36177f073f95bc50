"""What commands share: options, settings, the state file and its lease, signals."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

from sync_worker import event_loop
from sync_worker.cli.output import say
from sync_worker.cli.process_signals import restore_handlers
from sync_worker.cli.terminal import has_colors
from sync_worker.clock import Stopped, SystemClock
from sync_worker.errors import ConfigError, ExitCode, LeaseHeld, StateError, SyncError
from sync_worker.ledger import Ledger, copies, open_ledger
from sync_worker.ledger import lease as leases
from sync_worker.settings import Settings, Source, load, target_of
from sync_worker.sync.keys import keys_of
from sync_worker.sync.start import start_without_effect
from sync_worker.watch import logs

_T = TypeVar("_T")

#: How often, and how many seconds apart, the lease of another `send` is tried.
_LEASE_POLLS, _LEASE_PAUSE = 60, 0.5

log = logging.getLogger(__name__)


def load_settings(arguments: argparse.Namespace, *, need_sources: bool) -> Settings:
    """Load the settings, those of the command line first. Raises ConfigError."""
    given = {f"--{name}": getattr(arguments, name, None) for name in ("state", "config", "jobs")}
    overrides = {flag: text for flag, text in given.items() if text is not None}  # an empty one too, which is rejected
    if arguments.verbose or arguments.quiet:
        overrides |= {"-v": "debug"} if arguments.verbose else {"-q": "error"}
    return load(overrides=overrides, need_sources=need_sources, env_file=arguments.env_file)


def settings_for(arguments: argparse.Namespace, *, need_sources: bool = True) -> Settings:
    """Load the settings and set up logs; for a command that needs sources, check their addresses and proxies.

    Raises ConfigError.
    """
    settings = load_settings(arguments, need_sources=need_sources)
    logs.set_up(settings.log_level, settings.log_format, colors=has_colors(sys.stderr))
    for warning in settings.warnings:
        log.warning("%s", warning, extra={"action": "settings"})
    if need_sources:
        from sync_worker.connections import check_connections  # noqa: PLC0415 - offline commands need no HTTP client

        check_connections(url for one in settings.sources for url in (one.langfuse_base_url, target_of(one).url))
    return settings


def select_sources(settings: Settings, arguments: argparse.Namespace) -> tuple[Source, ...]:
    """Return the sources that a command works on. Raises ConfigError."""
    if arguments.source is None:
        return settings.sources
    wanted = arguments.source
    chosen = tuple(one for one in settings.sources if wanted in {one.name, one.name.partition("/")[0]})
    if not chosen:
        names = ", ".join(source.name for source in settings.sources)
        raise ConfigError(f"--source {wanted or repr(wanted)}: there is no such source. Try: one of {names}")
    return chosen


def ignored_starts(settings: Settings, sources: Iterable[Source], ledger: Ledger) -> list[str]:
    """Return a warning for each source whose SYNC_START was set or changed and no longer has an effect."""
    states = [(source, ledger.source_by_key(keys_of(source), source.target)) for source in sources]
    lines = [
        start_without_effect(ledger, state, source.name, settings.of(source))
        for source, state in states
        if state is not None
    ]
    return [line for line in lines if line is not None]


def warn_of_ignored_start(settings: Settings, sources: Iterable[Source], ledger: Ledger) -> None:
    """Log the warnings of `ignored_starts`."""
    for line in ignored_starts(settings, sources, ledger):
        log.warning("%s", line, extra={"action": "settings"})


@contextlib.contextmanager
def state_file(
    settings: Settings, clock: SystemClock, *, must_exist: bool = False, only_reads: bool = False
) -> Iterator[Ledger]:
    """Open the state file for a command; `only_reads` works on a read-only mount too. Raises StateError.

    If the command fails unexpectedly and the file is damaged, the damage is reported and not the failure.
    """
    ledger = open_ledger(settings.state_path, clock, must_exist=must_exist, only_reads=only_reads)
    try:
        yield ledger
    except SyncError:
        raise
    except Exception:
        ledger.check_damage()
        raise
    finally:
        ledger.close()


@contextlib.contextmanager
def hold_lease(ledger: Ledger, role: str, *, sends: bool = True) -> Iterator[leases.Lease]:
    """Hold the lease of a role. Raises LeaseHeld, and StateError if the command `sends` and the file is a copy.

    Another `send` is waited for: it is done in seconds.
    """
    lease = _take_waiting(ledger, role) if role == leases.SEND else leases.take(ledger, role)
    try:
        if sends:
            copies.check_latest(ledger)
            copies.adopt(ledger)
        yield lease
    finally:
        leases.release(ledger, lease)


def _take_waiting(ledger: Ledger, role: str) -> leases.Lease:
    for _ in range(_LEASE_POLLS):
        with contextlib.suppress(LeaseHeld):
            return leases.take(ledger, role)
        time.sleep(_LEASE_PAUSE)
    return leases.take(ledger, role)


async def run_with_heartbeats(ledger: Ledger, lease: leases.Lease, work: Awaitable[_T]) -> _T:
    """Do work while writing heartbeats for its lease."""

    async def heartbeats() -> None:
        while True:
            await asyncio.sleep(leases.HEARTBEAT)
            with contextlib.suppress(StateError):  # the work itself reports a full disk
                leases.heartbeat(ledger, lease)

    task = asyncio.create_task(heartbeats())
    try:
        return await work
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def run_async(
    work: Callable[[], Awaitable[int]],
    clock: SystemClock,
    *,
    graceful: int | None = None,
    at_once: Callable[[], None] | None = None,
) -> int:
    """Run a command's work with signal handlers: the first signal stops gracefully, the second at once.

    `graceful` is the exit code after the first signal; None means that of the signal (130, 143). `at_once` is called
    before the end by a second one.
    """
    received: list[int] = []

    def on_signal(number: int) -> None:
        code = ExitCode.SIGINT if number == signal.SIGINT else ExitCode.SIGTERM
        if received:
            if at_once is not None:
                at_once()
            os._exit(code)
        received.append(code)
        say("sync-worker: finishing requests in flight; send the signal again to stop at once")
        clock.stop()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
        return await work()

    try:
        with restore_handlers():
            code = event_loop.run(main())
    except Stopped:
        code = ExitCode.OK
    if received and code in {ExitCode.OK, ExitCode.DEAD_LETTERS}:
        return received[0] if graceful is None else graceful
    return code
