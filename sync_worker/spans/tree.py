"""The tree that the rows of a trace make: parents, depths, order, ends, and the agent that a row works for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sync_worker.records import Observation
from sync_worker.spans.agent_names import MAX_NAME, agent_named_by, plain_name
from sync_worker.spans.context import TraceContext
from sync_worker.spans.ids import is_same_span, source_parent_id


def parents_of(trace_id: str, rows: Mapping[str, Observation], notes: Counter[str]) -> dict[str, str | None]:
    """Return each row's parent; of rows in a cycle the one with the least id becomes a root."""
    parents = {row.id: source_parent_id(trace_id, row.id, row.parent_id) for row in rows.values()}
    notes.update("parent cut" for row in rows.values() if row.parent_id and is_same_span(row.id, row.parent_id))
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


def depths_of(rows: Iterable[Observation], parents: Mapping[str, str | None]) -> dict[str, int]:
    """Return how far below its root each row stands."""
    depths: dict[str, int] = {}
    for row in rows:
        path: list[str] = []
        here: str | None = row.id
        while here is not None and here not in depths:
            path.append(here)
            here = parents.get(here)
        depth = depths[here] if here is not None else -1
        for member in reversed(path):
            depth += 1
            depths[member] = depth
    return depths


def in_tree_order(
    rows: Sequence[Observation], parents: Mapping[str, str | None], depths: Mapping[str, int]
) -> list[Observation]:
    """Return rows root first, then by start; a parent never stands behind its child when they tie."""

    def place(row: Observation) -> tuple[int, int, int, str]:
        rank = 0 if parents[row.id] is None else 1 if row.is_root else 2
        return rank, row.start_ms, depths[row.id], row.id

    return sorted(rows, key=place)


class Agents:
    """The agents that rows of a trace work for. Each row is looked at once, however deep it stands."""

    def __init__(
        self, rows: Mapping[str, Observation], parents: Mapping[str, str | None], context: TraceContext
    ) -> None:
        self._rows = rows
        self._parents = parents
        self._known = context.agents
        names = set(context.agents.values())
        self._only = names.pop() if len(names) == 1 else None
        named = (plain_name(name[: MAX_NAME + 1]) for name in (context.trace_name, context.root_name) if name)
        self._of_trace = next((name for name in named if name), None)
        self._found: dict[str, str | None] = {}

    def of(self, row: Observation) -> str | None:
        """Return the agent a row works for: itself, the nearest above, else the trace's only one, else the trace."""
        path: list[str] = []
        here: str | None = row.id
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
    rows: Mapping[str, Observation], parents: Mapping[str, str | None], depths: Mapping[str, int]
) -> dict[str, int]:
    """Return each row's end in Unix ms: its own; an event's start; for an open row the end of what is below it."""
    below: dict[str, int] = {}
    ends: dict[str, int] = {}
    for row in sorted(rows.values(), key=lambda row: depths[row.id], reverse=True):
        if row.end_ms is not None:
            end = row.end_ms
        elif row.type == "EVENT":
            end = row.start_ms
        else:
            end = max(row.start_ms, below.get(row.id, row.start_ms))
        ends[row.id] = end
        parent = parents[row.id]
        if parent is not None:
            below[parent] = max(below.get(parent, end), end, row.start_ms)
    for row in rows.values():
        if row.is_synthetic_root and row.end_ms is None:
            ends[row.id] = max(max(end, rows[other].start_ms) for other, end in ends.items())
    return ends
