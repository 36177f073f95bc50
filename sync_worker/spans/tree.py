"""The tree of a trace's observations: parents, depths, order, ends, and the agent that each works for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sync_worker.records import Observation
from sync_worker.spans.agent_names import MAX_NAME, agent_named_by, plain_name
from sync_worker.spans.context import TraceContext
from sync_worker.spans.ids import is_same_span, source_parent_id


def parents_of(trace_id: str, observations: Mapping[str, Observation], notes: Counter[str]) -> dict[str, str | None]:
    """Return each observation's parent; of observations in a cycle the one with the least id becomes a root."""
    parents = {
        observation.id: source_parent_id(trace_id, observation.id, observation.parent_id)
        for observation in observations.values()
    }
    notes.update(
        "parent cut"
        for observation in observations.values()
        if observation.parent_id
        and parents[observation.id] is None
        and is_same_span(observation.id, observation.parent_id)
    )
    safe: set[str] = set()
    for start in sorted(parents):
        path: dict[str, None] = {}
        here: str | None = start
        while here is not None and here in parents and here not in safe:
            if here in path:  # a cycle, and what leads into it before
                members = list(path)
                parents[min(members[members.index(here) :])] = None
                notes["parent cut"] += 1
                break
            path[here] = None
            here = parents[here]
        safe.update(path)
    return parents


def depths_of(observations: Iterable[Observation], parents: Mapping[str, str | None]) -> dict[str, int]:
    """Return how far below its root each observation stands."""
    depths: dict[str, int] = {}
    for observation in observations:
        path: list[str] = []
        here: str | None = observation.id
        while here is not None and here not in depths:
            path.append(here)
            here = parents.get(here)
        depth = depths[here] if here is not None else -1
        for member in reversed(path):
            depth += 1
            depths[member] = depth
    return depths


def in_tree_order(
    observations: Sequence[Observation], parents: Mapping[str, str | None], depths: Mapping[str, int]
) -> list[Observation]:
    """Return observations root first, then by start; a parent never stands behind its child when they tie."""

    def place(observation: Observation) -> tuple[int, int, int, str]:
        rank = 0 if parents[observation.id] is None else 1 if observation.is_root else 2
        return rank, observation.start_ms, depths[observation.id], observation.id

    return sorted(observations, key=place)


class Agents:
    """The agents that observations of a trace work for. Each observation is looked at once, however deep it stands."""

    def __init__(
        self, observations: Mapping[str, Observation], parents: Mapping[str, str | None], context: TraceContext
    ) -> None:
        self._rows = observations
        self._parents = parents
        self._known = context.agents
        names = set(context.agents.values())
        self._only = names.pop() if len(names) == 1 else None
        named = (plain_name(name[: MAX_NAME + 1]) for name in (context.trace_name, context.root_name) if name)
        self._of_trace = next((name for name in named if name), None)
        self._found: dict[str, str | None] = {}

    def of(self, observation: Observation) -> str | None:
        """Return the agent it works for: itself, the nearest above, else the trace's only one, else the trace."""
        path: list[str] = []
        here: str | None = observation.id
        while here is not None and here not in self._found:
            member = self._rows.get(here)
            path.append(here)
            if member is None:  # not at hand: what is known of it decides, else the trace's only agent
                self._found[here] = self._known.get(here) or self._only or self._of_trace
                continue
            named = agent_named_by(member)
            if named is not None:
                self._found[here] = named
            else:
                here = self._parents[here]
        agent = self._of_trace if here is None else self._found[here]
        self._found.update(dict.fromkeys(path, agent))
        return agent


def ends_of(
    observations: Mapping[str, Observation], parents: Mapping[str, str | None], depths: Mapping[str, int]
) -> dict[str, int]:
    """Return each one's end in Unix ms: its own; an event's start; for an open one the end of what is below it."""
    below: dict[str, int] = {}
    ends: dict[str, int] = {}
    for observation in sorted(observations.values(), key=lambda observation: depths[observation.id], reverse=True):
        if observation.end_ms is not None:
            end = observation.end_ms
        elif observation.type == "EVENT":
            end = observation.start_ms
        else:
            end = max(observation.start_ms, below.get(observation.id, observation.start_ms))
        ends[observation.id] = end
        parent = parents[observation.id]
        if parent is not None:
            below[parent] = max(below.get(parent, end), end, observation.start_ms)
    for observation in observations.values():
        if observation.end_ms is None and observation.is_synthetic_root:
            ends[observation.id] = max(max(end, observations[other].start_ms) for other, end in ends.items())
    return ends
