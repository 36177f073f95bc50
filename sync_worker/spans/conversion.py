"""One trace's observations become spans: ids, parents, times, status, attributes, resource and scope."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from sync_worker.json_text import parse
from sync_worker.records import Observation
from sync_worker.spans.context import (
    RESERVED_KEY,
    SESSION_KEYS,
    USER_KEYS,
    TraceContext,
    is_hidden,
    with_fields_of_trace,
)
from sync_worker.spans.conventions import rebuilt
from sync_worker.spans.conventions.convention import Rebuilt
from sync_worker.spans.exceptions import error_type, exception
from sync_worker.spans.genai import GUESSED, genai_attributes
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id
from sync_worker.spans.instrumentations import ERROR, status_of
from sync_worker.spans.kinds import kind_of
from sync_worker.spans.langfuse_attributes import identity_attributes, langfuse_fields, metadata_attributes
from sync_worker.spans.langfuse_sdk.attributes import TRACE_INPUT, TRACE_OUTPUT
from sync_worker.spans.langfuse_sdk.sdks import sdk_of
from sync_worker.spans.overrides import Overrides
from sync_worker.spans.restore import Originals, take_apart
from sync_worker.spans.retrieval import QUERY
from sync_worker.spans.sizes import MAX_KEY_BYTES, cut_text, cut_value, within
from sync_worker.spans.span_model import Attributes, Conversion, Event, Scope, SharedAttributes, Span, shared, unshared
from sync_worker.spans.span_names import name_of
from sync_worker.spans.tree import Agents, depths_of, ends_of, in_tree_order, parents_of

#: Attributes of our own, for what the worker did to an observation.
SOURCE = "kelet.source.langfuse."
_PROJECT = "kelet.project"  # from the routing alone
_OF_KELET = "kelet."

#: Scope names that would send a span down Kelet's path for Claude Code.
_RESERVED_SCOPES = ("com.anthropic.claude_code", "kelet.claude_agent_sdk")
_DEFAULT_SCOPE = "langfuse-sdk"

#: What Kelet groups spans by: sent with every profile.
_ALWAYS_DERIVED = frozenset({"gen_ai.agent.name"})

_NS_PER_MS = 1_000_000

_HELD = 16  # resources and scopes that are held for the traces that follow
_SMALL = 16_384  # characters of those that are: memory must not depend on what strangers write

#: What `metadata.<key>` of an observation follows from, beside its trace.
_Stamp = tuple[str | None, str | None, str | None, tuple[str, ...], str]


@dataclass(slots=True)
class _Trace:
    """What all observations of a conversion share."""

    context: TraceContext
    project: str
    options: Conversion
    notes: Counter[str]
    shown_id: str  # the trace's, as attributes show it
    ids: dict[str, str] = field(default_factory=dict)  # of the trace as it goes out, by Langfuse project
    stamps: dict[_Stamp, Attributes] = field(default_factory=dict)
    origins: dict[tuple[int, int], tuple[Originals, SharedAttributes, Scope]] = field(default_factory=dict)

    def otlp_id(self, project_id: str) -> str:
        """Return the trace's id as it goes out."""
        found = self.ids.get(project_id)
        if found is None:
            found = self.ids[project_id] = otlp_trace_id(project_id, self.context.trace_id)
        return found

    def origin(self, originals: Originals) -> tuple[SharedAttributes, Scope]:
        """Return the resource and scope to send, the same for all observations that came from the same."""
        key = (id(originals.resource), id(originals.scope))
        found = self.origins.get(key)
        if found is None:  # with what it was made of, which must live as long as its identity is the key
            found = self.origins[key] = (originals, *_ORIGINS.of(originals, self))
        return found[1:]

    def metadata(self, observation: Observation) -> Attributes:
        """Return `metadata.<key>` of an observation, which most observations of a trace have in common."""
        key = (
            observation.environment,
            observation.release,
            observation.version,
            observation.tags,
            observation.project_id,
        )
        found = self.stamps.get(key)
        if found is None:
            url = _trace_url(observation, self.shown_id, self.options)
            found = self.stamps[key] = metadata_attributes(observation, self.context, self.shown_id, url)
        return found


class _Origins:
    """Resources and scopes as they go out, by the identity of what they are made of; those of the last few origins.

    Traces by the thousand come from the same process, so that theirs are made, and serialised, once.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[int, int, int, str], tuple[Originals, Conversion, SharedAttributes, Scope]] = {}

    def of(self, originals: Originals, trace: _Trace) -> tuple[SharedAttributes, Scope]:
        """Return the resource and scope of spans of a trace."""
        key = (id(originals.resource), id(originals.scope), id(trace.options), trace.project)
        found = self._last.get(key)
        if found is not None:
            return found[2:]
        resource = shared(_cut(_resource(originals, trace.project, trace.context, trace.options), trace.options))
        scope = _scope(originals.scope, trace.options)
        if originals.resource and _size(resource) + _size(scope.attributes) <= _SMALL:  # else it is the trace's own
            if len(self._last) >= _HELD:
                self._last.clear()
            self._last[key] = originals, trace.options, resource, scope
        return resource, scope


_ORIGINS = _Origins()


def _size(attributes: SharedAttributes) -> int:
    return sum(len(key) + len(str(value)) for key, value in attributes.items())


@dataclass(slots=True)
class Converted:
    """The spans of one trace, root first, beside the observations they came from, and what was noticed on the way."""

    spans: list[tuple[Observation, Span]] = field(default_factory=list)
    dropped: list[Observation] = field(default_factory=list)  # synthetic roots that a direct export would not have
    failed: list[tuple[Observation, Exception]] = field(default_factory=list)  # observations that break the conversion
    notes: Counter[str] = field(default_factory=Counter)


def convert(
    observations: Sequence[Observation],
    context: TraceContext,
    project: str,
    options: Conversion,
    ancestors: Sequence[Observation] = (),
) -> Converted:
    """Convert observations of one trace; `ancestors` are observations of it that are at hand but not to be sent."""
    result = Converted()
    everything = {observation.id: observation for observation in (*ancestors, *observations)}
    hidden = next((observation for observation in everything.values() if is_hidden(observation, context.id_kind)), None)
    parents = parents_of(context.trace_id, everything, result.notes)
    depths = depths_of(everything.values(), parents)
    ends = ends_of(everything, parents, depths)
    effective_root = None if hidden is None else _effective_root(hidden, everything, parents)
    trace = _Trace(context, project, options, result.notes, options.show_id(context.trace_id))
    agents = Agents(everything, parents, context)
    for observation in in_tree_order(observations, parents, depths):
        if hidden is not None and observation.id == hidden.id:
            result.dropped.append(observation)
            continue
        try:
            stated = observation
            if hidden is not None and observation.id == effective_root:
                stated = _with_trace_io(observation, hidden)
            stated = with_fields_of_trace(stated, context)
            span = _span(
                stated, parents[observation.id], ends[observation.id], context.agent or agents.of(observation), trace
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this observation alone
            result.failed.append((observation, error))
        else:
            result.spans.append((observation, span))
    return result


def _span(observation: Observation, parent: str | None, end_ms: int, agent: str | None, trace: _Trace) -> Span:
    context, options = trace.context, trace.options
    originals = take_apart(observation.metadata, observation.version)
    trace_id = trace.otlp_id(observation.project_id)
    span_id = otlp_span_id(observation.project_id, context.trace_id, observation.id)
    markers = _markers(observation, trace_id, span_id, end_ms, trace)
    status = status_of(observation, originals.scope, originals.attributes)
    attributes = _attributes(observation, originals, markers, agent, trace)
    resource, scope = trace.origin(originals)
    kept, dropped = within(attributes, max_value_bytes=options.max_value_bytes, max_attributes=options.max_attributes)
    if dropped:
        trace.notes["attributes dropped"] += dropped
    span = Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id="" if parent is None else otlp_span_id(observation.project_id, context.trace_id, parent),
        name=cut_text(name_of(observation, originals.scope, originals.attributes), options.max_value_bytes),
        kind=kind_of(observation, originals.scope, originals.attributes),
        start_ns=observation.start_ms * _NS_PER_MS,
        end_ns=max(end_ms, observation.start_ms) * _NS_PER_MS,
        attributes=kept,
        resource=resource,
        scope=scope,
        status_code=status,
        status_message=cut_text(observation.status_message or "", options.max_value_bytes) if status == ERROR else "",
        dropped_attributes=dropped,
    )
    if status == ERROR:
        payload = exception(observation, originals)
        if payload:
            span.events.append(Event("exception", span.end_ns, _cut(payload, options)))
    return span


def _attributes(
    observation: Observation, originals: Originals, markers: Attributes, agent: str | None, trace: _Trace
) -> Attributes:
    """Return all attributes, the most wanted first: what is over the limit falls off the end."""
    context, options = trace.context, trace.options
    back: Rebuilt | None = None
    own: Attributes = {}
    sdk = sdk_of(originals)
    if sdk is None:  # Langfuse's own SDKs write no attributes of others, which could be given back
        back = rebuilt(observation, originals, context)
        own = _allowed(originals.attributes | _beside(originals.attributes, back))
        if _OF_KELET in "\0".join(own):
            own = {key: value for key, value in own.items() if key != _PROJECT and not key.startswith(SOURCE)}
    derived = genai_attributes(observation, own, agent)
    guesses = derived.pop(GUESSED, [])
    if back is not None and back.lost:
        derived = {key: value for key, value in derived.items() if key not in back.lost}
    if options.attributes == "langfuse":
        derived = {key: value for key, value in derived.items() if key in _ALWAYS_DERIVED}
    langfuse = langfuse_fields(observation, originals, context, sdk, () if back is None else back.claimed)
    fields, trace_fields = langfuse.observation, langfuse.trace
    if options.attributes == "genai":
        fields, trace_fields = _without_home(fields, own | derived), {}
    guessed = {*(map(str, guesses) if isinstance(guesses, list) else ())} & derived.keys()
    if back is not None:
        guessed |= {key for key in back.guessed if key in own or key in derived}
    if langfuse.guessed:
        guessed |= langfuse.guessed & fields.keys() - own.keys()
    if guessed:
        markers[GUESSED] = sorted(guessed)
    first: Attributes = {_PROJECT: trace.project} if options.kelet else {}
    identity = identity_attributes(observation, context, trace.shown_id, options.overrides)
    if options.overrides.any:
        own = _overridden(own, context, options.overrides)
    layers: tuple[Attributes, ...] = (
        {key: own.get(key, value) for key, value in identity.items()} if own else identity,
        markers if options.kelet else {},
        derived,
        {key: value for key, value in own.items() if key.startswith("gen_ai.")} if own else {},
        error_type(observation) if observation.level == "ERROR" and "error.type" not in own else {},
        {key: value for key, value in fields.items() if key not in own} if own else fields,
        {key: value for key, value in own.items() if key in originals.attributes} if own else {},
        trace_fields,
        trace.metadata(observation),
        own,  # what was rebuilt can be hundreds of keys, which are in the observation's input and output as well
    )
    for layer in layers:
        if not layer:
            continue
        if first.keys().isdisjoint(layer):
            first.update(layer)
        else:
            first.update([(key, value) for key, value in layer.items() if key not in first])
    return first


def _overridden(own: Attributes, context: TraceContext, overrides: Overrides) -> Attributes:
    """Return a span's own attributes without those that state something else than what the settings name."""
    wrong: set[str] = set()
    if overrides.session:
        wrong |= {*SESSION_KEYS}
    if overrides.user:
        wrong |= {*USER_KEYS}
    kept = {key: value for key, value in own.items() if key not in wrong}
    if context.agent and "gen_ai.agent.name" in kept:
        kept["gen_ai.agent.name"] = context.agent
    return kept


def _beside(known: Attributes, back: Rebuilt) -> Attributes:
    """Return what was rebuilt of attributes that Langfuse did not keep, or kept in part."""
    return {key: value for key, value in back.attributes.items() if key not in known} | back.amended


def _without_home(fields: Attributes, elsewhere: Attributes) -> Attributes:
    """Keep input and output under Langfuse's names where GenAI has no name for them: nothing is dropped."""
    homes: dict[str, tuple[str, ...]] = {
        "langfuse.observation.input": ("gen_ai.input.messages", "gen_ai.tool.call.arguments"),
        "langfuse.observation.output": ("gen_ai.output.messages", "gen_ai.tool.call.result"),
        TRACE_INPUT: (),
        TRACE_OUTPUT: (),
    }  # fmt: skip
    return {
        key: fields[key]
        for key, names in homes.items()
        if key in fields
        and not any(name in elsewhere for name in names)
        and not (key == "langfuse.observation.input" and fields[key] == elsewhere.get(QUERY))  # it may hold more
    }


def _markers(observation: Observation, trace_id: str, span_id: str, end_ms: int, trace: _Trace) -> Attributes:
    markers: Attributes = {}
    if trace_id != trace.context.trace_id:
        markers[SOURCE + "trace_id"] = trace.shown_id
    if span_id != observation.id:
        markers[SOURCE + "observation_id"] = trace.options.show_id(observation.id)
    if observation.is_open:
        markers[SOURCE + "incomplete"] = True
        trace.notes["incomplete"] += 1
    if end_ms < observation.start_ms:
        markers[SOURCE + "end_before_start"] = True
        trace.notes["end before start"] += 1
    return markers


def _resource(originals: Originals, project: str, context: TraceContext, options: Conversion) -> Attributes:
    resource = _allowed(unshared(originals.resource))
    if not resource.get("service.name"):
        resource["service.name"] = project
    if not originals.resource:
        known = (("langfuse.environment", context.environment), ("langfuse.release", context.release))
        resource |= {key: value for key, value in known if value}
    resource.pop(_PROJECT, None)
    if options.kelet:
        resource[_PROJECT] = project
    if options.project_attribute is not None:
        resource[options.project_attribute] = project
    return resource


def _allowed(attributes: Attributes) -> Attributes:
    """Return a copy of attributes without Kelet's own gate: a span that carries it is not analysed."""
    if RESERVED_KEY not in "\0".join(attributes):
        return dict(attributes)
    return {
        key: value
        for key, value in attributes.items()
        if RESERVED_KEY not in key or not key.removeprefix("metadata.").startswith(RESERVED_KEY)
    }


def _cut(attributes: Attributes, options: Conversion) -> Attributes:
    limit = options.max_value_bytes
    return {cut_text(key, MAX_KEY_BYTES): cut_value(key, value, limit) for key, value in attributes.items()}


def _scope(scope: Scope | None, options: Conversion) -> Scope:
    if scope is None:
        return Scope(_DEFAULT_SCOPE)
    if options.kelet and scope.name.startswith(_RESERVED_SCOPES):
        return Scope(_DEFAULT_SCOPE, "", shared({SOURCE + "scope": scope.name}))
    return Scope(scope.name, scope.version, shared(_cut(_allowed(unshared(scope.attributes)), options)))


def _trace_url(observation: Observation, trace_id: str, options: Conversion) -> str | None:
    if options.langfuse_url is None or observation.trace_id is None:
        return None
    return f"{options.langfuse_url}/project/{quote(observation.project_id, safe='')}/traces/{quote(trace_id, safe='')}"


def _effective_root(
    hidden: Observation, observations: Mapping[str, Observation], parents: Mapping[str, str | None]
) -> str | None:
    """Return the id of the real root, which takes over the trace's input and output from the hidden one."""
    real = [
        observation
        for observation in observations.values()
        if parents[observation.id] is None and observation.id != hidden.id
    ]
    return min(real, key=lambda observation: (observation.start_ms, observation.id)).id if real else None


def _with_trace_io(observation: Observation, hidden: Observation) -> Observation:
    """Give a root what its trace states; Langfuse shows a root's own input and output there when the trace has none."""
    asked = None if _is_same_json(hidden.input, observation.input) else hidden.input
    answered = None if _is_same_json(hidden.output, observation.output) else hidden.output
    return replace(
        observation, trace_input=observation.trace_input or asked, trace_output=observation.trace_output or answered
    )


def _is_same_json(left: str | None, right: str | None) -> bool:
    if left is None or right is None or left == right:
        return left == right
    return parse(left) == parse(right) != (False, None)
