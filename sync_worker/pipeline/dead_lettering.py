"""Dead-letters observations that cannot be read or converted, each alone: the others continue."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync_worker.errors import DeadLettersFull
from sync_worker.langfuse.reader import Unreadable
from sync_worker.ledger import DeadLetter
from sync_worker.pipeline.session import Session
from sync_worker.records import Observation
from sync_worker.redaction.protection import RedactionFailed
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint
from sync_worker.spans.ids import source_trace_id

#: An unreadable observation is retried automatically after this time, in milliseconds.
FIRST_RETRY_MS = 600_000

#: The kind of a dead letter of what cannot be redacted.
UNREDACTED = "redaction"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class DeadLettering:
    """Creates and stores the dead letters of one source."""

    session: Session

    def of_unreadable(self, item: Unreadable) -> DeadLetter:
        """Return the dead letter of what could not be read."""
        now = self.session.ledger.clock.now_ms()
        return DeadLetter(
            source_id=self.session.source_id,
            kind="unreadable",
            reason=self.session.protection.report(item.reason),
            made_ms=now,
            trace_id=item.trace_id
            if item.observation_id is None
            else source_trace_id(item.trace_id, item.observation_id),
            observation_id=item.observation_id,
            raw=None if item.raw is None else self.session.protection.raw(item.raw),
            start_ms=item.start_ms,
            until_ms=item.until_ms,
            next_try_ms=None if item.observation_id is None and item.start_ms is None else now + FIRST_RETRY_MS,
        )

    def add_unreadable(self, items: Iterable[Unreadable]) -> None:
        """Dead-letter what cannot be read and has no dead letter yet, where no walk of an interval reads it."""
        session = self.session
        letters = [self.of_unreadable(item) for item in items if item.observation_id is not None]
        if not letters:
            return
        done = session.ledger.completed_observations(
            session.source_id, {letter.trace_id for letter in letters if letter.trace_id}
        )
        self._keep([letter for letter in letters if (letter.trace_id, letter.observation_id) not in done])

    def add_without_id(self, items: Iterable[Unreadable]) -> None:
        """Dead-letter what was not served of a walked interval, ids unknown, unless it has a dead letter.

        An observation and its dead letter can only be matched by interval: both contain its start.
        """
        session = self.session
        items = [item for item in items if item.observation_id is None and item.start_ms is not None]
        if not items:
            return
        known = sorted(session.ledger.unserved_intervals(session.source_id), key=lambda interval: interval.length)
        new: list[DeadLetter] = []
        for item in items:
            start = item.start_ms or 0
            end = start + 1 if item.until_ms is None else item.until_ms
            own = next((interval for interval in known if interval.start < end and start < interval.end), None)
            if own is None:
                new.append(self.of_unreadable(item))
            else:
                known.remove(own)
        self._keep(new)

    def add_broken(self, observation: Observation, why: str, error: Exception) -> None:
        """Dead-letter an observation that a stage fails on."""
        self.log_error("dead-letter", trace_of(observation), error)
        session = self.session
        now = session.ledger.clock.now_ms()
        letter = DeadLetter(
            source_id=session.source_id,
            kind="unreadable",
            reason=session.protection.report(f"{why}: {type(error).__name__}: {error}"),
            made_ms=now,
            trace_id=trace_of(observation),
            observation_id=observation.id,
            start_ms=observation.start_ms,
            fingerprint=self._fingerprint_of(observation),
            next_try_ms=now + FIRST_RETRY_MS,
        )
        new = session.ledger.count_new([letter])
        session.ledger.commit_result(session.source_id, (), [letter])
        session.report.dead_letters += new

    def add_unredacted(self, observation: Observation, error: RedactionFailed) -> None:
        """Dead-letter an observation that cannot be redacted, without anything of its content.

        It is not retried automatically: it is as large, or as broken, until the rules or the observation change.
        """
        session = self.session
        letter = DeadLetter(
            source_id=session.source_id,
            kind=UNREDACTED,
            reason=f"it cannot be redacted: {error}",
            made_ms=session.ledger.clock.now_ms(),
            trace_id=trace_of(observation),
            observation_id=observation.id,
            start_ms=observation.start_ms,
            fingerprint=self._fingerprint_of(observation),
        )
        self._keep([letter])

    def log_error(self, action: str, trace_id: str, error: Exception) -> None:
        """Log an error that concerns one trace, redacted."""
        report = self.session.protection.report
        log.warning(
            "trace %s: %s", report(trace_id), report(f"{type(error).__name__}: {error}"), extra={"action": action}
        )

    def _fingerprint_of(self, observation: Observation) -> bytes:
        """Return an observation's fingerprint; an empty one, which counts as never read, if it cannot be computed."""
        try:
            return fingerprint(observation)
        except Exception as error:  # noqa: BLE001 - it is dead-lettered already
            self.log_error("dead-letter", trace_of(observation), error)
            return b""

    def _keep(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        try:
            self.session.ledger.commit_result(self.session.source_id, (), letters)
        except DeadLettersFull as full:
            self.session.report.dead_letters += full.stored
            raise
        self.session.report.dead_letters += len(letters)
