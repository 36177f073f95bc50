"""Whether a trace is ready, and which of its observations still wait. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sync_worker.records import Observation
from sync_worker.spans.context import roots_of


class Readiness(Enum):
    """Whether a trace goes now."""

    READY = "ready"  # its root has ended, and it is quiet
    OVERDUE = "overdue"  # it has waited long enough
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class ReadinessLimits:
    """How long traces wait, in milliseconds: for quiet, and at most."""

    quiet_period: int
    max_open: int


def readiness(
    observations: Iterable[Observation],
    earliest_ms: int,
    newest_ms: int,
    now_ms: int,
    limits: ReadinessLimits,
    known_kind: str = "",
    *,
    guess_ms: int | None = None,
) -> Readiness:
    """Say whether a trace may go: its root has ended and it has been quiet, or it began too long ago to wait.

    `earliest_ms` and `newest_ms` cover what was seen before and is not at hand; `known_kind` is what is known of it.
    Where `now_ms` is only the last time that was certain, `guess_ms` says whether a trace has been quiet.
    """
    if now_ms - earliest_ms >= limits.max_open:
        return Readiness.OVERDUE
    quiet = (now_ms if guess_ms is None else guess_ms) - newest_ms >= limits.quiet_period
    return Readiness.READY if has_ended(observations, known_kind) and quiet else Readiness.PENDING


def has_ended(observations: Iterable[Observation], known_kind: str = "") -> bool:
    """Whether a root of the trace is at hand and has ended; `known_kind` is what is known of the rest."""
    return any(not observation.is_open for observation in roots_of(observations, known_kind))


def pending_observations(
    observations: Iterable[Observation], now_ms: int, limits: ReadinessLimits, since_ms: int | None = None
) -> list[Observation]:
    """Return the observations of a ready trace that still wait, for their own end or for their versions to be merged.

    One without a trace never does. `since_ms` is how long the trace has been pending.
    """
    return [
        observation
        for observation in observations
        if observation.trace_id is not None
        and (
            (observation.is_open and now_ms - observation.start_ms < limits.max_open)
            or awaits_merge(observation, now_ms, limits, since_ms)
        )
    ]


def awaits_merge(observation: Observation, now_ms: int, limits: ReadinessLimits, since_ms: int | None) -> bool:
    """Whether an observation has two versions and may yet come once.

    It waits no longer than SYNC_MAX_OPEN from its last version, or from when its trace became pending: one that is
    written again and again would wait for ever.
    """
    if not observation.unsettled or observation.trace_id is None:
        return False
    written = min(now_ms, observation.last_ms if observation.updated_ms is None else observation.updated_ms)
    return now_ms - written < limits.max_open and (since_ms is None or now_ms - since_ms < limits.max_open)
