"""Commits the result of each response of Kelet: one transaction a response."""

from __future__ import annotations

from sync_worker.clock import Clock
from sync_worker.errors import DeadLettersFull
from sync_worker.kelet.delivery import Settled
from sync_worker.ledger import DeadLetter, Ledger, source_scope
from sync_worker.ledger.state_keys import DELIVERY
from sync_worker.pipeline.report import SourceReport


class LedgerSink:
    """Writes accepted spans and dead letters of one source into the ledger, and counts them."""

    def __init__(self, ledger: Ledger, source_id: int, report: SourceReport, clock: Clock) -> None:
        self._ledger = ledger
        self._source_id = source_id
        self._report = report
        self._clock = clock

    def check(self) -> None:
        """Check that the next result can be committed. Raises StateError or LeaseHeld."""
        self._ledger.check()

    def remember(self, text: str) -> None:
        """Store what is known of sizes, and of spans that Kelet fails on. Raises StateError or LeaseHeld."""
        state = self._ledger.state(source_scope(self._source_id))
        state.put(DELIVERY, text)
        state.save()

    def settle(self, settled: Settled) -> None:
        """Commit the result of a response; durable on return. Raises StateError, LeaseHeld or DeadLettersFull."""
        now = self._clock.now_ms()
        letters = [
            DeadLetter(
                source_id=self._source_id,
                kind="rejected",
                reason=refused.reason,
                made_ms=now,
                trace_id=refused.span.key.trace,
                observation_id=refused.span.key.row,
                status=refused.status,
                project=refused.span.project,
                start_ms=refused.span.start_ms,
                fingerprint=refused.span.fingerprint,
            )
            for refused in settled.refused
        ]
        if settled.rejected:
            letters.append(
                DeadLetter(
                    source_id=self._source_id,
                    kind="partial",
                    reason=f"Kelet accepted a request and rejected {settled.rejected} of its "
                    f"{len(settled.accepted)} spans "
                    f"without saying which: {settled.rejected_reason or 'no reason given'}",
                    made_ms=now,
                    project=settled.accepted[0].project,
                    start_ms=min(span.start_ms for span in settled.accepted),
                    spans=settled.rejected,
                )
            )
        try:
            self._ledger.commit_answer(self._source_id, settled.accepted, letters)
        except DeadLettersFull:
            self._report.spans_sent += len(settled.accepted)
            raise
        self._report.spans_sent += len(settled.accepted)
        self._report.dead_letters += len(settled.refused) + settled.rejected
