"""What a trace's rows say of the trace as a whole, gathered so that every span can carry it.

Langfuse keeps session, user, tags, trace name and the like on the rows that set them, which may be only the root or
only a child. Kelet wants them on every span.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from sync_worker.json_text import dump
from sync_worker.records import Observation
from sync_worker.spans.agent_names import agent_named_by
from sync_worker.spans.ids import source_parent_id, source_trace_id
from sync_worker.spans.langfuse_sdk.propagation import HandedDown, handed_down
from sync_worker.spans.overrides import NO_OVERRIDES, Overrides, value_of
from sync_worker.spans.restore import own_metadata

#: Kelet's own recursion gate: spans that carry such a key are not analysed.
RESERVED_KEY = "$kelet"
_MAX_AGENTS = 64
#: Attributes that tell session and user: those that Langfuse reads, of which v1 shows no result on an observation
#: (OtelIngestionProcessor.ts, extractSessionId, extractUserId), and what Traceloop's `set_association_properties` was
#: told, which it does not read. Flat as v2 shows them, and plain.
SESSION_KEYS = (
    "langfuse.session.id", "session.id", "gen_ai.conversation.id", "traceloop.association.properties.session_id"
)  # fmt: skip
USER_KEYS = ("langfuse.user.id", "user.id", "traceloop.association.properties.user_id")
_SESSION, _USER = ({f"attributes.{key}": key for key in keys} for keys in (SESSION_KEYS, USER_KEYS))
#: Bytes of JSON that are remembered of one trace. What is over is asked of its root again when rows of it come late.
MAX_STORED_BYTES = 8 * 1024
#: What is remembered first: without `rows_are` nobody knows which row's end ends the trace.
_FIRST = ("rows_are", "session_id", "user_id", "agent", "project", "trace_name", "root_name", "root_level",
          "environment", "release", "version", "public", "tags", "handed_down", "agents", "metadata")  # fmt: skip


@dataclass(slots=True)
class TraceContext:
    """The trace-level fields of one trace; None and empty mean not seen yet."""

    trace_id: str
    session_id: str | None = None
    user_id: str | None = None
    trace_name: str | None = None
    environment: str | None = None
    release: str | None = None
    version: str | None = None
    tags: tuple[str, ...] = ()
    public: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)  # row id → name, for rows that come without their ancestors
    handed_down: HandedDown = field(default_factory=HandedDown)  # metadata of spans that Langfuse's SDKs wrote
    root_name: str | None = None
    root_level: str | None = None
    agent: str | None = None  # of all spans, by the settings
    project: str | None = None  # the Kelet project, by the settings
    root_seen: bool = False
    rows_are: str = ""  # "otel" while all rows but the synthetic root have OpenTelemetry's ids, else "other"

    def as_json(self) -> dict[str, Any]:
        """Return what is worth keeping, as plain JSON values, in MAX_STORED_BYTES.

        A field that does not fit is left out whole, and the root then counts as not seen: late rows look it up again,
        so that all spans of a trace say the same.
        """
        stored: dict[str, Any] = {}
        left, is_whole = MAX_STORED_BYTES, True
        for name in _FIRST:
            value = getattr(self, name)
            if not value or value == HandedDown():
                continue
            value = asdict(value) if isinstance(value, HandedDown) else value
            size = len(json.dumps(value)) + len(name) + len('"": , ')
            if size > left:
                is_whole = False
                continue
            left -= size
            stored[name] = value
        if self.root_seen and is_whole:
            stored["root_seen"] = True
        return stored

    @classmethod
    def from_json(cls, trace_id: str, stored: Mapping[str, Any]) -> TraceContext:
        """Read back what `as_json` gave; keys of another version are passed over."""
        known = {item.name for item in fields(cls)} - {"trace_id"}
        values = {name: value for name, value in stored.items() if name in known}
        values["tags"] = tuple(values.get("tags", ()))
        values["handed_down"] = HandedDown.from_json(values.get("handed_down", {}))
        return cls(trace_id=trace_id, **values)


def gather(
    trace_id: str,
    rows: Iterable[Observation],
    known: TraceContext | None = None,
    overrides: Overrides = NO_OVERRIDES,
    *,
    is_sent: bool = False,
) -> TraceContext:
    """Merge what rows say into what was known of their trace.

    Roots speak first, then the others in the order of their start; what was known already stays, so that all spans
    of a trace say the same however its rows arrive. What `overrides` name changes no more once something of the trace
    `is_sent`.
    """
    context = TraceContext(trace_id) if known is None else replace(known, agents=dict(known.agents))
    rows = sorted(rows, key=_speaking_order)
    if overrides.any and not is_sent:
        _override(rows, context, overrides)
    real = [row for row in rows if not row.is_synthetic_root]
    if real:
        is_otel = context.rows_are != "other" and all(row.came_over_otel for row in real)
        context.rows_are = "otel" if is_otel else "other"
    for row in rows:
        if not overrides.session:
            context.session_id = context.session_id or session_of(row)
        if not overrides.user:
            context.user_id = context.user_id or user_of(row)
        context.trace_name = context.trace_name or row.trace_name
        context.environment = context.environment or row.environment
        context.release = context.release or row.release
        context.version = context.version or row.version
        context.tags = context.tags or row.tags
        context.public = context.public or row.public
        if row.is_trace_root:
            context.root_seen = True
            if not (row.is_synthetic_root and context.rows_are == "otel"):
                context.root_level = context.root_level or row.level
            if not (row.is_synthetic_root and context.rows_are == "otel"):  # that one bears the trace's name
                context.root_name = context.root_name or row.name
            if not context.metadata:
                context.metadata = _trace_metadata(row)
    _gather_agents(rows, context.agents)
    context.handed_down = handed_down(rows, context.handed_down)
    return context


def filled(context: TraceContext, known: TraceContext) -> TraceContext:
    """Return a context with what it lacks taken from what was known."""
    lacking = {item.name: getattr(known, item.name) for item in fields(context) if not getattr(context, item.name)}
    return replace(context, **lacking)


def _override(rows: Iterable[Observation], context: TraceContext, overrides: Overrides) -> None:
    """Take what the settings name from the rows, in the order in which they speak.

    What was known may come from a row that speaks after the root: the root is heard all the same.
    """
    for wanted, field_name in (
        (overrides.session, "session_id"),
        (overrides.user, "user_id"),
        (overrides.agent, "agent"),
        (overrides.project, "project"),
    ):
        if not wanted:
            continue
        for row in rows:
            if getattr(context, field_name) is not None and not row.is_trace_root:
                break
            value = value_of(wanted, row, session_of(row), user_of(row))
            if value is not None:
                setattr(context, field_name, value)
                break


def _gather_agents(rows: Iterable[Observation], agents: dict[str, str]) -> None:
    """Add the agents that rows name: first those who begin one, then those who repeat their parent's.

    Some instrumentations name it on every span; where a trace has one agent alone, the first of them will do.
    """
    named = {row.id: name for row in rows if (name := agent_named_by(row))}
    if not named:
        return
    begins, repeats = dict[str, str](), dict[str, str]()
    for row in rows:
        name = named.get(row.id)
        if name is not None:
            above = None if row.parent_id is None else named.get(row.parent_id) or agents.get(row.parent_id)
            (repeats if name == above else begins)[row.id] = name
    are_several = len({*agents.values(), *begins.values()}) > 1
    for row_id, name in (*begins.items(), *(repeats.items() if are_several else ())):
        if len(agents) < _MAX_AGENTS:
            agents.setdefault(row_id, name)


def roots_of(rows: Iterable[Observation], rows_are: str = "") -> list[Observation]:
    """Return the rows whose end ends their trace.

    A synthetic root is one unless the trace came over OpenTelemetry, which shows in the rows or is known (`rows_are`):
    it is there as soon as the first span arrives, long before the real root.
    """
    real, synthetic = list[Observation](), list[Observation]()
    for row in rows:
        (synthetic if row.is_synthetic_root else real).append(row)
    if rows_are == "otel" or any(row.came_over_otel for row in real):
        return [row for row in real if row.is_root or source_parent_id(trace_of(row), row.id, row.parent_id) is None]
    return [row for row in (*synthetic, *real) if row.is_trace_root]


def with_fields_of_trace(row: Observation, context: TraceContext) -> Observation:
    """Return a row with what its trace says of session, user, tags and the like, which v1 does not repeat on rows."""
    if row.api != "v1":
        return row
    return replace(
        row,
        session_id=row.session_id or session_of(row) or context.session_id,
        user_id=row.user_id or user_of(row) or context.user_id,
        trace_name=row.trace_name or context.trace_name,
        release=row.release or context.release,
        version=row.version or context.version,
        tags=row.tags or context.tags,
        public=row.public or context.public,
    )


def session_of(row: Observation) -> str | None:
    """Return the session that a row names."""
    if row.session_id:
        return _unquoted(row.session_id, row.metadata.get("langfuse_session_id"))
    return _attribute(row, _SESSION)


def user_of(row: Observation) -> str | None:
    """Return the user that a row names."""
    if row.user_id:
        return _unquoted(row.user_id, row.metadata.get("langfuse_user_id"))
    return _attribute(row, _USER)


def _attribute(row: Observation, keys: Mapping[str, str]) -> str | None:
    """Return the first of a row's attributes that says something, whichever way the API shows them."""
    nested = row.metadata.get("attributes")
    if not isinstance(nested, dict):
        if row.metadata.keys().isdisjoint(keys):
            return None
        nested = {}
    for flat, key in keys.items():
        said = row.metadata.get(flat) or nested.get(key)
        if isinstance(said, str | int) and not isinstance(said, bool) and said:
            return str(said)
    return None


def _unquoted(text: str, said: Any) -> str:
    """Take off the quotes that Langfuse leaves on an id from metadata, which Python's SDK 5 writes as JSON."""
    return said if isinstance(said, str) and said and text == dump(said) else text


def _speaking_order(row: Observation) -> tuple[int, int, str]:
    rank = 0 if row.is_synthetic_root else 1 if row.parent_id is None else 2 if row.is_root else 3
    return rank, row.start_ms, row.id


def _trace_metadata(row: Observation) -> dict[str, Any]:
    return {key: value for key, value in own_metadata(row.metadata).items() if not key.startswith(RESERVED_KEY)}


def trace_of(row: Observation) -> str:
    """Return the Langfuse trace id of a row, made up where it has none."""
    return source_trace_id(row.trace_id, row.id)
