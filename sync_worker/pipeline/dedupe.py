"""Dedupe: which observations were sent in the state in which they are listed, and which changed since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sync_worker.intervals import Interval
from sync_worker.ledger import SecondRead, SentObservation
from sync_worker.pipeline.dead_lettering import DeadLettering
from sync_worker.pipeline.session import Session
from sync_worker.records import Observation
from sync_worker.spans.context import trace_of
from sync_worker.spans.fingerprint import fingerprint, is_retold
from sync_worker.spans.span_model import ObservationKey

#: So soon after an update, in milliseconds, a listing may mix two versions: the observation is read a second time.
SECOND_READ_MS = 600_000


@dataclass(frozen=True, slots=True)
class _Refreshed:
    """An observation that was updated without a change: its update (Unix ms) and fingerprint now."""

    observation: Observation
    updated_ms: int
    fingerprint: bytes


@dataclass(slots=True)
class Dedupe:
    """Compares listed observations with those that were sent."""

    session: Session
    dead_letters: DeadLettering

    def fresh(
        self,
        taken: Mapping[str, Sequence[Observation]],
        sends: Interval,
        *,
        again: bool,
        undecided: Collection[str] = (),
        left_out: Collection[str] = (),
    ) -> dict[str, list[Observation]]:
        """Return, by trace, what to send: not done, in `sends`, not claimed by others. `again`: also what is done.

        Of traces that are left out (`left_out`) what is done was not sent; of those that are `undecided` nothing was.
        """
        session = self.session
        done = {} if again else session.ledger.completed_observations(session.source_id, taken)
        refreshed: list[_Refreshed] = []
        found: dict[str, list[Observation]] = {}
        for trace_id, observations in taken.items():
            fresh = [
                observation
                for observation in observations
                if sends.contains(observation.start_ms)
                and not (session.claimed and session.is_claimed(observation))
                and (
                    trace_id in undecided
                    or (sent := done.get((trace_id, observation.id))) is None
                    or not self._check_done(observation, sent, refreshed, is_left_out=trace_id in left_out)
                )
            ]
            if fresh:
                found[trace_id] = fresh
        if refreshed:
            self._refresh(refreshed, left_out)
        return found

    def _check_done(
        self,
        observation: Observation,
        sent: SentObservation,
        refreshed: list[_Refreshed],
        *,
        is_left_out: bool,
    ) -> bool:
        """Return whether an observation is done; dead-letter it if it cannot be compared."""
        try:
            return self._compare_with_sent(observation, sent, refreshed, is_left_out=is_left_out)
        except Exception as error:  # noqa: BLE001 - it concerns this observation alone
            if not sent.dead_lettered:
                self.dead_letters.add_broken(observation, "it cannot be compared with what was sent", error)
            return True

    def _compare_with_sent(
        self, observation: Observation, sent: SentObservation, refreshed: list[_Refreshed], *, is_left_out: bool
    ) -> bool:
        """Return whether an observation is done in this state; add it to `refreshed` if only its update is new.

        So is one that was sent as another generation of the API listed it: a change cannot be detected.
        """
        session = self.session
        updated = observation.updated_ms or 0
        stale = observation.updated_ms is not None and updated < sent.updated_ms
        now = fingerprint(observation)
        adopted = bool(sent.fingerprint) and is_retold(sent.fingerprint, now)
        if stale or adopted or now == sent.fingerprint:
            session.report.observations_unchanged += 1
            newer = session.policy.resend_changed and not stale and updated > sent.updated_ms
            if not sent.dead_lettered and (adopted or newer):
                refreshed.append(_Refreshed(observation, max(updated, sent.updated_ms), now))
            return True
        if is_left_out:
            return False  # it may be what brings its trace
        unread = sent.dead_lettered and not sent.fingerprint
        # What was sent was a mix of two versions.
        half_old = observation.api == "v2" and observation.updated_ms == sent.updated_ms
        if not (session.policy.resend_changed or unread or half_old):
            session.report.notes["changed observations left as sent"] += 1
            return True
        session.report.spans_changed += 1
        return False

    def _refresh(self, found: Sequence[_Refreshed], left_out: Collection[str]) -> None:
        """Store that sent observations are unchanged in their listed state.

        Those that may be a mix of versions get a second read; those with two versions keep the update they were sent
        with, so that the newer one is still detected.
        """
        merged = [
            (ObservationKey(trace_of(one.observation), one.observation.id), one.updated_ms, one.fingerprint)
            for one in found
            if not one.observation.unsettled
        ]
        now = self.session.ledger.clock.now_ms()
        reads = [
            SecondRead(trace_of(one.observation), one.observation.id, one.observation.start_ms, due)
            for one in found
            if trace_of(one.observation) not in left_out and (due := second_read_ms(one.observation, now)) is not None
        ]
        if merged or reads:
            self.session.ledger.touch(self.session.source_id, merged, reads)


def second_read_ms(observation: Observation, now: int) -> int | None:
    """Return when an observation that is done now needs a second read, in Unix ms; None if it does not.

    Until Langfuse's store has merged the versions of an observation, a listing may combine input and output of one
    with name, end and update of the other, without a sign of it. v1 keeps them together. (Langfuse 4.16.0.)
    """
    last = now + SECOND_READ_MS
    due = last if observation.unsettled else min(last, (observation.updated_ms or 0) + SECOND_READ_MS)
    return due if observation.api == "v2" and due > now else None
