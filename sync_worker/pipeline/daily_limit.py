"""SYNC_MAX_SPANS_PER_DAY: whole traces are sent until the next one would pass the limit of the day."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sync_worker.errors import DailyLimitReached, LeaseHeld, StateError
from sync_worker.ledger import Ledger, source_scope
from sync_worker.ledger.daily_spans import count_sending, count_sending_later, spans_of_day, spans_of_others, today
from sync_worker.ledger.state_keys import DAILY_LIMIT
from sync_worker.pipeline.trace import Trace
from sync_worker.spans.span_model import EncodedSpan, ObservationKey
from sync_worker.wording import counted


class DailyLimit:
    """The daily limit of one source, in spans.

    What this process and others are sending counts as sent, until it is accepted or ends otherwise: so processes beside
    each other keep the limit together.
    """

    def __init__(self, ledger: Ledger, source_id: int, limit: int) -> None:
        self._ledger = ledger
        self._source_id = source_id
        self._limit = limit
        self._sending: set[ObservationKey] = set()  # by this process

    def check_day(self) -> None:
        """Raise DailyLimitReached where the limit was reached today, and is the same still."""
        stored = self._ledger.state(source_scope(self._source_id)).get(DAILY_LIMIT, fresh=True)
        if stored is not None and stored["day"] == today(self._ledger) and stored["limit"] == self._limit:
            raise self._error()

    def check(self) -> None:
        """Raise DailyLimitReached where nothing more may be sent today."""
        if self._used() >= self._limit:
            raise self._error()

    def admit(self, traces: Sequence[Trace]) -> list[Trace]:
        """Return the oldest of these traces that fit into the day, whole, and store that they are being sent.

        The oldest first, or newer ones would leave too little of each day for a large one. Of a trace that is larger
        than the limit itself, and comes first on a day, as much as the limit is. Raises StateError or LeaseHeld.
        """
        with self._ledger.transaction() as leases:
            others = spans_of_others(self._ledger, self._source_id, leases)
            left = self._limit - self._used() - others - len(self._sending)
            admitted: list[Trace] = []
            for trace in sorted(traces, key=lambda trace: trace.earliest_ms):
                if len(trace.fresh) > left:
                    if left == self._limit:
                        trace.fresh = trace.fresh[:left]
                        admitted.append(trace)
                    break
                admitted.append(trace)
                left -= len(trace.fresh)
            sending = self._sending | set(_keys_of(admitted))
            count_sending(self._ledger, self._source_id, len(sending))
        self._sending = sending
        return admitted

    def count(self, spans: Sequence[EncodedSpan]) -> None:
        """Count spans that were accepted, and are committed next: they are not being sent any more."""
        self._sending.difference_update(span.key for span in spans)
        count_sending_later(self._ledger, self._source_id, len(self._sending))

    def end(self, admitted: Sequence[Trace]) -> None:
        """End a delivery: what of it was not accepted is not being sent any more."""
        left = self._sending.intersection(_keys_of(admitted))
        if left:
            self._sending -= left
            with contextlib.suppress(StateError, LeaseHeld), self._ledger.transaction():
                count_sending(self._ledger, self._source_id, len(self._sending))

    def stop(self) -> None:
        """Store that the limit was reached today. Raises DailyLimitReached."""
        self._ledger.state(source_scope(self._source_id)).put(
            DAILY_LIMIT, {"day": today(self._ledger), "limit": self._limit}
        )
        raise self._error()

    def _used(self) -> int:
        return spans_of_day(self._ledger, self._source_id, today(self._ledger))

    def _error(self) -> DailyLimitReached:
        day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=today(self._ledger))
        sending = len(self._sending) + spans_of_others(self._ledger, self._source_id, self._ledger.leases())
        on_their_way = f" and {sending:,} more on their way" if sending else ""
        return DailyLimitReached(
            f"SYNC_MAX_SPANS_PER_DAY={self._limit}: {counted(self._used(), 'span')} sent on {day:%Y-%m-%d}"
            f"{on_their_way}, and the next trace would pass the limit; paused until "
            f"{day + timedelta(days=1):%Y-%m-%d}T00:00:00Z. Nothing is lost. Try: wait, it continues by itself; or a "
            "higher limit"
        )


def _keys_of(traces: Iterable[Trace]) -> Iterator[ObservationKey]:
    return (ObservationKey(trace.trace_id, one.id) for trace in traces for one in trace.fresh)
