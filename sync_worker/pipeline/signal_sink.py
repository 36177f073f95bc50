"""Commits what became of each signal: one transaction a signal."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from sync_worker.ledger import DeadLetter
from sync_worker.otlp.signal_delivery import RejectedSignal
from sync_worker.pipeline.pause_check import Pauses
from sync_worker.pipeline.session import Session
from sync_worker.signals.signal_model import EncodedSignal

FAILING = "failing"
#: A signal that Kelet failed at is sent again after this time, doubled each time, in milliseconds.
_AGAIN_MS = 60_000


@dataclass(frozen=True, slots=True)
class LedgerSignalSink:
    """Writes accepted and rejected signals of one source into the ledger, and counts them."""

    session: Session
    pauses: Pauses

    def check(self) -> None:
        """Check that the next request may go out, and its result be committed.

        Raises StateError, LeaseHeld or PausedByOperator.
        """
        self.session.ledger.check()
        self.pauses.check()

    def accept(self, signal: EncodedSignal, rejected: Collection[RejectedSignal]) -> None:
        """Commit that a signal was accepted, then dead letters: it stays accepted where there is no room for these.

        Raises StateError, LeaseHeld or DeadLettersFull.
        """
        session = self.session
        before = session.ledger.scores(session.source_id, [signal.score_id]).get(signal.score_id)
        session.ledger.commit_score(session.source_id, signal.score_id, signal.content, signal.project)
        session.report.signals_sent += 1
        session.report.signals_changed += before is not None and before.sent_content is not None
        self.reject(rejected)

    def reject(self, rejected: Collection[RejectedSignal]) -> None:
        """Commit dead letters, as many as there is room for. Raises as `accept`."""
        session, now = self.session, self.session.ledger.clock.now_ms()
        for one in rejected:
            letter = DeadLetter(
                source_id=session.source_id,
                kind="score",
                reason=one.reason,
                made_ms=now,
                trace_id=one.signal.trace_id,
                status=one.status,
                project=one.signal.project,
                start_ms=one.signal.timestamp_ms,
                score_id=one.signal.score_id,
            )
            session.ledger.reject_score(one.signal.content, letter)
            session.report.dead_letters += 1

    def postpone(self, signal: EncodedSignal) -> int:
        """Commit that Kelet failed at a signal in this run; return in how many it did."""
        session = self.session
        now = session.clock.now_ms()
        runs = 0
        for note in session.ledger.scores(session.source_id, [signal.score_id]).values():
            runs = note.tries + 1 if note.reason == FAILING else 1
            later = replace(note, reason=FAILING, tries=runs, check_ms=now + (_AGAIN_MS << runs))
            session.ledger.store_scores(session.source_id, [later])
        return runs
