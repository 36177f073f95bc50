"""Whether a trace is ready, and which of its observations are still pending. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sync_worker.records import Observation
from sync_worker.spans.context import roots_of


class Readiness(Enum):
    """Whether a trace is ready."""

    READY = "ready"  # its root has ended, and its quiet period has passed
    OVERDUE = "overdue"  # older than SYNC_MAX_OPEN
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class ReadinessLimits:
    """The quiet period, and the longest time that a trace is pending, in milliseconds."""

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
    """Return whether a trace is ready: root ended and quiet period passed, or older than `max_open`.

    `earliest_ms` and `newest_ms` include observations seen before, `known_kind` is their kind. Where `now_ms` is only
    the last certain time, `guess_ms` decides about the quiet period.
    """
    if now_ms - earliest_ms >= limits.max_open:
        return Readiness.OVERDUE
    quiet = (now_ms if guess_ms is None else guess_ms) - newest_ms >= limits.quiet_period
    return Readiness.READY if has_ended(observations, known_kind) and quiet else Readiness.PENDING


def has_ended(observations: Iterable[Observation], known_kind: str = "") -> bool:
    """Whether a root of the trace was read and has ended; `known_kind` is the kind of the other observations."""
    return any(not observation.is_open for observation in roots_of(observations, known_kind))


def pending_observations(
    observations: Iterable[Observation], now_ms: int, limits: ReadinessLimits, since_ms: int | None = None
) -> list[Observation]:
    """Return the observations of a ready trace that are still pending: not ended, or not merged.

    One without a trace never is. `since_ms` is since when the trace has been pending, Unix ms.
    """
    return [
        observation
        for observation in observations
        if observation.trace_id is not None
        and (
            (observation.is_open and now_ms - observation.start_ms < limits.max_open)
            or (observation.unsettled and awaits_merge(observation, now_ms, limits, since_ms))
        )
    ]


def awaits_merge(observation: Observation, now_ms: int, limits: ReadinessLimits, since_ms: int | None) -> bool:
    """Whether the two versions of an unsettled observation may still be merged.

    It is pending no longer than SYNC_MAX_OPEN from its last version, or from when its trace became pending: one that is
    updated again and again would never be sent.
    """
    if observation.trace_id is None:
        return False
    written = min(now_ms, observation.last_ms if observation.updated_ms is None else observation.updated_ms)
    return now_ms - written < limits.max_open and (since_ms is None or now_ms - since_ms < limits.max_open)
