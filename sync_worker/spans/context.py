"""What a trace's observations state of the trace as a whole, gathered so that every span can carry it.

Langfuse keeps session, user, tags, trace name and the like on the observations that set them, which may be only the
root or only a child. Kelet wants them on every span.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sync_worker.json_text import dump
from sync_worker.records import Observation
from sync_worker.spans.agent_names import agent_named_by
from sync_worker.spans.ids import source_parent_id, source_trace_id
from sync_worker.spans.langfuse_sdk.propagation import Propagated, propagated_by
from sync_worker.spans.overrides import NO_OVERRIDES, Overrides, value_of
from sync_worker.spans.restore import own_metadata

#: Kelet's own recursion gate: spans that carry such a key are not analysed.
RESERVED_KEY = "$kelet"
_MAX_AGENTS = 64
#: Attributes that show session and user: those that Langfuse reads, of which v1 shows no result on an observation
#: (OtelIngestionProcessor.ts, extractSessionId, extractUserId), and what Traceloop's `set_association_properties` was
#: stated, which it does not read. Flat as v2 shows them, and plain.
SESSION_KEYS = (
    "langfuse.session.id", "session.id", "gen_ai.conversation.id", "traceloop.association.properties.session_id"
)  # fmt: skip
USER_KEYS = ("langfuse.user.id", "user.id", "traceloop.association.properties.user_id")
_SESSION, _USER = ({f"attributes.{key}": key for key in keys} for keys in (SESSION_KEYS, USER_KEYS))
#: Bytes of JSON that are kept of one trace. Its root is looked up again for what is over, when observations come late.
MAX_STORED_BYTES = 8 * 1024
#: What is remembered first: without `id_kind` nobody knows which observation's end ends the trace.
_FIRST = ("id_kind", "session_id", "session_after", "user_id", "agent", "project", "trace_name", "root_name",
          "root_level", "environment", "release", "version", "public", "tags", "propagated", "agents",
          "metadata")  # fmt: skip


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
    agents: dict[str, str] = field(
        default_factory=dict
    )  # observation id → name, for observations that come without their ancestors
    propagated: Propagated = field(default_factory=Propagated)  # metadata of spans that Langfuse's SDKs wrote
    root_name: str | None = None
    root_level: str | None = None
    agent: str | None = None  # of all spans, by the settings
    project: str | None = None  # the Kelet project, by the settings
    session_after: int | None = None  # the session became known after this delivery: what went before lacks it
    root_seen: bool = False
    id_kind: str = ""  # "otel" while all observations but the synthetic root have OpenTelemetry's ids, else "other"

    def as_json(self) -> dict[str, Any]:
        """Return what is worth keeping, as plain JSON values, in MAX_STORED_BYTES.

        A field that does not fit is left out whole, and the root then counts as not seen: late observations look it up
        again, so that all spans of a trace state the same.
        """
        stored: dict[str, Any] = {}
        left, is_whole = MAX_STORED_BYTES, True
        for name in _FIRST:
            value = getattr(self, name)
            value = value.as_json() if isinstance(value, Propagated) else value
            if not value:
                continue
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
        values["propagated"] = Propagated.from_json(values.get("propagated", {}))
        return cls(trace_id=trace_id, **values)


def gather(
    trace_id: str,
    observations: Iterable[Observation],
    known: TraceContext | None = None,
    overrides: Overrides = NO_OVERRIDES,
    *,
    is_sent: bool = False,
) -> TraceContext:
    """Merge what observations state into what was known of their trace.

    Roots come first, then the others in the order of their start; what was known already stays, so that all spans of a
    trace state the same however its observations arrive. What `overrides` name changes no more once something of the
    trace `is_sent`.
    """
    context = TraceContext(trace_id) if known is None else replace(known, agents=dict(known.agents))
    observations = sorted(observations, key=_precedence)
    if overrides.any and not is_sent:
        _override(observations, context, overrides)
    real = [observation for observation in observations if not observation.is_synthetic_root]
    if real:
        is_otel = context.id_kind != "other" and all(observation.came_over_otel for observation in real)
        context.id_kind = "otel" if is_otel else "other"
    for observation in observations:
        if not overrides.session:
            context.session_id = context.session_id or session_of(observation)
        if not overrides.user:
            context.user_id = context.user_id or user_of(observation)
        context.trace_name = context.trace_name or observation.trace_name
        context.environment = context.environment or observation.environment
        context.release = context.release or observation.release
        context.version = context.version or observation.version
        context.tags = context.tags or observation.tags
        context.public = context.public or observation.public
        if observation.is_trace_root:
            context.root_seen = True
            if not is_hidden(observation, context.id_kind):  # that one bears the trace's name
                context.root_level = context.root_level or observation.level
                context.root_name = context.root_name or observation.name
            if not context.metadata:
                own = own_metadata(observation.metadata)
                context.metadata = {key: value for key, value in own.items() if not key.startswith(RESERVED_KEY)}
    _gather_agents(observations, context.agents)
    context.propagated = propagated_by(observations, context.propagated)
    return context


def is_hidden(observation: Observation, id_kind: str) -> bool:
    """Whether it is the synthetic root of a trace that OpenTelemetry wrote: a direct export had no such span."""
    return id_kind == "otel" and observation.is_synthetic_root


def filled(context: TraceContext, known: TraceContext) -> TraceContext:
    """Return a context with what it lacks taken from what was known."""
    lacking = {item.name: getattr(known, item.name) for item in fields(context) if not getattr(context, item.name)}
    return replace(context, **lacking)


def _override(observations: Iterable[Observation], context: TraceContext, overrides: Overrides) -> None:
    """Take what the settings name from the observations, by their precedence.

    What was known may come from an observation that comes after the root: the root counts all the same.
    """
    for wanted, field_name in (
        (overrides.session, "session_id"),
        (overrides.user, "user_id"),
        (overrides.agent, "agent"),
        (overrides.project, "project"),
    ):
        if not wanted:
            continue
        for observation in observations:
            if getattr(context, field_name) is not None and not observation.is_trace_root:
                break
            value = value_of(wanted, observation, session_of(observation), user_of(observation))
            if value is not None:
                setattr(context, field_name, value)
                break


def _gather_agents(observations: Iterable[Observation], agents: dict[str, str]) -> None:
    """Add the agents that observations name: first those who begin one, then those who repeat their parent's.

    Some instrumentations name it on every span; where a trace has one agent alone, the first of them will do.
    """
    named = {observation.id: name for observation in observations if (name := agent_named_by(observation))}
    if not named:
        return
    begins, repeats = dict[str, str](), dict[str, str]()
    for observation in observations:
        name = named.get(observation.id)
        if name is not None:
            above = (
                None
                if observation.parent_id is None
                else named.get(observation.parent_id) or agents.get(observation.parent_id)
            )
            (repeats if name == above else begins)[observation.id] = name
    are_several = len({*agents.values(), *begins.values()}) > 1
    for observation_id, name in (*begins.items(), *(repeats.items() if are_several else ())):
        if len(agents) < _MAX_AGENTS:
            agents.setdefault(observation_id, name)


def roots_of(observations: Iterable[Observation], id_kind: str = "") -> list[Observation]:
    """Return the observations whose end ends their trace.

    A synthetic root is one unless the trace came over OpenTelemetry, which shows in the observations or is known
    (`id_kind`): it is there as soon as the first span arrives, long before the real root.
    """
    real, synthetic = list[Observation](), list[Observation]()
    for observation in observations:
        (synthetic if observation.is_synthetic_root else real).append(observation)
    if id_kind == "otel" or any(observation.came_over_otel for observation in real):
        return [
            observation
            for observation in real
            if observation.is_root
            or source_parent_id(trace_of(observation), observation.id, observation.parent_id) is None
        ]
    return [observation for observation in (*synthetic, *real) if observation.is_trace_root]


def with_fields_of_trace(observation: Observation, context: TraceContext) -> Observation:
    """Return an observation with its trace's session, user, tags and the like, which v1 does not repeat on each."""
    if observation.api != "v1":
        return observation
    return replace(
        observation,
        session_id=observation.session_id or session_of(observation) or context.session_id,
        user_id=observation.user_id or user_of(observation) or context.user_id,
        trace_name=observation.trace_name or context.trace_name,
        release=observation.release or context.release,
        version=observation.version or context.version,
        tags=observation.tags or context.tags,
        public=observation.public or context.public,
    )


def session_of(observation: Observation) -> str | None:
    """Return the session that an observation names."""
    if observation.session_id:
        return _unquoted(observation.session_id, observation.metadata.get("langfuse_session_id"))
    return _attribute(observation, _SESSION)


def user_of(observation: Observation) -> str | None:
    """Return the user that an observation names."""
    if observation.user_id:
        return _unquoted(observation.user_id, observation.metadata.get("langfuse_user_id"))
    return _attribute(observation, _USER)


def _attribute(observation: Observation, keys: Mapping[str, str]) -> str | None:
    """Return the first of an observation's attributes that states something, whichever way the API shows them."""
    nested = observation.metadata.get("attributes")
    if not isinstance(nested, dict):
        if observation.metadata.keys().isdisjoint(keys):
            return None
        nested = {}
    for flat, key in keys.items():
        payload = observation.metadata.get(flat) or nested.get(key)
        if isinstance(payload, str | int) and not isinstance(payload, bool) and payload:
            return str(payload)
    return None


def _unquoted(text: str, payload: Any) -> str:
    """Take off the quotes that Langfuse leaves on an id from metadata, which Python's SDK 5 writes as JSON."""
    return payload if isinstance(payload, str) and payload and text == dump(payload) else text


def _precedence(observation: Observation) -> tuple[int, int, str]:
    rank = (
        0 if observation.is_synthetic_root else 1 if observation.parent_id is None else 2 if observation.is_root else 3
    )
    return rank, observation.start_ms, observation.id


def trace_of(observation: Observation) -> str:
    """Return the Langfuse trace id of an observation, made up where it has none."""
    return source_trace_id(observation.trace_id, observation.id)
