"""Commits the result of each response of a target: one transaction a response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sync_worker.clock import Clock
from sync_worker.errors import DeadLettersFull, StateError
from sync_worker.ledger import DeadLetter, Ledger, source_scope
from sync_worker.ledger.state_keys import DELIVERY
from sync_worker.otlp.delivery import Result
from sync_worker.pipeline.report import SourceReport
from sync_worker.spans.span_model import EncodedSpan
from sync_worker.wording import counted


@dataclass(slots=True)
class LedgerSink:
    """Writes accepted spans and dead letters of one source into the ledger, and counts them."""

    ledger: Ledger
    source_id: int
    report: SourceReport
    clock: Clock
    title: str
    guards: Sequence[Callable[[], None]] = ()  # each raises where nothing may be sent now
    redact: Callable[[str], str] = str
    #: Called with the spans of a request that was accepted.
    observe_accepted: Callable[[Sequence[EncodedSpan]], None] = lambda _: None
    _not_stored: StateError | None = None  # why the last result could not be stored

    def check(self) -> None:
        """Check that the next request may go out, and its result be committed.

        Once a result could not be stored, as on a full disk, nothing more of this run goes out: it would be sent again.
        Raises StateError, LeaseHeld, PausedByOperator or DailyLimitReached.
        """
        if self._not_stored is not None:
            raise self._not_stored
        self.ledger.check()
        for guard in self.guards:
            guard()

    def remember(self, text: str) -> None:
        """Store what is known of sizes, and of spans that the target fails on. Raises StateError or LeaseHeld."""
        state = self.ledger.state(source_scope(self.source_id))
        state.put(DELIVERY, text)
        state.save()

    def commit(self, result: Result) -> None:
        """Commit the result of a response; durable on return. Raises StateError, LeaseHeld or DeadLettersFull."""
        now = self.clock.now_ms()
        letters = [
            DeadLetter(
                source_id=self.source_id,
                kind="rejected",
                reason=self.redact(rejected.reason),
                made_ms=now,
                trace_id=rejected.span.key.trace,
                observation_id=rejected.span.key.observation,
                status=rejected.status,
                project=rejected.span.project,
                start_ms=rejected.span.start_ms,
                fingerprint=rejected.span.fingerprint,
            )
            for rejected in result.rejected
        ]
        if result.partial_rejections:
            letters.append(
                DeadLetter(
                    source_id=self.source_id,
                    kind="partial",
                    reason=f"{self.title} accepted a request and rejected {result.partial_rejections} of its "
                    f"{counted(len(result.accepted), 'span')} without saying which: "
                    f"{self.redact(result.rejected_reason) or 'no reason given'}",
                    made_ms=now,
                    project=result.accepted[0].project,
                    start_ms=min(span.start_ms for span in result.accepted),
                    spans=result.partial_rejections,
                )
            )
        if result.accepted:
            self.observe_accepted(result.accepted)
        try:
            self.ledger.commit_result(self.source_id, result.accepted, letters)
        except DeadLettersFull as full:
            self.report.spans_sent += len(result.accepted)
            self.report.dead_letters += full.stored
            raise
        except StateError as error:
            self._not_stored = error
            raise
        self.report.spans_sent += len(result.accepted)
        self.report.dead_letters += len(result.rejected) + result.partial_rejections
