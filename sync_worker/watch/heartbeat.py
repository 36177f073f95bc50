"""Calls a URL after good cycles, so that a service somewhere else notices when they stop.

Never with data, never followed elsewhere, never waited for: a call runs beside the cycles, one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

import httpx

from sync_worker.connections import ProxyTransport

TIMEOUT = 5.0  # seconds, of a whole call

log = logging.getLogger(__name__)


class Heartbeat:
    """Calls `url` once every source has ended a cycle well since the last call, and `url/fail` after each bad cycle."""

    def __init__(self, url: str, sources: Iterable[str], transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._transport = transport
        self._waited_for = set(sources)
        self._bad: set[str] = set()
        self._all = frozenset(self._waited_for)
        self._task: asyncio.Task[None] | None = None
        self._next: bool | None = None  # what is to be called once the call under way is done

    def note(self, source: str, *, good: bool) -> None:
        """Note how a cycle ended, within the event loop."""
        if not good:
            self._bad.add(source)
            self._start(good=False)
            return
        self._bad.discard(source)
        self._waited_for.discard(source)
        if not self._bad and not self._waited_for:
            self._waited_for = set(self._all)
            self._start(good=True)

    async def close(self, *, wait: bool) -> None:
        """End: `wait` for what is under way, five seconds a call at most, or break it off."""
        if self._task is None:
            return
        if not wait:
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _start(self, *, good: bool) -> None:
        self._next = good
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._call_all())

    async def _call_all(self) -> None:
        while self._next is not None:
            good, self._next = self._next, None
            await self._call(self._url if good else fail_url(self._url))

    async def _call(self, url: str) -> None:
        """Call once. What goes wrong is one line that does not name the address: it is a secret."""
        try:
            async with asyncio.timeout(TIMEOUT), httpx.AsyncClient(
                transport=self._transport or ProxyTransport(), timeout=TIMEOUT, follow_redirects=False,
                headers={"User-Agent": "langfuse-kelet-sync"},
            ) as client, client.stream("GET", url) as response:  # fmt: skip
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError) as error:
            log.warning("the heartbeat got no answer (%s)", type(error).__name__, extra={"action": "heartbeat"})
        else:
            if not 200 <= status < 300:
                log.warning("the heartbeat was answered with %d", status, extra={"action": "heartbeat"})


def fail_url(url: str) -> str:
    """Return the address for a bad cycle: `/fail` behind the path, before a query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail"))
