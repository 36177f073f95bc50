"""Which generation of the API a source is read by: stored, and detected again when due.

By default v2 is read: every read is a probe, and a server without it responds so. A source that needs v1 is checked
again once a day, and whenever its endpoints are gone: customers upgrade while the worker runs.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Literal

from sync_worker.choices import Api
from sync_worker.clock import Clock
from sync_worker.langfuse.generation import Answers, ask
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.langfuse.reader import Reader
from sync_worker.langfuse.v1 import V1Reader
from sync_worker.langfuse.v2 import V2Reader
from sync_worker.ledger.state_keys import GENERATION, State
from sync_worker.times import iso_time

#: What was detected is checked again after this time, in milliseconds.
_MAX_AGE_MS = 24 * 3_600_000
#: The same for a v1 server that did not report its version, which decides what it supports.
_MAX_AGE_UNVERSIONED_MS = 3_600_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    """The generation that a source is read by, and why. Times in Unix milliseconds."""

    api: Api
    why: str
    version: str | None = None
    checked_ms: int | None = None
    v2_since_ms: int | None = None  # when v2 was first found besides v1

    def reader(self, client: LangfuseClient, limits: dict[str, int] | None) -> Reader:
        """Return a reader of this generation."""
        return V1Reader(client, limits, self.version) if self.api == "v1" else V2Reader(client, limits)


@dataclass(frozen=True, slots=True)
class Generations:
    """Detects the generation of one source. `lookback_ms` is how long lookback scans list observations."""

    state: State  # of the source
    wanted: Literal["auto", "v2", "v1"]
    lookback_ms: int
    clock: Clock

    async def known(self, client: LangfuseClient) -> Generation:
        """Return the generation to read; the server is only asked when that is due. Raises as `ask`."""
        stored = self._stored()
        if self.wanted == "v2" or (self.wanted == "auto" and (stored is None or stored.api == "v2")):
            return Generation("v2", f"SYNC_LANGFUSE_API={self.wanted}")
        if stored is None or self._is_old(stored) or self.wanted not in {"auto", stored.api}:
            return await self.find(client)
        return stored

    async def find(self, client: LangfuseClient) -> Generation:
        """Ask the server, store its generation, and return it. Raises as `ask`."""
        stored = self._stored()
        answers = await ask(client)
        found = self._decide(answers, stored)
        self.state.put(GENERATION, asdict(found))
        self.state.save()
        if stored is None or stored.api != found.api:
            log.info("reading Langfuse's %s API: %s", found.api, found.why, extra={"action": "api"})
        return found

    async def is_another(self, client: LangfuseClient, read: Api) -> bool:
        """Whether the server, asked again, is to be read by another generation than before. Raises as `ask`."""
        return self.wanted == "auto" and (await self.find(client)).api != read

    def _decide(self, answers: Answers, stored: Generation | None) -> Generation:
        now = self.clock.now_ms()
        is_sure = answers.api == "v2" or answers.version is not None
        found = Generation(
            answers.api, answers.why, answers.version, now if is_sure else now - _MAX_AGE_MS + _MAX_AGE_UNVERSIONED_MS
        )
        if self.wanted == "v1":
            return replace(found, api="v1", why="SYNC_LANGFUSE_API=v1")
        if stored is None or stored.api != "v1" or not (answers.v1 and answers.v2):
            return found
        # A server that was just upgraded may list older observations only under v1.
        since = stored.v2_since_ms or now
        until = since + self.lookback_ms
        if now >= until:
            return found
        why = (
            f"v2 observations are served since {iso_time(since)}; v1 is read until {iso_time(until)}, so that nothing "
            "that was written before the upgrade is missed"
        )
        return replace(found, api="v1", why=why, v2_since_ms=since)

    def _is_old(self, stored: Generation) -> bool:
        return stored.checked_ms is None or not 0 <= self.clock.now_ms() - stored.checked_ms < _MAX_AGE_MS

    def _stored(self) -> Generation | None:
        try:
            stored = self.state.get(GENERATION)
            return Generation(**stored) if stored else None
        except (TypeError, ValueError):  # written by another version of the program
            return None
