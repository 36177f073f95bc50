"""A dry run: one live cycle as it would be now, on a copy of the state file and with a target that is not there.

All stages are those of the cycle. What the target would be sent is accepted here, and what would be stored is stored
in the copy, which is thrown away; the report is what the cycle left in it. Requests to Langfuse are limited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from sync_worker.clock import Clock
from sync_worker.connections import ProxyTransport
from sync_worker.ledger import Ledger
from sync_worker.ledger.totals import DEAD_LETTERED, FILTERED, REPLACED, SIGNALS, totals
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.report import SourceReport
from sync_worker.settings import Settings, Source
from sync_worker.spans.encode import attribute_texts
from sync_worker.spans.span_model import EncodedSpan
from sync_worker.sync.engine import Engine
from sync_worker.sync.opening import Transports
from sync_worker.sync.source_sync import SourceSync
from sync_worker.times import iso_time

#: Examples of each Kelet project, and reasons of dead letters.
_EXAMPLES = 3
SESSION, USER = "session.id", "user.id"
_SHOWN = (SESSION, USER)
#: After so many observations of an interval what was read is sent: so what is reported is all of what was read.
_FLUSH_AFTER = 2_000


class EnoughRequests(Exception):
    """The requests to Langfuse that a dry run may send are used up."""


@dataclass(frozen=True, slots=True)
class Example:
    """A trace that would be sent: its id in Langfuse, its start in Unix ms, and what the first of its spans carries."""

    trace_id: str
    start_ms: int
    texts: dict[str, str]  # `name`, and the attributes of `_SHOWN`


@dataclass(slots=True)
class Destination:
    """What one Kelet project would be sent; `is_new`: no trace is known to have been sent there."""

    project: str
    is_new: bool = False
    requests: int = 0
    spans: Counter[str] = field(default_factory=Counter)  # by trace
    examples: list[Example] = field(default_factory=list)  # of the newest traces

    def add(self, spans: Sequence[EncodedSpan]) -> None:
        """Count the spans of a request."""
        self.requests += 1
        for span in spans:
            if span.key.trace not in self.spans and self._is_newer(span.start_ms):
                texts = attribute_texts(span, *_SHOWN)
                self.examples.append(Example(span.key.trace, span.start_ms, texts))
                self.examples.sort(key=lambda one: -one.start_ms)
                del self.examples[_EXAMPLES:]
            self.spans[span.key.trace] += 1

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "project": self.project,
            "is_new_project": self.is_new,
            "spans": self.spans.total(),
            "traces": len(self.spans),
            "requests": self.requests,
            "examples": [
                {
                    "trace_id": one.trace_id,
                    "start": iso_time(one.start_ms),
                    "spans": self.spans[one.trace_id],
                    "name": one.texts["name"],
                    "session_id": one.texts.get(SESSION),
                    "user_id": one.texts.get(USER),
                }
                for one in self.examples
            ],
        }

    def _is_newer(self, start_ms: int) -> bool:
        return len(self.examples) < _EXAMPLES or start_ms > self.examples[-1].start_ms


@dataclass(slots=True)
class DryRun:
    """What one source would send in its next cycle. Of what is due, `read_to_ms` of `due_to_ms` was read (Unix ms).

    `is_complete` says that the cycle came to its end within the requests. Counts of `replaced` are by detector, of
    `filtered` traces by rule, of `dead_letters` spans by kind, of `signals` by Kelet project.
    """

    report: SourceReport
    destinations: list[Destination] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)
    filtered: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)  # of some dead letters
    signals: dict[str, int] = field(default_factory=dict)
    read_from_ms: int | None = None
    read_to_ms: int | None = None
    due_to_ms: int | None = None
    is_complete: bool = False
    known_projects: frozenset[str] = frozenset()  # that traces were sent to before

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        report = self.report
        return {
            "source": report.source,
            "target": report.target,
            "spans": sum(one.spans.total() for one in self.destinations),
            "traces": report.traces_sent,
            "requests": report.kelet_requests,
            "bytes": report.bytes_sent,
            "projects": [one.as_json() for one in self.destinations],
            "replaced": self.replaced,
            "filtered": self.filtered,
            "dead_letters": self.dead_letters,
            "reasons": self.reasons,
            "signals": self.signals,
            "traces_pending": report.traces_pending,
            "observations_read": report.observations_read,
            "langfuse_requests": report.langfuse_requests,
            "is_complete": self.is_complete,
            "read_from": _time(self.read_from_ms),
            "read_to": _time(self.read_to_ms),
            "due_to": _time(self.due_to_ms),
            "error": report.error,
        }


async def dry_run(
    settings: Settings,
    sources: Sequence[Source],
    scratch: Ledger,
    clock: Clock,
    most_requests: int,
) -> tuple[list[DryRun], list[int]]:
    """Run a cycle of each source on a scratch copy whose lease is held; return the results and their exit codes.

    At most `most_requests` requests a source go to Langfuse, and none to a target. Raises Stopped and Stop.
    """
    results, codes = [], []
    for source in sources:
        destinations: dict[str, Destination] = {}

        def accept(spans: Sequence[EncodedSpan], into: dict[str, Destination] = destinations) -> None:
            into.setdefault(spans[0].project, Destination(spans[0].project)).add(spans)

        transports = Transports(langfuse=_AtMost(most_requests), kelet=_Accepting(), accepted=accept)
        limits = Limits(interval_observations=_FLUSH_AFTER)
        engine = Engine(settings, scratch, clock, settings.patience.total_seconds(), transports, limits=limits)
        found, code = await _of(engine, source)
        for one in destinations.values():
            one.is_new = one.project not in found.known_projects
        found.destinations = sorted(destinations.values(), key=lambda one: (-one.spans.total(), one.project))
        results.append(found)
        codes.append(code)
    return results, codes


async def _of(engine: Engine, source: Source) -> tuple[DryRun, int]:
    ledger = engine.ledger
    found = DryRun(SourceReport(source.name, source.target))
    letter = ledger.last_dead_letter()
    before: dict[tuple[str, str], int] = {}
    opened: list[SourceSync] = []

    async def cycle(sync: SourceSync) -> None:
        opened[:] = [sync]
        before.update(totals(ledger, sync.state.id))
        found.known_projects = frozenset(ledger.projects(sync.state.id))
        found.due_to_ms = sync.clock.now_ms() - sync.session.readiness_limits.quiet_period
        try:
            await sync.live_cycle()
        except EnoughRequests:
            return
        found.is_complete = True

    engine.note_starts([source])
    ((found.report,), code) = await engine.each([source], lambda one: engine.work(one, cycle))
    for sync in opened:
        found.read_from_ms, found.read_to_ms = sync.state.sync_start_ms, found.report.complete_to_ms
        _count(found, ledger, sync.state.id, before)
        letters = ledger.dead_letters(sync.state.id, after=letter, limit=_EXAMPLES)
        found.reasons = [one.reason for one in letters]
    return found, code


def _count(found: DryRun, ledger: Ledger, source_id: int, before: dict[tuple[str, str], int]) -> None:
    """Take what the totals of a source have grown by."""
    counts = {REPLACED: found.replaced, FILTERED: found.filtered, DEAD_LETTERED: found.dead_letters,
              SIGNALS: found.signals}  # fmt: skip
    for (name, label), total in sorted(totals(ledger, source_id).items()):
        grown = total - before.get((name, label), 0)
        if name in counts and grown:
            counts[name][label] = grown


def _time(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else iso_time(moment_ms)


class _AtMost(httpx.AsyncBaseTransport):
    """Lets so many requests through."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._inner = ProxyTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises EnoughRequests, and as the transport below."""
        if not self._left:
            raise EnoughRequests
        self._left -= 1
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections; a source that is opened again gets new ones."""
        await self._inner.aclose()
        self._inner = ProxyTransport()


class _Accepting(httpx.AsyncBaseTransport):
    """Accepts every request, and sends none."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return an empty acknowledgement."""
        return httpx.Response(200, request=request)
