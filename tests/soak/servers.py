"""Both sides with their faults; Kelet writes down each span, and whether the sender can know that it was taken."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.receiver import OtlpReceiver, PartialSuccess, ReceivedSpan, TraceRequest
from sync_worker.demo.serving import Reply, Request
from tests.soak.plan import KELET, LANGFUSE, Weather
from tests.support import faults

_KEPT_REQUESTS = 200
_PAGE = Reply(200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><html><title>Sign in</title></html>")
_PLAIN = frozenset({"500", "502", "503", "504"})
_TAKING = frozenset({"502 after it was taken", "dropped after", "hanging after", "partial success", "sender killed"})
_LOSING = _TAKING - {"partial success", "sender killed"}


class Keys:
    """The secrets of both sides: replaced at once on the server, and some time later in the files."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._names = tuple(names)
        self.numbers: Counter[str] = Counter()
        folder.mkdir()
        for name in self._names:
            self.hand_out(name)

    def secret(self, name: str) -> str:
        """Return the secret that is taken now."""
        lead = "sk-lf" if name.startswith(LANGFUSE) else "sk-kelet"
        return f"{lead}-{name}-number-{self.numbers[name]}"

    def file(self, name: str) -> Path:
        """Return the file from which the worker takes a secret."""
        return self._folder / name

    def hand_out(self, name: str) -> None:
        """Let the file hold what the server takes."""
        written = self._folder / f"{name}.new"
        written.write_text(self.secret(name))
        written.replace(self.file(name))

    def names(self, side: str) -> list[str]:
        """Return the names of a side's secrets."""
        return [name for name in self._names if name.startswith(side)]


class LangfuseFaults:
    """Scripts of Langfuse's servers, of either generation."""

    def __init__(self, weather: Weather, begin: float) -> None:
        self._weather = weather
        self._begin = begin
        self.requests = 0

    def break_in(self, server: RecordedLangfuse, *, reports_limits: bool) -> None:
        """Let a server have the weather's faults."""
        server.script = lambda request: self._script(server, request, reports_limits=reports_limits)

    def _script(self, server: RecordedLangfuse, request: Request, *, reports_limits: bool) -> Reply | None:
        self.requests += 1
        if len(server.requests) > _KEPT_REQUESTS:
            del server.requests[: _KEPT_REQUESTS // 2]
        weather = self._weather
        match weather.fault(LANGFUSE, time.time() - self._begin):
            case "429 with Retry-After":
                return faults.rate_limited_plainly(weather.choice([0, 1, 2, 5, 10]))
            case "429 without":
                return faults.rate_limited_plainly()
            case "429 with a limit" if reports_limits:
                return faults.rate_limited(weather.choice([1, 3, 8]), limit=900)
            case "429 with a limit":
                return faults.rate_limited_plainly(3)
            case "500" | "502" | "503" | "504" as code:
                return faults.status(int(code))
            case "dropped before":
                return faults.drop()
            case "hanging":
                return replace(faults.drop(), delay=weather.uniform(15, 75))
            case "slow":
                return faults.slow(weather.uniform(0.5, 6))
            case "page in front":
                return _PAGE
            case "truncated JSON":
                usual = server.answer(request, None)
                return Reply(usual.status, usual.headers, usual.body[: len(usual.body) // 2])
        return None


@dataclass(slots=True, eq=False)
class Batch:
    """A request that was taken in: by whom, when, and when its answer was given, if one was."""

    sender: str
    taken: float  # Unix seconds
    fault: str  # what became of its answer, '' if it was given
    answered: float = 0.0
    spans: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A span as it was taken in."""

    name: str
    output: str
    incomplete: bool
    trace_id: str
    span_id: str
    start_ms: int
    batch: Batch
    session: str = ""


@dataclass(frozen=True, slots=True)
class SignalArrival:
    """A signal as it was taken in."""

    score_id: str
    revision: str
    words: str
    session: str
    trace_id: str  # '' where it has none
    batch: Batch


@dataclass(slots=True)
class Book:
    """All that was taken in."""

    arrivals: list[Arrival] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)  # names of spans that a partial success left out
    signals: list[SignalArrival] = field(default_factory=list)


class Kelet(OtlpReceiver):
    """The receiver. The key tells who sends; `poison` are names of rows that it refuses while they are in it."""

    def __init__(self, weather: Weather, keys: Keys, poison: set[str], begin: float) -> None:
        super().__init__()
        self.book = Book()
        self.poison = poison
        self.on_kill: Callable[[str], None] = lambda _: None  # told whose request was taken in and is to be its last
        self._weather = weather
        self._keys = keys
        self._begin = begin
        self._booking = threading.Lock()
        self._current = threading.local()
        self.script = self._script

    def respond(self, plain: Request) -> Reply | None:
        """Answer, and note when that was."""
        self._current.batch, self._current.fault = None, ""
        try:
            return super().respond(plain)
        finally:
            batch: Batch | None = self._current.batch
            if batch is not None:
                batch.answered = time.time()

    def answer(self, request: TraceRequest, scripted: Reply | None) -> Reply:
        """Take the spans in, or say why not."""
        key = request.headers.get("authorization", "")
        sender = next((name for name in self._keys.names(KELET) if self._keys.secret(name) == key), "")
        if request.method == "POST" and not sender:
            return faults.status(401)
        if any(span.name.rpartition(".")[0] in self.poison for span in request.spans):
            return faults.status(400, message="a span in the request is not acceptable")
        reply = super().answer(request, scripted)
        if reply.status == 200:
            self._write_down(request, scripted, sender)
        return reply

    def _write_down(self, request: TraceRequest, scripted: Reply | None, sender: str) -> None:
        spans = request.spans
        with self._booking:
            if isinstance(scripted, PartialSuccess):
                taken = max(len(spans) - scripted.rejected, 0)
                self.book.rejected.update(span.name for span in spans[taken:])
                spans = spans[:taken]
            lost = self._current.fault if self._current.fault in _LOSING else ""
            batch = Batch(sender.removeprefix(f"{KELET}-"), time.time(), lost, spans=len(spans))
            self._current.batch = batch
            self.book.batches.append(batch)
            self.book.arrivals += [_arrival(span, batch) for span in spans]
            self.book.signals += [_signal(one.content, batch) for one in self.signals]  # at most this request's
            self.spans.clear()
            self.signals.clear()

    def _script(self, request: TraceRequest) -> Reply | None:
        if len(self.requests) > _KEPT_REQUESTS:
            del self.requests[: _KEPT_REQUESTS // 2]
        weather = self._weather
        harmless = frozenset() if request.spans or request.path.endswith("/signal") else _TAKING
        self._current.fault = fault = weather.fault(KELET, time.time() - self._begin, harmless=harmless)
        if fault in _PLAIN:
            return faults.status(int(fault))
        match fault:
            case "429 with Retry-After":
                return faults.rate_limited_plainly(weather.choice([0, 1, 5, 10]))
            case "429 without":
                return faults.rate_limited_plainly()
            case "503 with Retry-After":
                return faults.status(503, retry_after=weather.choice([1, 5]))
            case "502 after it was taken":
                return replace(faults.status(502), accept=True)
            case "dropped before":
                return faults.drop()
            case "dropped after":
                return faults.accept_then_drop()
            case "hanging before":
                return replace(faults.drop(), delay=weather.uniform(15, 75))
            case "hanging after":
                self.answer(request, None)  # before the wait
                return replace(faults.drop(), delay=weather.uniform(15, 75))
            case "slow":
                return replace(self.answer(request, None), delay=weather.uniform(0.5, 9))
            case "sender killed":
                return self._last_answer(request)
        return self._odd(fault, request)

    def _last_answer(self, request: TraceRequest) -> Reply:
        """Take a request in, and have its sender killed before the answer or at about the time of its note of it."""
        usual = self.answer(request, None)
        batch: Batch | None = self._current.batch
        if batch is not None:
            delay = self._weather.choice([0, 0, 2, 5, 10, 20, 50]) / 1000
            if delay:
                threading.Timer(delay, self.on_kill, [batch.sender]).start()
            else:
                self.on_kill(batch.sender)
        return usual

    def _odd(self, fault: str, request: TraceRequest) -> Reply | None:
        """Return an answer that says something of the request, or comes from somebody else."""
        match fault:
            case "page in front":
                return _PAGE
            case "partial success":
                return faults.partial_success(self._weather.choice([1, 1, 1, 2, 5]))
            case "unknown project":
                return faults.no_such_project(request.project)
            case "413" if request.decoded_size > 8_000:
                return faults.status(413)
        return None


def _arrival(span: ReceivedSpan, batch: Batch) -> Arrival:
    return Arrival(
        name=span.name,
        output=str(span.attributes.get("langfuse.observation.output", "")),
        incomplete="kelet.source.langfuse.incomplete" in span.attributes,
        trace_id=span.trace_id,
        span_id=span.span_id,
        start_ms=span.start_ns // 1_000_000,
        batch=batch,
        session=str(span.attributes.get("session.id") or span.attributes.get("gen_ai.conversation.id", "")),
    )


def _signal(content: Mapping[str, Any], batch: Batch) -> SignalArrival:
    return SignalArrival(
        score_id=content["metadata"]["langfuse_score_id"],
        revision=content["metadata"]["revision"],
        words=str(content.get("value")),
        session=str(content.get("session_id", "")),
        trace_id=str(content.get("trace_id", "")),
        batch=batch,
    )
