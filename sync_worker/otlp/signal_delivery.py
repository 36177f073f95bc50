"""Delivers signals one by one, at most five a second, and commits the result of each answer.

    2xx                      accepted, where it is an acknowledgement
    408, 429, 5xx, no answer retried, after Retry-After or a backoff; one at which Kelet fails while it takes others is
                             left for a later cycle, and dead-lettered after several
    400, 413, 422            dead-lettered; eight in a row with nothing accepted in between pause the source, unmarked
    404                      its project's signals stay, those of other projects continue
    401, 403, 3xx, …         the source pauses

A signal has no id by which Kelet could recognise a repetition, so one is in flight at a time: a kill repeats that one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from sync_worker.backoff import Backoff
from sync_worker.clock import Clock
from sync_worker.errors import SourcePaused, TransientError
from sync_worker.otlp.posting import STOP_GRACE, until_stopped
from sync_worker.otlp.target_client import ProjectUnknown, Rejected, RequestFailed, TargetClient
from sync_worker.signals.signal_model import EncodedSignal
from sync_worker.wording import counted

MAX_REJECTED_IN_A_ROW = 8
MAX_FAILING_IN_A_ROW = 8
#: Seconds from one signal to the next: Kelet's limits are not known.
INTERVAL = 0.2
#: Failures of a signal in a run before it is left for a later one, and runs after which it is to blame.
_TRIES = 2
MAX_FAILED_RUNS = 5


@dataclass(frozen=True, slots=True)
class RejectedSignal:
    """A signal that Kelet rejected, or failed at; `status` is None where it never answered to it."""

    signal: EncodedSignal
    status: int | None
    reason: str


class SignalSink(Protocol):
    """Stores results; each must be durable when the method returns."""

    def check(self) -> None:
        """Raise where the next result could not be stored: nothing is sent then."""

    def accept(self, signal: EncodedSignal, rejected: Collection[RejectedSignal]) -> None:
        """Store that a signal was accepted, and that these are dead letters."""

    def reject(self, rejected: Collection[RejectedSignal]) -> None:
        """Store dead letters."""

    def postpone(self, signal: EncodedSignal) -> int:
        """Store that Kelet failed at a signal in this run; return in how many it did."""


@dataclass(slots=True)
class SignalDelivery:
    """Sends the signals of one source. `rejected_in_a_row` goes on from the last run; `closed` are closed lanes."""

    client: TargetClient
    sink: SignalSink
    backoff: Backoff
    clock: Clock
    rejected_in_a_row: int = 0
    closed: dict[str, ProjectUnknown] = field(default_factory=dict)
    accepted: int = 0
    failing: int = 0  # signals left for a later run
    _pending: list[RejectedSignal] = field(default_factory=list)
    _suspects: list[RejectedSignal] = field(default_factory=list)  # failed in several runs
    #: Whether this run has the result of a signal, by score and content: a run may meet one again.
    _done: dict[tuple[str, bytes], bool] = field(default_factory=dict)
    _failing_in_a_row: int = 0
    _next: float = 0.0  # monotonic seconds

    async def send(self, signal: EncodedSignal) -> bool:
        """Send a signal; return whether that has a result: accepted or rejected.

        Raises SourcePaused, CredentialsRejected, TransientError, RetryDeadlineExceeded or Stopped.
        """
        if signal.project in self.closed:
            return False
        key = signal.score_id, signal.content
        if key not in self._done:
            has_result = await self._send(signal)
            if signal.project in self.closed:
                return has_result
            self._done[key] = has_result
        return self._done[key]

    async def _send(self, signal: EncodedSignal) -> bool:
        tries = 0
        while True:
            await self._wait_for_turn()
            try:
                await self._post(signal)
            except Rejected as refusal:
                self.backoff.success()
                self._reject(signal, refusal)
                return True
            except ProjectUnknown as unknown:
                self.backoff.success()
                self.closed[signal.project] = unknown
                return False
            except RequestFailed as error:
                tries += 1
                await self.backoff.wait(error)
                if tries >= _TRIES:
                    return self._postpone(signal, error)
            except TransientError as error:
                await self.backoff.wait(error)
            else:
                self._accept(signal)
                return True

    def finish(self) -> None:
        """Dead-letter what was rejected, where it was too little to doubt, and what fails while others are accepted.

        Raises as the sink.
        """
        pending, self._pending = self._pending, []
        self.rejected_in_a_row += len(pending)
        if self.accepted:
            self.failing -= len(self._suspects)
            pending += self._suspects
        self._suspects = []
        if pending:
            self.sink.reject(pending)

    def check(self) -> None:
        """Raise SourcePaused for closed lanes, TransientError for signals that are left."""
        if self.closed:
            raise SourcePaused(" · ".join(str(error) for error in self.closed.values()))
        if self.failing:
            raise TransientError(
                f"{self.client.target.title} fails at {counted(self.failing, 'signal')} and accepts others. They are "
                f"retried, and dead-lettered after {MAX_FAILED_RUNS} runs. Try: run again"
            )

    async def _wait_for_turn(self) -> None:
        while (wait := self._next - self.clock.monotonic()) > 0:
            await self.clock.sleep(wait)
        await self.backoff.ready()
        self._next = self.clock.monotonic() + INTERVAL

    async def _post(self, signal: EncodedSignal) -> None:
        self.clock.check()
        self.sink.check()
        posting = self.client.post_score(signal.body, signal.project)
        await until_stopped(posting, self.clock, STOP_GRACE, self.client.target.title)

    def _accept(self, signal: EncodedSignal) -> None:
        self.backoff.success()
        pending = [one for one in self._pending if one.signal.score_id != signal.score_id]  # an older state of it
        self._pending = []
        self.rejected_in_a_row = self._failing_in_a_row = 0
        self.accepted += 1
        self.sink.accept(signal, pending)

    def _reject(self, signal: EncodedSignal, refusal: Rejected) -> None:
        self._pending.append(RejectedSignal(signal, refusal.status, str(refusal)))
        if self.rejected_in_a_row + len(self._pending) >= MAX_REJECTED_IN_A_ROW:
            self._pending.clear()
            preset = self.client.target.preset
            raise SourcePaused(
                f"{self.client.target.title} rejected {MAX_REJECTED_IN_A_ROW} signals one by one and accepted none in "
                f"between, so the signals are not the cause: {refusal}. Try: check {preset.url_setting} and "
                f"{preset.project_setting}. Nothing was marked as sent"
            )

    def _postpone(self, signal: EncodedSignal, error: RequestFailed) -> bool:
        """Leave a signal for a later run; one that has failed in several is to blame if others are accepted."""
        self._failing_in_a_row += 1
        if self._failing_in_a_row >= MAX_FAILING_IN_A_ROW:
            raise error
        self.failing += 1
        if self.sink.postpone(signal) >= MAX_FAILED_RUNS:
            reason = f"{self.client.target.title} fails at it again and again, and accepts others: {error}"
            self._suspects.append(RejectedSignal(signal, error.status, reason))
        return False
