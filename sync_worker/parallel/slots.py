"""Places for requests that the leading process lends to its jobs, so that all of them press a server as one does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable

from sync_worker.clock import Stopped
from sync_worker.langfuse.concurrency import ServerSlots


class LentSlots:
    """The places of a process that its jobs use."""

    def __init__(self, slots: ServerSlots) -> None:
        self._slots = slots

    def of_job(self, grant: Callable[[str], None]) -> JobSlots:
        """Return those of one job; `grant` gives it one at a server."""
        return JobSlots(self._slots, grant)


class JobSlots:
    """The places that one job has, or waits for, by server."""

    def __init__(self, slots: ServerSlots, grant: Callable[[str], None]) -> None:
        self._slots = slots
        self._grant = grant
        self._held: Counter[str] = Counter()
        self._waiting: set[asyncio.Task[None]] = set()

    def want(self, server: str) -> None:
        """Get a place for the job, as soon as there is one."""
        task = asyncio.create_task(self._get(server))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    def free(self, server: str, seconds: float | None, *, failed: bool) -> None:
        """Free a place; `seconds` is None where it was not used."""
        self._held[server] -= 1
        self._slots.of(server).release(seconds, failed=failed)

    def end(self) -> None:
        """Free all places of a job that has ended."""
        for task in self._waiting:
            task.cancel()
        for server in self._held.elements():
            self._slots.of(server).release(None, failed=False)
        self._held.clear()

    async def _get(self, server: str) -> None:
        with contextlib.suppress(Stopped):  # the job is asked to stop too
            await self._slots.of(server).acquire()
            self._held[server] += 1
            self._grant(server)
