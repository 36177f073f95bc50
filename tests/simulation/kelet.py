"""A Kelet that remembers every span it accepted, and whether the worker can know."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass, field
from email.utils import format_datetime

import httpx
import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.simulation.history import PEOPLE, History, label, moment
from tests.simulation.keys import Keys
from tests.simulation.moments import Moments
from tests.simulation.plan import Plan
from tests.simulation.signal_book import SignalBook
from tests.simulation.weather import Weather

URL = "http://127.0.0.1:2"

#: Answers that do not come from the receiver, though they look like success to some.
_NOT_ITSELF = (
    lambda: httpx.Response(200, text="<!DOCTYPE html><title>Sign in</title>", headers={"Content-Type": "text/html"}),
    lambda: httpx.Response(200, text=" \n<html>blocked</html>"),
    lambda: httpx.Response(302, headers={"Location": "https://login.example.com/"}),
    lambda: httpx.Response(200, json={"error": "no such route"}),
    lambda: httpx.Response(200, text="It works!", headers={"Content-Type": "text/plain"}),
)


@dataclass(slots=True, eq=False)
class Batch:
    """A request that was accepted. It is settled when the worker has noted it; lost when it cannot know of it."""

    moment: int
    role: str
    labels: frozenset[str]
    cycle: int  # when the cycle that sent it began
    settled: bool = False
    lost: bool = False


@dataclass(slots=True)
class Arrival:
    """A span as it was accepted; `label` tells its name and its output."""

    label: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ms: int
    end_ms: int
    session: str
    user: str
    incomplete: bool
    batch: Batch


@dataclass(slots=True)
class Book:
    """All that was accepted, and what is wrong with it at first sight."""

    arrivals: list[Arrival] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    last: dict[str, Arrival] = field(default_factory=dict)  # by label
    latest: dict[str, str] = field(default_factory=dict)  # by span id, the state that arrived last
    settled: set[str] = field(default_factory=set)  # labels that the worker has noted as accepted
    rejected: set[str] = field(default_factory=set)  # names that a partial success left out
    blocked: set[str] = field(default_factory=set)  # names of spans too large for the gateway even alone
    repeats: int = 0
    wrong: list[str] = field(default_factory=list)

    def settle(self, labels: frozenset[str]) -> None:
        """Take note that the worker's note of these is durable."""
        self.settled |= labels
        for batch in self.open:
            batch.settled = batch.labels <= self.settled

    def lose(self, role: str | None = None) -> int:
        """Take note that what is not settled cannot be any more; return how many requests that are."""
        lost = [batch for batch in self.open if role is None or batch.role == role]
        for batch in lost:
            batch.lost = True
        return len(lost)

    @property
    def open(self) -> list[Batch]:
        """Requests of which the worker may still note that they were accepted."""
        return [batch for batch in self.batches[-50:] if not batch.settled and not batch.lost]


class Kelet:
    """The server, seen by all processes."""

    def __init__(self, plan: Plan, history: History, weather: Weather, keys: Keys, moments: Moments) -> None:
        self._plan = plan
        self._history = history
        self._weather = weather
        self._keys = keys
        self._moments = moments
        self.book = Book()
        self.signals = SignalBook()
        self.cycles: dict[str, int] = {}  # when the present run of a role began

    def transport(self, role: str) -> httpx.AsyncBaseTransport:
        """Return the way of one process to the server."""
        return _Way(self, role)

    async def answer(self, request: httpx.Request, role: str) -> httpx.Response:
        """Answer a request, or do not."""
        self._weather.point("before a request to Kelet")
        await asyncio.sleep(self._weather.chance.uniform(0.01, 0.5))
        self._weather.alive()
        self._keys.write()
        response = self._answered(request, role)
        response.headers["Date"] = format_datetime(moment(self._moments.true_ms()), usegmt=True)
        self._weather.point("before an answer of Kelet")
        await asyncio.sleep(self._weather.chance.uniform(0.01, 0.5))
        self._weather.alive()
        return response

    def _answered(self, request: httpx.Request, role: str) -> httpx.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            self._moments.note(f"Kelet says {refusal.status_code}")
            return refusal
        content = request.content
        if request.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        if self._plan.has("redaction") and PEOPLE.encode() in content:
            self.book.wrong.append(f"an address of somebody was sent to {request.url.path}")
        if request.url.path.endswith("/signal"):
            return self._take_signal(request, role)
        limit = self._plan.body_limit
        if (limit is not None and len(content) > limit) or (len(content) > 4_000 and self._weather.hits("kelet 413")):
            self._moments.note(f"Kelet says 413 to {len(content)} bytes")
            return httpx.Response(413)
        spans = _spans(content)
        names = [span.name for span in spans]
        gateway = self._plan.gateway
        if gateway is not None and len(content) > gateway:
            self._moments.note(f"a gateway cannot pass on {len(content)} bytes")
            if len(names) == 1:
                self.book.blocked.update(names)
            if self._weather.chance.random() < 0.5:
                raise httpx.ReadTimeout("too slow")
            return httpx.Response(504, text="<html>gateway time-out</html>", headers={"Content-Type": "text/html"})
        if self._history.stuck.intersection(names):
            self._moments.note(f"Kelet says 500 to {names}")
            return httpx.Response(500, json={"message": "Internal Server Error"})
        if self._history.poison.intersection(names):
            self._moments.note(f"Kelet says 400 to {names}")
            return httpx.Response(400, text="bad span")
        return self._take(spans, role)

    def _refusal(self, request: httpx.Request) -> httpx.Response | None:
        hits, spell = self._weather.hits, self._weather.spell
        if spell("kelet unreachable") or hits("kelet dropped before"):
            self._moments.note("Kelet cannot be reached")
            raise httpx.ConnectError("refused")
        if spell("kelet 401"):
            return httpx.Response(401)
        if not self._keys.accepts("kelet", request.headers.get("Authorization", "")):
            return httpx.Response(401, json={"message": "unknown key"})
        if spell("kelet not itself"):
            return self._weather.chance.choice(_NOT_ITSELF)()
        if spell("kelet 404"):
            return httpx.Response(404)
        if spell("kelet 503") or hits("kelet 503"):
            return httpx.Response(503)
        if hits("kelet 429"):
            return httpx.Response(429, headers={"Retry-After": str(self._weather.chance.choice([0, 2, 30]))})
        if self._plan.gzip_status is not None and request.headers.get("Content-Encoding") == "gzip":
            return httpx.Response(self._plan.gzip_status)
        return None

    def _take_signal(self, request: httpx.Request, role: str) -> httpx.Response:
        signal = self.signals.take(orjson.loads(request.content), request.url.path, role, self._moments.true_ms())
        self._moments.note(f"Kelet takes a signal from {role}: {signal.words}")
        if self._weather.hits("kelet dropped after"):
            signal.lost = True
            self._moments.note("... and drops the line")
            raise httpx.RemoteProtocolError("dropped")
        if self._weather.hits("kelet timeout after"):
            signal.lost = True
            self._moments.note("... and does not answer")
            raise httpx.ReadTimeout("slow")
        return httpx.Response(200, json={})

    def _take(self, spans: list[Span], role: str) -> httpx.Response:
        answer = ExportTraceServiceResponse()
        labels = frozenset(label_of(span) for span in spans)
        if self._weather.hits("kelet partial"):
            count = self._weather.chance.randint(1, len(spans))
            for span in spans[:count]:
                self.book.rejected.add(span.name)
            spans = spans[count:]
            answer.partial_success.rejected_spans = count
            answer.partial_success.error_message = "some"
        batch = Batch(self._moments.true_ms(), role, labels, self.cycles.get(role, 0))
        self.book.batches.append(batch)
        for span in spans:
            self._enter(span, batch)
        self._moments.note(f"Kelet takes from {role}: {[span.name for span in spans]}")
        if self._weather.hits("kelet dropped after"):
            batch.lost = True
            self._moments.note("... and drops the line")
            raise httpx.RemoteProtocolError("dropped")
        if self._weather.hits("kelet timeout after"):
            batch.lost = True
            self._moments.note("... and does not answer")
            raise httpx.ReadTimeout("slow")
        if self._weather.hits("kelet odd body") and not answer.partial_success.rejected_spans:
            return httpx.Response(200, content=b"\xff\xff\xff", headers={"Content-Type": "application/x-protobuf"})
        return httpx.Response(
            200, content=answer.SerializeToString(), headers={"Content-Type": "application/x-protobuf"}
        )

    def _enter(self, span: Span, batch: Batch) -> None:
        label = label_of(span)
        texts = {pair.key: pair.value.string_value for pair in span.attributes}
        arrival = Arrival(
            label=label,
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            start_ms=span.start_time_unix_nano // 1_000_000,
            end_ms=span.end_time_unix_nano // 1_000_000,
            session=texts.get("session.id", ""),
            user=texts.get("user.id", ""),
            incomplete="kelet.source.langfuse.incomplete" in texts,
            batch=batch,
        )
        before = self.book.last.get(label)
        if before is not None:
            self.book.repeats += 1
        # Langfuse may list a state, another one, and the first again, while it has yet to merge them.
        is_back = self.book.latest.get(arrival.span_id, label) != label
        if label in self.book.settled and not is_back:
            self.book.wrong.append(f"{label} was sent again though it was noted as accepted")
        elif before is not None and not before.batch.lost and not is_back:
            self.book.wrong.append(f"{label} was sent again while it was on its way")
        self.book.last[label] = arrival
        self.book.latest[arrival.span_id] = label
        self.book.arrivals.append(arrival)


class _Way(httpx.AsyncBaseTransport):
    def __init__(self, server: Kelet, role: str) -> None:
        self._server = server
        self._role = role

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return await self._server.answer(request, self._role)


def label_of(span: Span) -> str:
    """Return what tells this state of a span from others."""
    output = (pair.value.string_value for pair in span.attributes if pair.key == "langfuse.observation.output")
    return label(span.name, next(output, ""))


def _spans(content: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(content)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
