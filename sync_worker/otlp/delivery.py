"""Delivers batches until each of their spans is accepted or dead-lettered, and commits the result of each response.

    2xx                      accepted, where it is an acknowledgement; what a partial success rejected is one note
    429, 503, Retry-After,   retried, after Retry-After or a backoff
     no connection
    other 5xx, time-outs     the same; a batch that failed twice is halved, a single span is left pending until proven
    400, 422                 the batch is halved down to the span to blame: it is dead-lettered
    413                      the batch is halved; a single span has its texts truncated, then is dead-lettered
    404                      no result for this project: its lane closes, other projects continue
    401, 403, 3xx, …         no result: the source pauses

Eight single spans rejected one after the other, with nothing accepted in between, may be no eight poison spans:
something may be wrong with all of them. So what is left of the batch is tried here and there, and what else is in
flight is awaited. When nothing was accepted since the batch was first rejected, the source pauses, and none of the
eight is marked; else they are what they seem.

While nothing passes, halved requests go one at a time spaced by the backoff: a search that is no flood. A span
that failed alone is left undelivered, and retried in a later cycle. Where others were taken before it
failed again and after, it is dead-lettered. Eight of these in a row with nothing accepted in between are an outage.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from sync_worker.backoff import Backoff
from sync_worker.clock import Clock
from sync_worker.errors import PausedByOperator, SourcePaused, TransientError
from sync_worker.otlp.posting import MAX_IN_FLIGHT, STOP_GRACE, FailedTwice, LimitLowered, Poster
from sync_worker.otlp.request_size import RequestSize
from sync_worker.otlp.suspects import Suspects
from sync_worker.otlp.target_client import Accepted, ProjectUnknown, Rejected, TargetClient
from sync_worker.spans.span_model import EncodedSpan, ObservationKey
from sync_worker.wording import counted

MAX_REJECTED_IN_A_ROW = 8  # single spans, with nothing accepted in between
MAX_FAILING_IN_A_ROW = 8  # single spans at which the target fails, with nothing accepted in between

#: Of what is left of a batch, so many single spans are tried before all of its refusals are doubted.
_PROBES = 24

#: To how many bytes the texts of a span are cut that is too large even alone, one after the other.
_TRUNCATED_BYTES = (65_536, 8_192, 1_024)


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RejectedSpan:
    """A span that the target rejected, or failed at; `status` is None where it never answered to it."""

    span: EncodedSpan
    status: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a response."""

    accepted: Sequence[EncodedSpan] = ()
    rejected: Sequence[RejectedSpan] = ()
    partial_rejections: int = 0  # spans among the accepted that a partial success rejected
    rejected_reason: str = ""


class Sink(Protocol):
    """Stores results; a result must be durable when `commit` returns."""

    def check(self) -> None:
        """Raise where the next result could not be stored: nothing is sent then."""

    def commit(self, result: Result) -> None:
        """Store the result of a response."""

    def remember(self, text: str) -> None:
        """Keep what the search for a size that passes has found so far, for the next run."""


@dataclass(slots=True)
class _Streak:
    """Single rejections since the last acceptance, not committed yet."""

    before: int = 0  # from earlier runs
    pending: list[RejectedSpan] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.before + len(self.pending)


@dataclass(slots=True)
class _Batch:
    """A batch under way: what of it is still to be sent, last part first."""

    parts: list[list[EncodedSpan]]
    ending: asyncio.Event  # set when the run ends with an error: waits end, and nothing is tried again
    accepted_before: int | None = None  # how many requests were accepted by anyone before this batch was first rejected
    failed_after: int | None = None  # how many were before it first failed


class Sending:
    """Batches on their way, made by `Delivery.sending`. `undelivered`: spans that could not be delivered now."""

    def __init__(
        self, clock: Clock, deliver: Callable[[_Batch, set[ObservationKey]], Coroutine[None, None, None]]
    ) -> None:
        self.undelivered: set[ObservationKey] = set()
        self._clock = clock
        self._deliver = deliver
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()

    async def submit(self, batch: Sequence[EncodedSpan]) -> None:
        """Send a batch, once it may go out. Raises what ended another one, and Stopped."""
        while len(self._tasks) >= MAX_IN_FLIGHT:
            await self._wait_for_one()
        self._clock.check()
        batch_under_way = _Batch([list(batch)], self._ending)
        self._tasks.add(asyncio.create_task(self._deliver(batch_under_way, self.undelivered)))

    async def drain(self) -> None:
        """Wait for all that were submitted."""
        while self._tasks:
            await self._wait_for_one()

    async def end(self) -> None:
        """Let what is in flight finish, and nothing be tried again; errors are passed over for the one there is."""
        self._ending.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def cancel(self) -> None:
        """Break off what is in flight."""
        for task in self._tasks:
            task.cancel()
        await self.end()

    async def _wait_for_one(self) -> None:
        done, self._tasks = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        errors = [task.exception() for task in done]  # each is taken, or asyncio complains of it
        for error in errors:
            if error is not None:
                raise error


class Delivery:
    """Sends the batches of one source; several at once, each until it has a result, is undelivered, or its lane closes.

    `projects` are those that the settings name: when the target knows none of them, the source pauses. `pauses`
    are the projects that an operator paused, with the errors, which `read_pauses` reads again. `stored` is the
    `delivery_state` of an earlier one. `grace`: seconds that a request in flight may take once a stop was requested.
    """

    def __init__(
        self,
        client: TargetClient,
        sink: Sink,
        backoff: Backoff,
        clock: Clock,
        *,
        rejected_before: int = 0,
        projects: Collection[str] = (),
        pauses: Mapping[str, SourcePaused] | None = None,
        read_pauses: Callable[[], Mapping[str, SourcePaused]] = dict,
        stored: str | None = None,
        grace: float = STOP_GRACE,
    ) -> None:
        self._title = client.target.title
        self._preset = client.target.preset
        self.backoff = backoff  # of all that goes to this Kelet
        self._sink = sink
        self._clock = clock
        self._streak = _Streak(rejected_before)
        self._projects = frozenset(projects)
        self._failing_in_a_row = 0
        self._failing: dict[ObservationKey, str] = {}  # spans that the target failed at alone, and how
        self._dead_lettered: set[ObservationKey] = set()  # spans that were held and then dead-lettered
        size, self._suspects = _load(stored)
        self._poster = Poster(client, backoff, clock, size, self._remember, sink.check, grace)
        self.paused: dict[str, ProjectUnknown] = {}  # lanes: projects that the target does not know
        self._read_pauses = read_pauses
        self.pauses: Mapping[str, SourcePaused] = pauses or {}  # lanes that an operator paused, as last read
        self.abandoned: set[str] = set()  # projects that no setting names and the target does not know
        self.accepted_projects: set[str] = set()  # projects of which something was accepted

    @property
    def rejected_in_a_row(self) -> int:
        """Single refusals since the last acceptance, to be remembered for the next run."""
        return self._streak.length

    @property
    def delivery_state(self) -> str:
        """State of the size search and of suspect spans, to store for the next run."""
        return json.dumps({"size": self._poster.size.stored, "suspects": self._suspects.stored})

    def is_closed(self, project: str) -> bool:
        """Whether nothing is sent to a project now: the target does not know it, or an operator paused it."""
        return project in self.paused or project in self.abandoned or project in self.pauses

    def abandon(self, project: str) -> None:
        """Give up the lane of a project: what belongs to it goes elsewhere."""
        self.paused.pop(project, None)
        self.abandoned.add(project)

    def check(self) -> None:
        """Raise for what is left undelivered: SourcePaused for lanes that pause, TransientError for spans that wait."""
        if self.pauses and not self.paused:
            raise PausedByOperator(" · ".join(str(error) for error in self.pauses.values()))
        if len(self.paused) == 1:
            raise next(iter(self.paused.values()))
        if self.paused:
            raise SourcePaused(" · ".join(str(error) for error in self.paused.values()))
        if self._failing:
            raise TransientError(
                f"{self._title} fails again and again at {counted(len(self._failing), 'span')} sent alone, and "
                f"accepts others ({next(iter(self._failing.values()))}). They are retried, and "
                "dead-lettered once others were accepted before and after. Try: run again"
            )

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Sending]:
        """Send batches, at most four at once; all that were submitted have a result or are undelivered when it ends.

        On an error, and when the run is asked to stop, what is in flight is finished first. Raises Stopped,
        SourcePaused, CredentialsRejected or TransientError, from `submit` or at the end.
        """
        sending = Sending(self._clock, self._deliver)
        try:
            yield sending
            await sending.drain()
        except asyncio.CancelledError:
            await sending.cancel()
            raise
        except BaseException:
            await sending.end()
            raise
        sending.undelivered -= self._dead_lettered

    def finish(self) -> None:
        """Dead-letter single spans that were rejected, where they were too few to doubt."""
        if self._streak.pending:
            pending, self._streak.pending = self._streak.pending, []
            self._streak.before += len(pending)
            self._sink.commit(Result(rejected=pending))

    async def _deliver(self, batch: _Batch, left: set[ObservationKey]) -> None:
        """Send a batch part by part; what cannot be delivered now is added to `left`."""
        while batch.parts:
            whole = batch.parts.pop()
            part = list(self._poster.size.first_fitting(whole))
            if len(part) < len(whole):
                batch.parts.append(whole[len(part) :])
            self.pauses = self._read_pauses()
            if self.is_closed(part[0].project):
                left.update(span.key for span in part)
                continue
            try:
                answer = await self._poster.post(part, batch.ending)
            except Rejected as refusal:
                if batch.accepted_before is None:
                    batch.accepted_before = self._poster.accepted
                await self._handle_rejection(part, refusal, batch)
            except ProjectUnknown as unknown:
                self._close_lane(unknown)
                batch.parts.append(part)
            except LimitLowered:
                batch.parts.append(part)
            except FailedTwice as overtaxed:
                self._handle_failure(part, overtaxed, batch, left)
            else:
                self._accepted(part, answer)

    def _close_lane(self, unknown: ProjectUnknown) -> None:
        """Pause the lane of a project. Raises its error where no lane is left."""
        if unknown.project not in self.paused:
            self.paused[unknown.project] = unknown
            if self.paused.keys() | self.pauses.keys() >= self._projects:
                raise unknown
            if unknown.project in self._projects:
                log.warning(
                    "%s does not know the project %r: its traces stay pending, other projects continue",
                    self._title, unknown.project, extra={"action": "lane"},
                )  # fmt: skip

    def _handle_failure(
        self, part: list[EncodedSpan], error: FailedTwice, batch: _Batch, left: set[ObservationKey]
    ) -> None:
        """Halve a part that failed twice; dead-letter a single span, leave it, or retry it in an outage."""
        if batch.failed_after is None:
            batch.failed_after = error.after
        if len(part) > 1:
            middle = len(part) // 2
            batch.parts[:0] = [part[middle:], part[:middle]]  # what is left goes first: it shows whether others pass
            return
        (span,) = part
        # Where no answer came, the network may have been the cause both times: the whole proof is needed then.
        passed_since = self._poster.accepted > batch.failed_after and error.status is not None
        guilty = self._suspects.record_failure(span, str(error), error.status, passed_since=passed_since)
        self._remember()
        if guilty:
            self._failing.pop(span.key, None)
            self._sink.commit(Result(rejected=[self._as_rejected(span, str(error), error.status)]))
        elif self._failing_in_a_row >= MAX_FAILING_IN_A_ROW:
            batch.parts.append(part)
        else:
            self._failing_in_a_row += 1
            self._failing[span.key] = str(error)
            left.add(span.key)

    def _remember(self) -> None:
        self._sink.remember(self.delivery_state)

    async def _handle_rejection(self, part: list[EncodedSpan], refusal: Rejected, batch: _Batch) -> None:
        if len(part) > 1:
            middle = len(part) // 2
            batch.parts += [part[middle:], part[:middle]]
            return
        last = await self._send_truncated(part[0], refusal, batch) if refusal.status == 413 else refusal
        if last is None:
            return
        self._streak.pending.append(RejectedSpan(part[0], last.status, str(last)))
        if self._streak.length >= MAX_REJECTED_IN_A_ROW:
            await self._doubt(last, batch)

    async def _doubt(self, refusal: Rejected, batch: _Batch) -> None:
        """Believe the rejections if anything was accepted since the batch was first rejected, else pause the source."""
        for part, left in _probes(batch.parts):
            if self._poster.accepted != batch.accepted_before:
                break
            try:
                answer = await self._poster.post(part, batch.ending)
            except (Rejected, ProjectUnknown, FailedTwice, LimitLowered):
                continue
            batch.parts[:] = left
            self._accepted(part, answer)
            break
        while self._poster.in_flight and self._poster.accepted == batch.accepted_before:
            await self._poster.next_response()
        if self._poster.accepted == batch.accepted_before:
            self._streak.pending.clear()
            raise SourcePaused(
                f"{self._title} rejected {MAX_REJECTED_IN_A_ROW} spans one by one and accepted none in between, so "
                f"the spans are not the cause: {refusal}. Try: check {self._preset.url_setting} and "
                f"{self._preset.project_setting}; or SYNC_COMPRESSION=none. Nothing was marked as sent"
            )
        believed, self._streak = self._streak.pending, _Streak()
        if believed:
            self._sink.commit(Result(rejected=believed))

    async def _send_truncated(self, span: EncodedSpan, refusal: Rejected, batch: _Batch) -> Rejected | None:
        """Send a span that is too large with its texts cut; return the last refusal when no cut was enough."""
        from sync_worker.spans.encode import shrink  # noqa: PLC0415 - with the libraries that read spans again

        for limit in _TRUNCATED_BYTES:
            shorter = shrink(span, limit)
            if len(shorter.span) >= len(span.span):
                continue
            try:
                answer = await self._poster.post([shorter], batch.ending)
            except Rejected as again:
                refusal = again
            except FailedTwice:
                continue
            else:
                self._accepted([shorter], answer)
                return None
        return refusal

    def _accepted(self, part: Sequence[EncodedSpan], answer: Accepted) -> None:
        rejected, self._streak = self._streak.pending, _Streak()
        self.accepted_projects.add(part[0].project)
        self._failing_in_a_row = 0
        for span in part:
            self._suspects.clear(span.key)
            self._failing.pop(span.key, None)
        guilty = [self._as_rejected(*found) for found in self._suspects.record_success()]
        for one in guilty:
            self._failing.pop(one.span.key, None)
            self._dead_lettered.add(one.span.key)
        self._sink.commit(Result(part, [*rejected, *guilty], answer.rejected, answer.message))

    def _as_rejected(self, span: EncodedSpan, reason: str, status: int | None) -> RejectedSpan:
        return RejectedSpan(
            span,
            status,
            f"{self._title} fails at it again and again, and accepted others before and after: {reason}",
        )


def _load(stored: str | None) -> tuple[RequestSize, Suspects]:
    """Return what an earlier delivery found; nothing where another version of the program wrote it."""
    try:
        known = json.loads(stored or "{}")
        return RequestSize(known.get("size")), Suspects(known.get("suspects"))
    except (AttributeError, TypeError, ValueError):
        return RequestSize(), Suspects()


def _probes(parts: list[list[EncodedSpan]]) -> Iterator[tuple[list[EncodedSpan], list[list[EncodedSpan]]]]:
    """Yield what of the parts to try, and what else is left: parts, large ones first, then spans from all over."""
    for number in sorted(range(len(parts)), key=lambda number: -len(parts[number])):
        yield parts[number], [*parts[:number], *parts[number + 1 :]]
    places = [(number, at) for number, part in enumerate(parts) if len(part) > 1 for at in range(len(part))]
    count = min(_PROBES, len(places))
    for probe in range(count):
        number, at = places[(2 * probe + 1) * len(places) // (2 * count)]
        part = parts[number]
        rest = [side for side in (part[at + 1 :], part[:at]) if side]
        yield [part[at]], [*parts[:number], *rest, *parts[number + 1 :]]
