"""What is watched while `run` works: its ticks, the HTTP port, the heartbeat URL and systemd."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from sync_worker.clock import Clock
from sync_worker.errors import StateError
from sync_worker.ledger.lease import Lease
from sync_worker.ledger.reading import open_to_read
from sync_worker.measurements import Measurements, Tick
from sync_worker.settings import Settings, Source
from sync_worker.sync.engine import GOOD, Engine
from sync_worker.times import span_ms
from sync_worker.waits import collect
from sync_worker.watch.systemd import Systemd

_TICK_SECONDS = 1.0
_STATUS_SECONDS = 20.0  # between two lines for systemd
_READING = 1.0  # seconds that the state file is read for such a line

log = logging.getLogger(__name__)


class Watch:
    """Watches one `run`. Made before the state file is opened, so that an address that cannot be used ends it at once.

    Raises ConfigError.
    """

    def __init__(self, settings: Settings, sources: Sequence[Source], clock: Clock) -> None:
        self.measurements = Measurements()
        self._tick = Tick(time.monotonic)
        self._settings = settings
        self._sources = sources
        self._clock = clock
        self._systemd = Systemd(os.environ)
        self._heartbeat = None
        self._pages, self._server = None, None
        if settings.heartbeat_url is not None:
            from sync_worker.watch.heartbeat import Heartbeat  # noqa: PLC0415 - only where one is set

            self._heartbeat = Heartbeat(settings.heartbeat_url.get_secret_value(), [one.name for one in sources])
        if settings.http_listen is not None:
            from sync_worker.watch.http_server import HttpServer  # noqa: PLC0415 - only where it is set
            from sync_worker.watch.pages import Pages  # noqa: PLC0415

            host, port = settings.http_listen
            self._pages = Pages(settings, sources, clock, self.measurements, self._tick, dict)
            self._server = HttpServer(host, port, self._pages.by_path())
            log.info("listening at %s", self._server.url, extra={"action": "start"})
            if not _is_loopback(host):
                log.warning(
                    "SYNC_HTTP_LISTEN=%s: anyone who can reach this address can read the status of the sync; "
                    "there is no authentication. Try: 127.0.0.1, or a firewall or network policy",
                    self._server.url.removeprefix("http://"), extra={"action": "settings"},
                )  # fmt: skip

    @asynccontextmanager
    async def working(self, engine: Engine, lease: Lease) -> AsyncIterator[None]:
        """Watch while the lease is held. At the end a call of the heartbeat URL that is under way is broken off."""
        if self._pages is not None:
            self._pages.offsets = lambda: _offsets(engine, self._sources)
            self._pages.lease = lease
        self._systemd.ready()
        tasks = [asyncio.create_task(self._note_ticks()), asyncio.create_task(self._await_stop())]
        if self._systemd.feed_seconds is not None:
            tasks.append(asyncio.create_task(self._feed(self._systemd.feed_seconds)))
        if self._systemd.is_there:
            tasks.append(asyncio.create_task(self._show()))
        try:
            with collect() as waits:
                if self._pages is not None:
                    self._pages.waits = waits
                yield
        finally:
            self._stop()
            for task in tasks:
                task.cancel()
            if self._heartbeat is not None:
                await self._heartbeat.close(wait=False)

    def note_cycle(self, source: str, code: int | None) -> None:
        """Note how a cycle ended: with an exit code, or None for an error of the program."""
        if self._heartbeat is not None:
            self._heartbeat.note(source, good=code in GOOD)

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()

    async def _await_stop(self) -> None:
        await self._clock.stopped()
        self._stop()

    def _stop(self) -> None:
        """Note that the worker ends; more than once is no harm."""
        self._systemd.stopping()
        if self._server is not None:
            self._server.stop()

    async def _note_ticks(self) -> None:
        while True:
            self._tick.note()
            await asyncio.sleep(_TICK_SECONDS)

    async def _feed(self, every: float) -> None:
        while True:
            self._systemd.feed()
            await asyncio.sleep(every)

    async def _show(self) -> None:
        while True:
            self._systemd.status(await asyncio.to_thread(self._status_line))
            await asyncio.sleep(_STATUS_SECONDS)

    def _status_line(self) -> str:
        """Return how far each source is behind, in one line."""
        from sync_worker.sync.keys import keys_of  # noqa: PLC0415 - only for systemd
        from sync_worker.watch.status import live_state, now_ms  # noqa: PLC0415

        parts = []
        try:
            with open_to_read(self._settings.state_path, self._clock, time.monotonic() + _READING) as ledger:
                now = now_ms(ledger, self._clock)
                for source in self._sources:
                    state = ledger.source_by_key(keys_of(source), source.target)
                    longest = max(span_ms(window) for window in self._settings.of(source).late_horizons)
                    live = None if state is None else live_state(ledger, state, now, longest)
                    if live is None or live.watermark_ms is None:
                        parts.append(f"{source.name}: not started")
                    else:
                        parts.append(f"{source.name}: lag {max(0, now - live.watermark_ms) // 1000} s")
        except StateError as error:
            return str(error)
        return "; ".join(parts)


def _offsets(engine: Engine, sources: Sequence[Source]) -> dict[str, float]:
    return {name: drift / 1000 for name, drift in engine.clocks.drifts_ms(sources).items()}


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
