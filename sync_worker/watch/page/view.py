"""What the state file says of each source, as the page shows it. Times in Unix milliseconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sync_worker.clock import Clock
from sync_worker.intervals import Interval, clip, merged
from sync_worker.ledger import Ledger, SourceState, source_scope
from sync_worker.ledger.claims import claimed_by
from sync_worker.ledger.daily_spans import DAY_MS
from sync_worker.ledger.history import SLOT_MS, SLOTS, Slot, history
from sync_worker.ledger.lease import BACKFILL, LIVE, lease_owner
from sync_worker.ledger.pauses import Pause, active_pauses
from sync_worker.ledger.state_keys import (
    ARRIVAL_DELAY,
    CYCLES,
    DAILY_LIMIT,
    LAST_BACKFILL,
    LAST_SCORE_SCAN,
    PAUSED_PROJECTS,
    State,
    last_cycle,
)
from sync_worker.ledger.stored_records import DeadLetterGroup, Pending
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.settings import Settings, Source
from sync_worker.sync.engine import outcome_of
from sync_worker.sync.keys import keys_of
from sync_worker.times import span_ms
from sync_worker.watch.quotas import RequestQuota, request_quotas
from sync_worker.watch.status import live_state, now_ms


@dataclass(frozen=True, slots=True)
class LastCycle:
    """How the last cycle of a source ended, as metrics call it, and when the last good one did."""

    outcome: str
    good_ms: int | None


@dataclass(frozen=True, slots=True)
class BackfillView:
    """The last backfill: of `todo` milliseconds that it was to read, `left` are not completed."""

    interval: Interval
    began_ms: int
    todo: int
    left: int
    runs: bool

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return 1.0 if self.todo <= 0 else 1.0 - min(self.left, self.todo) / self.todo


@dataclass(frozen=True, slots=True)
class ScoresView:
    """Scores by state, those that wait as `waiting: REASON`, and when the newest were listed."""

    counts: dict[str, int]
    listed_ms: int | None

    @property
    def waiting(self) -> int:
        """Scores that wait, for whatever reason."""
        return sum(count for state, count in self.counts.items() if state.startswith("waiting"))


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source of the settings; what is empty or None is not known yet."""

    name: str
    target: str
    project: str  # Kelet's
    interval_ms: int
    max_open_ms: int
    max_dead_letters: int | None
    langfuse_project: str = ""
    sync_start_ms: int | None = None
    watermark_ms: int | None = None
    gaps: Sequence[Interval] = ()
    live: Sequence[Interval] = ()
    backfilled: Sequence[Interval] = ()
    backfill: BackfillView | None = None
    cycle: LastCycle | None = None
    delay: ArrivalDelay = field(default_factory=ArrivalDelay)
    pending: Pending = field(default_factory=lambda: Pending(0, None))
    pauses: Sequence[Pause] = ()  # by an operator
    limit_reached: int | None = None  # SYNC_MAX_SPANS_PER_DAY, where it was reached today
    closed: Sequence[str] = ()  # Kelet projects that Kelet does not know
    filtered: int = 0
    dead_letters: Sequence[DeadLetterGroup] = ()
    quotas: Sequence[RequestQuota] = ()
    scores: ScoresView | None = None
    slots: Sequence[Slot] = ()

    @property
    def is_paused(self) -> bool:
        """Whether an operator paused all of it."""
        return any(pause.project is None for pause in self.pauses)

    @property
    def dead(self) -> int:
        """Spans and scores in the dead letters."""
        return sum(group.spans for group in self.dead_letters)

    def lag_ms(self, now_ms: int) -> int | None:
        """Time from the watermark to now."""
        return None if self.watermark_ms is None else max(0, now_ms - self.watermark_ms)

    def lags(self, now_ms: int) -> list[int | None]:
        """Return the lag at the end of each slot of the last day, oldest first; None where it is not known."""
        first = now_ms // SLOT_MS - SLOTS + 1
        moved = {slot.number: slot.watermark_ms for slot in self.slots if slot.watermark_ms is not None}
        mark = next((moved[number] for number in sorted(moved, reverse=True) if number < first), None)
        found: list[int | None] = []
        for number in range(first, first + SLOTS):
            mark = moved.get(number, mark)
            at = min((number + 1) * SLOT_MS, now_ms)
            found.append(None if mark is None else max(0, at - mark))
        if found and self.watermark_ms is not None:
            found[-1] = self.lag_ms(now_ms)
        return found

    def by_slot(self, now_ms: int) -> list[Slot]:
        """Return all slots of the last day, oldest first, those in which nothing happened too."""
        first = now_ms // SLOT_MS - SLOTS + 1
        known = {slot.number: slot for slot in self.slots}
        return [known.get(number, Slot(number, None, 0, 0, 0)) for number in range(first, first + SLOTS)]


@dataclass(frozen=True, slots=True)
class View:
    """How all of it stands at one moment. `tick_age` is the time since the event loop ran, in seconds.

    `waits`: for what the process waits, and for how many seconds more.
    """

    now_ms: int
    sources: Sequence[SourceView]
    size_bytes: int
    free_bytes: int
    total_bytes: int
    live_runs: bool
    backfill_runs: bool
    tick_age: float = 0.0
    offsets: dict[str, float] = field(default_factory=dict)  # by source, seconds that this clock is ahead of Langfuse's
    waits: Sequence[tuple[str, float]] = ()


def read(ledger: Ledger, settings: Settings, sources: Sequence[Source], clock: Clock) -> View:
    """Return what the state file says of these sources. Raises StateError."""
    now = now_ms(ledger, clock)
    system = os.statvfs(ledger.path.resolve().parent)
    backfill_runs = lease_owner(ledger, BACKFILL) is not None
    pauses = active_pauses(ledger)
    return View(
        now_ms=now,
        sources=[_source(ledger, source, settings.of(source), now, pauses, runs=backfill_runs) for source in sources],
        size_bytes=ledger.size_bytes(),
        free_bytes=system.f_bavail * system.f_frsize,
        total_bytes=system.f_blocks * system.f_frsize,
        live_runs=lease_owner(ledger, LIVE) is not None,
        backfill_runs=backfill_runs,
    )


def _source(
    ledger: Ledger, source: Source, settings: Settings, now: int, pauses: Sequence[Pause], *, runs: bool
) -> SourceView:
    unknown = SourceView(
        name=source.name,
        target=source.target,
        project=source.kelet_project,
        interval_ms=span_ms(settings.interval),
        max_open_ms=span_ms(settings.max_open),
        max_dead_letters=settings.max_dead_letters,
        cycle=_cycle(ledger, source.name),
        pauses=[pause for pause in pauses if pause.concerns(source.name)],
    )
    state = ledger.source_by_key(keys_of(source), source.target)
    if state is None:
        return unknown
    deepest = max(span_ms(window) for window in settings.late_horizons)
    live, keys = live_state(ledger, state, now, deepest), ledger.state(source_scope(state.id))
    scores = ScoresView(ledger.score_counts(state.id), keys.get(LAST_SCORE_SCAN)) if settings.scores else None
    return replace(
        unknown,
        langfuse_project=state.project_name or state.project_id,
        sync_start_ms=state.sync_start_ms,
        watermark_ms=live.watermark_ms,
        gaps=live.gaps,
        live=ledger.completed_intervals(state.id, LIVE),
        backfilled=live.backfilled,
        backfill=_backfill(ledger, state, keys.get(LAST_BACKFILL), runs=runs),
        delay=ArrivalDelay.from_counts(keys.get(ARRIVAL_DELAY)),
        pending=ledger.pending(state.id),
        closed=keys.get(PAUSED_PROJECTS) or (),
        limit_reached=_limit_reached(keys, settings, now),
        filtered=sum(ledger.left_out(state.id).values()),
        dead_letters=ledger.dead_letter_groups(state.id),
        quotas=request_quotas(ledger, state, settings, now),
        scores=scores,
        slots=history(ledger, state.id),
    )


def _limit_reached(keys: State, settings: Settings, now: int) -> int | None:
    limit = settings.max_spans_per_day
    return limit if limit and keys.get(DAILY_LIMIT) == {"day": now // DAY_MS, "limit": limit} else None


def _cycle(ledger: Ledger, name: str) -> LastCycle | None:
    stored = ledger.state(CYCLES).get(last_cycle(name))
    if stored is None:
        return None
    return LastCycle(outcome_of(stored["exit_code"], on_purpose=stored.get("on_purpose", False)), stored["good_ms"])


def _backfill(ledger: Ledger, state: SourceState, stored: dict[str, int] | None, *, runs: bool) -> BackfillView | None:
    if stored is None:
        return None
    interval = Interval(stored["from"], stored["to"])
    claimed = claimed_by(ledger, state.id, BACKFILL) if runs else []
    if claimed:
        left = sum(one.length for one in claimed)
    else:
        done = [one for intervals in ledger.completed_by_role(state.id).values() for one in intervals]
        left = stored["own"] - min(stored["own"], sum(one.length for one in clip(merged(done), interval)))
    return BackfillView(interval, stored["began_ms"], stored["todo"], left, runs=bool(claimed))
