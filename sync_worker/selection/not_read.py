"""What Langfuse is not even asked for: observations in environments that are left out whatever their trace is.

The environment stands on each observation, and a distributed trace may have several. Langfuse keeps names that begin
with `langfuse` for its own traces, which have one each; those are never mixed. Others are left out of a listing only
where a lookback scan, which lists everything, brings what belongs to a trace that is synced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sync_worker.intervals import Interval
from sync_worker.patterns import is_exact
from sync_worker.records import Observation
from sync_worker.selection.selection_rules import SelectionRules

_RESERVED = "langfuse"


def unread_environments(rules: SelectionRules, *, has_lookback: bool) -> tuple[str, ...]:
    """Return environments to leave out of a listing; `has_lookback`: lookback scans list the same time without it.

    Langfuse has no condition that is exactly a pattern, so these are the names in full.
    """
    if rules.others:
        each = [unread_environments(one, has_lookback=has_lookback) for one in rules.others]
        own = unread_environments(replace(rules, others=()), has_lookback=has_lookback)
        return tuple(name for name in own if all(name in names for names in each))
    excluded = {name for one in rules.filters if one.name == "environments" for name in one.exclude if is_exact(name)}
    return tuple(sorted(name for name in excluded if has_lookback or name.startswith(_RESERVED)))


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
