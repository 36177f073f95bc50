"""A Langfuse project that grows while it is read: traces of many shapes, and the truth about each of their rows."""

from __future__ import annotations

import heapq
import itertools
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sync_worker.demo.langfuse_server import RecordedLangfuse
from tests.support import rows as wire
from tests.support import v1_items
from tests.support.langfuse_v1 import LangfuseV1

Row = dict[str, Any]

_DAY = 86_400.0
_ITEM_KEYS = ("name", "input", "output", "createdAt", "updatedAt", "projectId")
_ODDITIES: tuple[Row, ...] = (
    {"metadata": {"deep": [[[[[[[[1]]]]]]]], "nested": "[" * 300 + "]" * 300}},
    {"level": 17, "tags": "none", "usageDetails": {"input": "many"}, "modelParameters": "x"},
    {"input": "[" * 5_000 + "]" * 5_000},
    {"metadata": "none", "costDetails": [1, 2]},
)


@dataclass(slots=True, eq=False)
class Story:
    """A row and the states of it that could be seen, the newest last."""

    trace: Trace
    id: str
    start: float  # Unix seconds
    number: int
    hidden: bool = False  # what v1 tells of a trace of OpenTelemetry, which is no span
    odd: bool = False
    states: list[Row] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Trace:
    """A trace; what shows up later than `limit` is not promised to be found."""

    id: str | None
    start: float
    limit: float
    otel: bool
    session: str = ""
    deleted: bool = False
    rows: list[Story] = field(default_factory=list)


class Project:
    """Writes to a server what its agents do, when it is time; `stories` is what can be seen of each row."""

    def __init__(self, prefix: str, server: RecordedLangfuse, seed: int, rate: float, deepest: float) -> None:
        self.prefix = prefix
        self.poison: set[str] = set()  # first parts of the names of rows that Kelet is to refuse
        self.server = server
        self.stories: dict[int, Story] = {}
        self.traces: list[Trace] = []
        self.unmerged = 0
        self._chance = random.Random(f"project {prefix} {seed}")
        self._rate = rate
        self._deepest = deepest
        self._numbers = itertools.count(1)
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._old = isinstance(server, LangfuseV1)
        self._next_trace = self._next_merge = 0.0
        self._merges_all = False

    @property
    def known(self) -> list[Story]:
        """All rows of which something could be seen."""
        return [story for story in self.stories.values() if story.states]

    def remember(self, begin: float, traces: int) -> None:
        """Write the history: traces of the last three days, all of them there."""
        for _ in range(traces):
            start = begin - 900 - self._chance.random() * 3 * _DAY
            self._tree(self._trace(start), start, self._chance.uniform(1, 60), settled=True)
        self.advance(begin)

    def advance(self, now: float) -> None:
        """Write what is due by now."""
        if self._next_trace == 0.0:
            self._next_trace = self._next_merge = now
        while self._next_trace <= now and self._rate:
            self._grow(self._next_trace)
            self._next_trace += self._chance.expovariate(self._rate)
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        if self._next_merge <= now and not self._old:
            self.server.rows.merge(content_too=self._merges_all)
            self._merges_all = not self._merges_all
            self._next_merge = now + self._chance.uniform(5, 40)

    def calm(self) -> None:
        """Write nothing more: what was not seen by now has never been."""
        self._rate, self._due = 0.0, []
        if not self._old:
            self.server.rows.merge()
        self._next_merge = float("inf")

    # Shapes of traces

    def _grow(self, now: float) -> None:
        shapes: list[Callable[[float], None]] = [
            self._short, self._short, self._short, self._long, self._long, self._root_last, self._late, self._open,
            self._no_trace, self._several,
        ]  # fmt: skip
        self._chance.choice(shapes)(now)

    def _short(self, now: float) -> None:
        self._tree(self._trace(now), now, self._chance.uniform(0.5, 8))

    def _long(self, now: float) -> None:
        """Agents that last longer than an interval, some of them longer than a trace may stay open."""
        self._tree(self._trace(now), now, self._chance.uniform(10, min(150, self._deepest / 2)))

    def _root_last(self, now: float) -> None:
        trace = self._trace(now)
        self._tree(trace, now, self._chance.uniform(1, 20), root_delay=self._chance.uniform(5, 60))

    def _late(self, now: float) -> None:
        """One of its rows turns up long after the others."""
        trace = self._trace(now)
        root = self._tree(trace, now, self._chance.uniform(1, 8))
        shown = self._chance.uniform(now + 20, trace.limit)
        self._row(trace, now + self._chance.random(), 0.5, root.id, shown=shown)

    def _open(self, now: float) -> None:
        """Rows that are seen before they end."""
        trace = self._trace(now)
        root = self._tree(trace, now, self._chance.uniform(1, 8))
        row = self._row(trace, now + 0.1, None, self._chance.choice([None, root.id]), shown=now + 1, type="GENERATION")
        if self._chance.random() < 0.8:
            end = self._chance.uniform(now + 2, min(now + 120, trace.limit))
            self._at(end, lambda: self._change(row, end, {"endTime": _iso(end - 0.5)}))

    def _no_trace(self, now: float) -> None:
        for _ in range(self._chance.randint(1, 2)):
            self._row(Trace(None, now, now + self._deepest * 0.75, otel=False), now, 1.0, None, shown=now + 1)

    def _several(self, now: float) -> None:
        """More than one root, one of them later."""
        trace = self._trace(now)
        self._tree(trace, now, self._chance.uniform(0.5, 5))
        later = now + self._chance.uniform(10, self._deepest / 3)
        self._at(later, lambda: self._tree(trace, later, 2.0))

    # Their parts

    def _trace(self, start: float) -> Trace:
        kind = self._chance.choice(["otel", "otel", "otel", "uuid", "free"])
        trace_id = {
            "otel": f"{self._chance.getrandbits(128) | 1:032x}",
            "uuid": str(uuid.UUID(int=self._chance.getrandbits(128))),
            "free": f"chat/{self._chance.getrandbits(40)} é%&",
        }[kind]
        trace = Trace(trace_id, start, start + self._deepest * 0.75, kind == "otel")
        if self._chance.random() < 0.6:
            trace.session = f"session-{self._chance.getrandbits(30)}"
        self.traces.append(trace)
        return trace

    def _tree(
        self, trace: Trace, start: float, length: float, *, root_delay: float = 0.0, settled: bool = False
    ) -> Story:
        end = start + length
        root = self._row(
            trace, start, length, None, shown=start + 60 if settled else end + root_delay + self._delay(), type="AGENT",
            settled=settled,
        )  # fmt: skip
        if self._old and trace.id is not None and len(trace.rows) == 1:
            self._tell_of(trace, start, shown=start + min(0.5, length))
        parents = [root.id]
        for _ in range(self._chance.choice([0, 1, 2, 3, 4, 7])):
            begun = start + self._chance.random() * length * 0.9
            took = self._chance.random() * (end - begun)
            shown = start + 60 if settled else begun + took + self._delay()
            child = self._row(trace, begun, took, self._chance.choice(parents), shown=shown, settled=settled)
            parents.append(child.id)
        if not settled and self._chance.random() < 0.01:
            self._at(self._chance.uniform(end, end + 120), lambda: self._delete(trace))
        return root

    def _delay(self) -> float:
        return self._chance.choice([0.1, 0.1, 0.5, self._chance.uniform(0, 3), self._chance.uniform(0, 20)])

    def _row(
        self, trace: Trace, start: float, length: float | None, parent: str | None, *, shown: float,
        type: str = "SPAN", settled: bool = False,  # noqa: A002
    ) -> Story:  # fmt: skip
        observation_id = f"{self._chance.getrandbits(64) | 1:016x}"
        if not trace.otel and self._chance.random() < 0.7:
            observation_id = str(uuid.UUID(int=self._chance.getrandbits(128)))
        story = Story(trace, observation_id, start, next(self._numbers))
        trace.rows.append(story)
        self.stories[story.number] = story
        number = f"{self.prefix}{story.number}.1"
        row = wire.row(
            trace=trace.id, id=observation_id, start=_iso(start), parent=parent, name=number, type=type,
            endTime=None if length is None else _iso(start + length), createdAt=_iso(shown - 0.05),
            updatedAt=_iso(shown - 0.05), isRootObservation=parent is None, projectId=self.server.project_id,
            input="x" * 20_000 if self._chance.random() < 0.02 else "asked", output=f"of {number}",
            sessionId="" if self._old else trace.session if self._chance.random() < 0.7 else "",
        )  # fmt: skip
        if not self._old and not settled and self._chance.random() < 0.01:
            story.odd = True
            row |= self._chance.choice(_ODDITIES)
        elif not settled and self._chance.random() < 0.004:
            self.poison.add(f"{self.prefix}{story.number}")
        self._at(shown, lambda: self._show(story, row))
        if not settled:
            self._plan_changes(story, length, shown)
        return story

    def _plan_changes(self, story: Story, length: float | None, shown: float) -> None:
        if length is None or story.odd or self._chance.random() > 0.12:
            return
        for _ in range(self._chance.choice([1, 1, 2])):
            limit = max(shown + 1, story.trace.limit)
            moment = self._chance.uniform(shown + 0.5, min(limit, shown + self._chance.choice([5, 60, 600])))
            changes: Row = {} if self._chance.random() < 0.8 else {"bookmarked": True}
            self._at(moment, lambda moment=moment, changes=changes: self._change(story, moment, changes))  # type: ignore[misc]

    def _tell_of(self, trace: Trace, start: float, *, shown: float) -> None:
        """Let a trace stand on the older API's list of them; of other ids than OpenTelemetry's that is a span."""
        assert trace.id is not None
        story = Story(trace, f"t-{trace.id}", start, next(self._numbers), hidden=trace.otel)
        self.stories[story.number] = story
        number = f"{self.prefix}{story.number}.1"
        item = v1_items.trace_item(
            trace.id, start=_iso(start), name=number, sessionId=trace.session or None, output=f"of {number}",
            createdAt=_iso(shown), updatedAt=_iso(shown), projectId=self.server.project_id,
        )  # fmt: skip
        self._at(shown, lambda: self._show(story, item))

    # What is done to the server

    def _at(self, moment: float, do: Callable[[], object]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), do))

    def _show(self, story: Story, row: Row) -> None:
        if story.trace.deleted:
            return
        story.states.append(row)
        if not isinstance(self.server, LangfuseV1):
            self.server.rows.add(row)
        elif story.id == f"t-{story.trace.id}":
            self.server.traces.replace(row)
        else:
            same = {key: row[key] for key in _ITEM_KEYS}
            item = v1_items.observation_item(
                row["traceId"], id=row["id"], start=row["startTime"], seconds=None, type=row["type"],
                endTime=row["endTime"], parent=row["parentObservationId"], **same,
            )  # fmt: skip
            self.server.observations.replace(item)

    def _change(self, story: Story, moment: float, changes: Row) -> None:
        """Give a row its next state; one that is only bookmarked says nothing new."""
        if story.trace.deleted or not story.states:
            return
        before = story.states[-1]
        row = before | {"updatedAt": _iso(moment)} | changes
        if "bookmarked" not in changes:
            stem, _, version = str(before["name"]).rpartition(".")
            name = f"{stem}.{int(version) + 1}"
            row |= {"name": name, "output": f"of {name}"}
        if self._old:
            self._show(story, row)
            return
        story.states.append(row)
        if self._chance.random() < 0.4:
            self.unmerged += 1
            self.server.rows.update(row, content=self._chance.choice(["old", "new"]))
        else:
            self.server.rows.replace(row)

    def _delete(self, trace: Trace) -> None:
        trace.deleted = True
        if isinstance(self.server, LangfuseV1):
            self.server.traces.remove(lambda item: item["id"] == trace.id)
            self.server.observations.remove(lambda item: item["traceId"] == trace.id)
        else:
            self.server.rows.remove(lambda row: row["traceId"] == trace.id)


def _iso(moment: float) -> str:
    return wire.iso(datetime.fromtimestamp(moment, UTC))
