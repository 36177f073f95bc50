"""SYNC_MAX_SPANS_PER_DAY: whole traces are sent until the next one would pass the limit of the day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sync_worker.errors import DailyLimitReached
from sync_worker.ledger import Ledger, source_scope
from sync_worker.ledger.daily_spans import spans_of_day, today
from sync_worker.ledger.state_keys import DAILY_LIMIT
from sync_worker.pipeline.trace import Trace
from sync_worker.wording import counted


class DailyLimit:
    """The daily limit of one source; None is none.

    What this process is sending counts as sent. What other processes have in flight does not, so processes beside each
    other may pass the limit by that: `check` looks again before each request.
    """

    def __init__(self, ledger: Ledger, source_id: int, limit: int | None) -> None:
        self._ledger = ledger
        self._source_id = source_id
        self._limit = limit
        self._admitted = 0  # spans that are on their way

    def check_day(self) -> None:
        """Raise DailyLimitReached where the limit was reached today, and is the same still."""
        if self._limit is None:
            return
        stored = self._ledger.state(source_scope(self._source_id)).get(DAILY_LIMIT, fresh=True)
        if stored is not None and stored["day"] == today(self._ledger) and stored["limit"] == self._limit:
            raise self._error()

    def check(self) -> None:
        """Raise DailyLimitReached where nothing more may be sent today."""
        if self._limit is not None and self._used() >= self._limit:
            raise self._error()

    def admit(self, traces: Sequence[Trace]) -> list[Trace]:
        """Return the first of these traces that fit into the day, whole.

        Of a trace that is larger than the limit itself, and comes first on a day, as much as the limit is.
        """
        if self._limit is None:
            return list(traces)
        left = self._limit - self._used() - self._admitted
        admitted: list[Trace] = []
        for trace in traces:
            if len(trace.fresh) > left:
                if left == self._limit:
                    trace.fresh = trace.fresh[:left]
                    admitted.append(trace)
                    self._admitted += left
                break
            admitted.append(trace)
            left -= len(trace.fresh)
            self._admitted += len(trace.fresh)
        return admitted

    def count(self, spans: int) -> None:
        """Count spans that were accepted, and are committed next: they are no longer on their way."""
        self._admitted = max(0, self._admitted - spans)

    def end(self, before: int) -> None:
        """End a delivery: what of it was not accepted is not on its way any more."""
        self._admitted = min(self._admitted, before)

    @property
    def admitted(self) -> int:
        """Spans that are on their way."""
        return self._admitted

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
        return DailyLimitReached(
            f"SYNC_MAX_SPANS_PER_DAY={self._limit}: {counted(self._used(), 'span')} sent on {day:%Y-%m-%d}, and the "
            f"next trace would pass the limit; paused until {day + timedelta(days=1):%Y-%m-%d}T00:00:00Z. Nothing is "
            "lost. Try: wait, it continues by itself; or a higher limit"
        )
