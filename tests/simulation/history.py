"""What a Langfuse project goes through: traces of many shapes, each row with the moments at which it can be seen."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sync_worker.demo.rowstore import Entry, to_ms
from sync_worker.demo.xxh32 import trace_hash
from tests.simulation.moments import HOUR, MINUTE, SECOND
from tests.simulation.plan import Plan
from tests.support import rows as wire

#: The environment that Langfuse is not asked for, and the settings of a seed with filters.
QUIET = "quiet"
FILTERS = {
    "SYNC_EXCLUDE_ENVIRONMENTS": f"{QUIET},judge-*",
    "SYNC_SAMPLE": "60%",
    "SYNC_SAMPLE_ERRORS": "true",
}
#: Where the addresses of people are, which redaction lets nobody see, and the settings of a seed with it.
PEOPLE = "@people.example"
REDACTION = {"SYNC_REDACT": "email"}
#: No row shows up so shortly before the deepest look-back of its trace ends, or later.
_MARGIN = 15 * MINUTE


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = {"a": value}
    return value


#: What of a row is replaced to make it odd.
_ODDITIES: dict[str, dict[str, Any]] = {
    "metadata nested 200 deep": {"metadata": {"deep": _nested(200)}},
    "metadata nested 490 deep": {"metadata": {"deep": _nested(490)}},
    "metadata nested 700 deep": {"metadata": {"deep": _nested(700)}},
    "a start that is no time": {"startTime": "yesterday"},
    "half a character in the session": {"sessionId": "chat-\ud83d"},
    "half a character in the user": {"userId": "\udc00"},
    "half a character in the content": {"output": "\ud83d"},
    "values of other types": {"level": 17, "tags": "none", "usageDetails": {"input": "many"}, "modelParameters": "x"},
    "an end in another form": {"endTime": {"seconds": 1}},
    "input nested deep": {"input": "[" * 5_000 + "]" * 5_000},
}


def label(name: str, output: str) -> str:
    """Return what tells a state of a span from others: its name, and what it answered."""
    return f"{name} {output}".rstrip()


@dataclass(slots=True, eq=False)
class Version:
    """A state of a row. Its name, which is exported, is that of no other state unless nothing exported changed."""

    story: RowStory
    name: str
    row: dict[str, Any]
    shown: int  # when it can be seen
    gone: int | None = None  # when it cannot be seen any more
    copies: int = 1

    @property
    def label(self) -> str:
        """Return what tells a span of this state from others."""
        return label(self.name, self.row["output"] or "")

    def seen(self, moment: int) -> bool:
        """Whether the server lists it."""
        return self.shown <= moment and (self.gone is None or moment < self.gone)


@dataclass(frozen=True, slots=True)
class Listed:
    """A state in a listing; a copy of one is merged with it at `merged`."""

    entry: Entry
    version: Version
    merged: int | None = None

    def seen(self, moment: int) -> bool:
        """Whether the server lists it."""
        return self.version.seen(moment) and (self.merged is None or moment < self.merged)


@dataclass(slots=True, eq=False)
class RowStory:
    """A row from its first to its last state."""

    trace: TraceStory
    id: str
    start: int
    number: int
    parent: str | None = None
    versions: list[Version] = field(default_factory=list)
    hidden: bool = False  # the made-up root of a trace that came over OpenTelemetry
    unservable: bool = False  # the server breaks over its content

    odd: str = ""  # in what way it breaks parsers

    def latest(self, moment: int) -> Version | None:
        """Return the newest state shown by then."""
        return next((version for version in reversed(self.versions) if version.shown <= moment), None)

    @property
    def is_trace(self) -> bool:
        """Whether it stands for what a trace says of itself."""
        return self.trace.id is not None and self.id == "t-" + self.trace.id

    @property
    def key(self) -> tuple[str, str]:
        """Return trace id, made up where there is none, and row id."""
        return self.trace.id if self.trace.id is not None else "obs:" + self.id, self.id


@dataclass(slots=True, eq=False)
class TraceStory:
    """A trace, and when it was deleted."""

    id: str | None
    start: int
    limit: int  # nothing of it shows up later
    source: int = 0
    session: str = ""
    user: str = ""
    deleted: int | None = None
    environment: str = "default"
    rows: list[RowStory] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """All traces; `listed` is every state in the order of the server, newest first."""

    traces: list[TraceStory] = field(default_factory=list)
    listed: list[Listed] = field(default_factory=list)
    poison: set[str] = field(default_factory=set)  # names of states that Kelet refuses
    stuck: set[str] = field(default_factory=set)  # names of states on which Kelet answers 500

    @property
    def rows(self) -> list[RowStory]:
        """All rows."""
        return [row for trace in self.traces for row in trace.rows]

    @property
    def last_moment(self) -> int:
        """Return when anything changes for the last time."""
        moments = [version.shown for row in self.rows for version in row.versions]
        moments += [version.gone for row in self.rows for version in row.versions if version.gone is not None]
        return max(moments, default=0)


class Author:
    """Writes the history of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._chance = random.Random(f"history {plan.seed}")
        self._number = 0
        self._source = 0
        self.history = History()

    def write(self) -> History:
        """Write the whole history."""
        shapes = [
            self._short, self._short, self._short, self._long, self._orphans, self._roots, self._events, self._open,
            self._no_trace, self._gaps, self._on_the_border,
        ]  # fmt: skip
        if not self._plan.has("v1"):
            shapes.append(self._dual)
        for source in range(self._plan.sources):
            self._source = source
            for _ in range(self._plan.traces):
                self._chance.choice(shapes)()
        if self._plan.has("v1"):
            for trace in self.history.traces:
                self._say_of_itself(trace)
        for trace in self.history.traces:
            self._change(trace)
            self._delete(trace)
        if self._plan.has("filters"):
            self._draw_fields(random.Random(f"filters {self._plan.seed}"))
        if self._plan.has("redaction"):
            self._name_people()
        if self._plan.has("odd rows"):
            self._make_odd()
        self._poison()
        if self._plan.has("stuck"):
            self._make_stuck()
        self._list()
        return self.history

    def come_late(self, start: int, shown: int) -> RowStory:
        """Add a row that shows up long after its start."""
        trace, otel = self._trace(start)
        row = self._row(trace, otel, start, SECOND, parent=None, shown=shown)
        self._list()
        return row

    def _draw_fields(self, chance: random.Random) -> None:
        """Give traces the fields that decide on them, and some rows an error."""
        for trace in self.history.traces:
            trace.environment = chance.choice(["default", "default", "default", QUIET, "judge-1"])
            for row in trace.rows:
                level = "ERROR" if chance.random() < 0.07 else "DEFAULT"
                for version in row.versions:
                    version.row |= {"environment": trace.environment, "level": level}

    def _name_people(self) -> None:
        """Let the addresses of people stand in whatever a row has but its output, which tells its states apart."""
        for number, trace in enumerate(self.history.traces):
            trace.user = f"user-{number % 3}{PEOPLE}"
            for row in trace.rows:
                for version in row.versions:
                    asked = f"{version.row['input']} of row-{row.number}{PEOPLE}"
                    version.row |= {"userId": trace.user, "input": asked, "statusMessage": f"asked {trace.user}"}
                    version.row |= {"metadata": {"owner": trace.user, f"key-of-owner{PEOPLE}": {"deep": [trace.user]}}}
                    version.row |= {"tags": [trace.user], "traceName": f"chat of {trace.user}"}

    # Shapes of traces

    def _short(self) -> None:
        trace, otel = self._trace()
        seconds = self._chance.randint(2, 60)
        self._tree(trace, otel, trace.start, seconds * SECOND)

    def _long(self) -> None:
        trace, otel = self._trace()
        self._tree(trace, otel, trace.start, self._chance.randint(1, 70) * (trace.limit - trace.start) // 100)

    def _orphans(self) -> None:
        trace, otel = self._trace()
        for _ in range(self._chance.randint(1, 4)):
            self._row(trace, otel, trace.start + self._seconds(120), self._seconds(20), parent=self._row_id(otel))

    def _roots(self) -> None:
        trace, otel = self._trace()
        for _ in range(self._chance.randint(2, 3)):
            start = trace.start + self._chance.randrange((trace.limit - trace.start) // 4)
            self._tree(trace, otel, start // SECOND * SECOND, self._seconds(60))

    def _events(self) -> None:
        trace, otel = self._trace()
        root = self._tree(trace, otel, trace.start, self._seconds(60))
        for _ in range(self._chance.randint(1, 3)):
            self._row(trace, otel, trace.start + self._seconds(60), None, parent=root.id, type="EVENT")
        if self._chance.random() < 0.3:
            self._row(trace, otel, trace.start, None, parent=None, type="EVENT")

    def _open(self) -> None:
        """Rows that are seen before they end, and end late or never."""
        trace, otel = self._trace()
        root = self._tree(trace, otel, trace.start, self._seconds(60))
        for _ in range(self._chance.randint(1, 2)):
            parent = self._chance.choice([None, root.id, root.id])
            row = self._row(trace, otel, trace.start + self._seconds(30), None, parent=parent, type="GENERATION")
            if self._chance.random() < 0.7:
                end = self._later(row.versions[-1].shown, trace)
                self._next(row, end, {"endTime": iso(end - SECOND)}, exported=True)

    def _no_trace(self) -> None:
        for _ in range(self._chance.randint(1, 3)):
            start = self._start()
            trace = TraceStory(None, start, self._limit(start), self._source)
            self.history.traces.append(trace)
            ended = self._seconds(60) if self._chance.random() < 0.8 else None
            parent = self._row_id(otel=True) if self._chance.random() < 0.5 else None
            self._row(trace, self._chance.random() < 0.5, start, ended, parent=parent)

    def _dual(self) -> None:
        """A root that Langfuse makes of the trace shows up 10 to 15 minutes late."""
        trace, otel = self._trace()
        assert trace.id is not None
        root = self._tree(trace, otel, trace.start, self._seconds(60), parent="t-" + trace.id)
        made = self._row(
            trace, otel, min(row.start for row in trace.rows), None, parent=None, id="t-" + trace.id,
            shown=trace.start + self._chance.randint(10 * MINUTE, 15 * MINUTE),
        )  # fmt: skip
        made.hidden = otel
        if self._chance.random() < 0.5:
            root.versions[0].row["sessionId"] = ""
            made.versions[0].row["sessionId"] = trace.session

    def _say_of_itself(self, trace: TraceStory) -> None:
        """Let a trace stand on its own list; it alone bears the session there, and is the root of what has none."""
        if trace.id is None:
            return
        otel = len(trace.id) == 32
        self._source = trace.source
        shown = min(row.versions[0].shown for row in trace.rows)
        made = self._row(
            trace, otel, min(row.start for row in trace.rows), None, parent=None, id="t-" + trace.id, shown=shown
        )
        made.parent, made.hidden = None, otel
        for row in trace.rows:
            if row is not made:
                for version in row.versions:
                    version.row["sessionId"] = ""
                    version.row["isRootObservation"] = otel and row.parent is None
                if row.parent is None and not otel:
                    row.parent = "t-" + trace.id
        made.versions[0].row["sessionId"] = trace.session

    def _gaps(self) -> None:
        """Children that begin long after their trace's root has gone."""
        trace, otel = self._trace()
        root = self._tree(trace, otel, trace.start, self._seconds(30))
        for _ in range(self._chance.randint(1, 3)):
            start = trace.start + self._chance.randrange((trace.limit - trace.start) // 2)
            self._row(trace, otel, start, self._seconds(60), parent=root.id)

    def _on_the_border(self) -> None:
        """Rows that begin within a millisecond of where a cycle's interval ends."""
        moment = self._chance.choice(self._plan.cycles) - self._plan.settle + self._chance.choice([-1, -1, 0, 0, 1])
        trace, otel = self._trace(moment)
        self._row(trace, otel, moment, 2 * SECOND, parent=None, shown=moment + 3 * SECOND)

    # Their parts

    def _trace(self, start: int | None = None) -> tuple[TraceStory, bool]:
        kind = self._chance.choice(["otel", "otel", "uuid", "free"])
        trace_id = {
            "otel": f"{self._chance.getrandbits(128) | 1:032x}",
            "uuid": str(uuid.UUID(int=self._chance.getrandbits(128))),
            "free": f"chat/{self._chance.getrandbits(40)} é%&",
        }[kind]
        begun = self._start() if start is None else start
        trace = TraceStory(trace_id, begun, self._limit(begun), self._source)
        if self._chance.random() < 0.6:
            trace.session = f"session-{len(self.history.traces)}"
        self.history.traces.append(trace)
        return trace, kind == "otel"

    def _tree(self, trace: TraceStory, otel: bool, start: int, length: int, parent: str | None = None) -> RowStory:
        root = self._row(trace, otel, start, length, parent=parent, type="AGENT", root=parent is None)
        parents = [root.id]
        for _ in range(self._chance.choice([0, 1, 2, 3, 4, 9])):
            begun = start + self._chance.randrange(max(1, length // SECOND)) * SECOND
            took = self._chance.randrange(max(1, (start + length - begun) // SECOND)) * SECOND
            child = self._row(trace, otel, begun, took, parent=self._chance.choice(parents))
            parents.append(child.id)
        if trace.session and self._chance.random() < 0.8:
            bearer = self._chance.choice([root, root, self._chance.choice(trace.rows)])
            bearer.versions[0].row["sessionId"] = trace.session
        return root

    def _row(
        self, trace: TraceStory, otel: bool, start: int, length: int | None, *, parent: str | None,
        id: str | None = None, type: str = "SPAN", root: bool = True, shown: int | None = None,  # noqa: A002
    ) -> RowStory:  # fmt: skip
        story = RowStory(trace, id or self._row_id(otel), start, self._number, parent)
        self._number += 1
        if parent is None and self._chance.random() < 0.03:
            story.parent = story.id  # its own parent
        end = None if length is None else start + length
        shown = shown or self._later(start if end is None else end, trace)
        written = self._chance.choice([shown - SECOND, shown, end or start])
        row = wire.row(
            trace=trace.id, id=story.id, start=moment(start), parent=story.parent, name=f"row{story.number}.1",
            type=type, endTime=None if end is None else iso(end), updatedAt=iso(written), createdAt=iso(written),
            isRootObservation=parent is None and root, input=self._content(), projectId=f"h1-proj-{self._source}",
        )  # fmt: skip
        version = Version(story, row["name"], row, shown, copies=2 if self._chance.random() < 0.05 else 1)
        story.versions.append(version)
        trace.rows.append(story)
        return story

    def _content(self) -> str:
        return "x" * 20_000 if self._chance.random() < 0.02 else f"asked {self._chance.getrandbits(30)}"

    def _change(self, trace: TraceStory) -> None:
        for row in trace.rows:
            while self._chance.random() < 0.12:
                shown = self._later(row.versions[-1].shown + SECOND, trace)
                if self._chance.random() < 0.7:
                    self._next(row, shown, {"output": f"answered {self._chance.getrandbits(30)}"}, exported=True)
                else:
                    self._next(row, shown, {"bookmarked": True}, exported=False)

    def _next(self, row: RowStory, shown: int, changes: dict[str, Any], *, exported: bool) -> None:
        """Give a row its next state; the one before may stay beside it for a while, unmerged."""
        before = row.versions[-1]
        shown = max(shown, before.shown + SECOND)
        name = f"row{row.number}.{len(row.versions) + 1}" if exported else before.name
        updated = max(shown - SECOND, to_ms(before.row["updatedAt"]) + SECOND)
        beside = self._chance.randint(1, 40) * MINUTE if self._chance.random() < 0.3 else 0
        before.gone = max(shown, min(shown + beside, row.trace.limit))
        row.versions.append(Version(row, name, before.row | changes | {"name": name, "updatedAt": iso(updated)}, shown))

    def _delete(self, trace: TraceStory) -> None:
        if self._chance.random() >= 0.04:
            return
        trace.deleted = trace.start + self._chance.randrange(2 * HOUR)
        for row in trace.rows:
            for version in row.versions:
                version.gone = min(version.gone or trace.deleted, trace.deleted)

    def _poison(self) -> None:
        names = [version.name for row in self.history.rows for version in row.versions]
        if names and self._chance.random() < 0.3:
            self.history.poison.update(self._chance.choices(names, k=self._chance.randint(1, 3)))
        if self.history.rows and self._chance.random() < 0.1:
            self._chance.choice(self.history.rows).unservable = True

    def _make_odd(self) -> None:
        """Make some rows such that parsers break over them."""
        rows = [row for row in self.history.rows if not row.hidden and not row.unservable]
        for row in self._chance.sample(rows, k=min(len(rows), self._chance.randint(1, 4))):
            row.odd = self._chance.choice(list(_ODDITIES))
            for version in row.versions:
                version.row.update(_ODDITIES[row.odd])

    def _make_stuck(self) -> None:
        names = [version.name for row in self.history.rows for version in row.versions]
        self.history.stuck.update(self._chance.choices(names, k=self._chance.randint(1, 2)))
        for minutes in (20, 60, 100):  # what Kelet takes later proves that it is those spans
            self._source = self._chance.randrange(self._plan.sources)
            start = (max(self._plan.end, self.history.last_moment) // SECOND * SECOND) + minutes * MINUTE
            trace, otel = self._trace(start)
            self._row(trace, otel, start, SECOND, parent=None, shown=start + 3 * SECOND)
            if self._plan.has("v1"):
                self._say_of_itself(trace)

    def _list(self) -> None:
        listed: list[Listed] = []
        for row in self.history.rows:
            for version in row.versions:
                end = None if row.odd else version.row["endTime"]
                for number in range(version.copies):
                    key = (row.start, trace_hash(row.trace.id), row.id, -len(listed))
                    entry = Entry(key, version.row, None if end is None else to_ms(end))
                    merged = version.shown + self._chance.randint(1, 40) * MINUTE if number else None
                    listed.append(Listed(entry, version, merged))
        self.history.listed = sorted(listed, key=lambda item: item.entry.key, reverse=True)

    # Chance

    def _start(self) -> int:
        first = self._plan.begin - self._plan.look_back
        early = first - 4 * HOUR
        since = self._chance.choice([early, first, self._plan.begin, self._plan.begin])
        return self._chance.randrange(since // SECOND, self._plan.end // SECOND) * SECOND

    def _limit(self, start: int) -> int:
        return start + self._plan.deepest - _MARGIN

    def _seconds(self, most: int) -> int:
        return self._chance.randint(0, most) * SECOND

    def _later(self, moment_ms: int, trace: TraceStory) -> int:
        """Return when something that happened is seen: mostly soon, sometimes as late as may be."""
        left = max(SECOND, trace.limit - moment_ms)
        delay = self._chance.choice(
            [
                self._chance.randint(0, 5 * SECOND), self._chance.randint(0, 20 * SECOND),
                self._chance.randint(0, 20 * SECOND), self._chance.randint(0, 20 * SECOND),
                self._chance.randint(0, 15 * MINUTE), self._chance.randint(0, left),
            ]
        )  # fmt: skip
        return moment_ms + min(delay, left)

    def _row_id(self, otel: bool) -> str:
        if otel:
            return f"{self._chance.getrandbits(64) | 1:016x}"
        return self._chance.choice(
            [str(uuid.UUID(int=self._chance.getrandbits(128))), f"{self._chance.getrandbits(40)}:ü"]
        )


def moment(moment_ms: int) -> datetime:
    """Return Unix milliseconds as a time."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC)


def iso(moment_ms: int) -> str:
    """Return Unix milliseconds in the form of the wire."""
    return wire.iso(moment(moment_ms))
