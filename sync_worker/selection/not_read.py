"""What Langfuse is not even asked for: observations in environments that are left out whatever their trace is.

The environment stands on each observation, and a distributed trace may have several. Langfuse keeps names that begin
with `langfuse` for its own traces, which have one each; those are never mixed. Others are left out of a listing only
where a lookback scan, which lists everything, brings what belongs to a trace that is synced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sync_worker.intervals import Interval
from sync_worker.patterns import is_exact, matches
from sync_worker.records import Observation
from sync_worker.selection.rules import Rules

_RESERVED = "langfuse"
#: Environments in which Langfuse's own evaluators and experiments write.
_OF_LANGFUSE = ("langfuse-llm-as-a-judge", "langfuse-prompt-experiment")


def unread_environments(rules: Rules, *, has_lookback: bool) -> tuple[str, ...]:
    """Return environments to leave out of a listing; `has_lookback`: lookback scans list the same time without it."""
    excluded = [pattern for one in rules.filters if one.name == "environments" for pattern in one.exclude]
    own = {name for name in _OF_LANGFUSE if any(matches(pattern, name) for pattern in excluded)}
    exact = {name for name in excluded if is_exact(name) and (has_lookback or name.startswith(_RESERVED))}
    return tuple(sorted(own | exact))


@dataclass(frozen=True, slots=True)
class NotRead:
    """Which observations of completed intervals were not asked for, by the rules that each was read under."""

    environments: Sequence[tuple[Interval, frozenset[str]]]

    def was_left(self, observation: Observation) -> bool:
        """Whether an observation was not asked for. Another one of its trace may have been."""
        return any(
            observation.environment in left and interval.contains(observation.start_ms)
            for interval, left in self.environments
        )
