"""The attributes of a span as the SDK that made it wrote them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.context import RESERVED_KEY, TraceContext
from sync_worker.spans.ids import source_parent_id
from sync_worker.spans.langfuse_sdk import attribute_names as names
from sync_worker.spans.langfuse_sdk.sdk_usage import is_cost_computed, usage_as_given
from sync_worker.spans.langfuse_sdk.sdks import Sdk
from sync_worker.spans.restore import Originals
from sync_worker.spans.span_model import Attributes, AttributeValue
from sync_worker.times import iso_time

#: Set by SDKs that still have a trace-level input and output.
TRACE_INPUT, TRACE_OUTPUT = "langfuse.trace.input", "langfuse.trace.output"

#: What Langfuse calls an environment that nobody named.
_NO_ENVIRONMENT = "default"
_PYTHON_REPR = ("[", "{", "(")


@dataclass(slots=True)
class Written:
    """Attributes of the observation itself, those of its trace, and which of them may have been written otherwise."""

    observation: Attributes = field(default_factory=dict)
    trace: Attributes = field(default_factory=dict)
    guessed: set[str] = field(default_factory=set)


def written(
    observation: Observation, originals: Originals, context: TraceContext, sdk: Sdk, claimed: Container[str] = ()
) -> Written:
    """Return what the SDK wrote; `claimed` holds the keys of metadata that go out under another name."""
    usage, is_guess = usage_as_given(observation, sdk)
    given_cost = observation.cost and (sdk.is_legacy or not is_cost_computed(observation))
    own = common(observation, _parameters(observation, originals), usage, observation.cost if given_cost else {})
    if observation.is_root and sdk.marks_roots:
        own[names.IS_APP_ROOT] = True
    if sdk.has_trace_io:
        own |= trace_io(observation)
    found = Written(
        observation=own,
        trace=present(
            of_any_observation(observation, context)
            if sdk.is_legacy
            else _trace_fields(observation, originals, context, sdk)
        ),
    )
    if is_guess:
        found.guessed.add(names.OBSERVATION_USAGE_DETAILS)
    for key, value in originals.user.items():
        if key not in claimed and not key.startswith(RESERVED_KEY):
            _metadata(key, value, observation, context, sdk, found)
    for key in context.propagated.stated:
        if key in context.metadata:
            found.observation.setdefault(
                _name(names.TRACE_METADATA, key), _of_trace(key, context.metadata[key], context, sdk)
            )
    return found


def common(
    observation: Observation, parameters: str | None, usage: Mapping[str, Any], cost: Mapping[str, Any]
) -> Attributes:
    """Return the fields that all SDKs write alike, with model parameters, usage and cost as this one writes them."""
    return present({
        names.OBSERVATION_TYPE: observation.type.lower(),
        names.OBSERVATION_LEVEL: None if observation.level == "DEFAULT" else observation.level,
        names.OBSERVATION_STATUS_MESSAGE: observation.status_message,
        names.OBSERVATION_INPUT: observation.input,
        names.OBSERVATION_OUTPUT: observation.output,
        names.OBSERVATION_MODEL: observation.model,
        names.OBSERVATION_MODEL_PARAMETERS: parameters,
        names.OBSERVATION_USAGE_DETAILS: dump(usage) if usage else None,
        names.OBSERVATION_COST_DETAILS: dump(cost) if cost else None,
        names.OBSERVATION_COMPLETION_START_TIME: (
            None if observation.completion_start_ms is None else f'"{iso_time(observation.completion_start_ms)}"'
        ),
        names.OBSERVATION_PROMPT_NAME: observation.prompt_name,
        names.OBSERVATION_PROMPT_VERSION: observation.prompt_version,
    })  # fmt: skip


def trace_io(observation: Observation) -> Attributes:
    """Return the trace's own input and output, where they differ: Langfuse shows a root's as its trace's."""
    found: Attributes = {}
    if observation.trace_input is not None and observation.trace_input != observation.input:
        found[TRACE_INPUT] = observation.trace_input
    if observation.trace_output is not None and observation.trace_output != observation.output:
        found[TRACE_OUTPUT] = observation.trace_output
    return found


def typed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return model parameters with the types that Langfuse turned to text: booleans, lists and objects."""
    return {key: _untold(value) if isinstance(value, str) else value for key, value in parameters.items()}


def _untold(text: str) -> Any:
    if text in {"true", "false"}:
        return text == "true"
    is_json, value = parse(text) if text[:1] in {"[", "{"} else (False, None)
    return value if is_json else text


def _parameters(observation: Observation, originals: Originals) -> str | None:
    if observation.model_parameters:
        return dump(typed(observation.model_parameters))
    # Both write what they were not given.
    if observation.type == "GENERATION":
        return "{}" if "ls_model_type" in originals.user else None
    return "{}" if observation.type == "EMBEDDING" and _is_openai_embedding(observation) else None


def _is_openai_embedding(observation: Observation) -> bool:
    """Whether the OpenAI drop-in wrote an embedding: it shows the size of the answer instead of the answer."""
    if not observation.output or observation.output[:1] != "{":
        return False
    is_json, value = parse(observation.output)
    return is_json and isinstance(value, dict) and value.keys() == {"dimensions", "count"}


def _trace_fields(
    observation: Observation, originals: Originals, context: TraceContext, sdk: Sdk
) -> dict[str, AttributeValue | None]:
    resource = originals.resource
    named_by_server = observation.trace_name in _names_by_server(observation, context)
    on_resource = sdk.language == "python" and sdk.major < 4 and observation.release == resource.get(names.RELEASE)
    return {
        names.TRACE_NAME: None if named_by_server else observation.trace_name,
        names.TRACE_TAGS: list(observation.tags) or None if "langfuse_tags" not in originals.user else None,
        names.TRACE_PUBLIC: True if observation.public else None,
        names.ENVIRONMENT: None if observation.environment == _NO_ENVIRONMENT else observation.environment,
        names.RELEASE: None if on_resource else observation.release,
        names.VERSION: None if observation.version == resource.get("service.version") else observation.version,
    }


def _names_by_server(observation: Observation, context: TraceContext) -> set[str | None]:
    """Return the names that Langfuse gives a trace by itself, the root's; v1 gives them for every observation."""
    if observation.is_trace_root or source_parent_id(context.trace_id, observation.id, observation.parent_id) is None:
        return {observation.name}
    return {context.root_name or observation.name} if observation.api == "v1" else set()


def of_any_observation(observation: Observation, context: TraceContext) -> dict[str, AttributeValue | None]:
    """Return the trace's fields for an observation that may not hold them itself: its trace does."""
    return {
        names.TRACE_NAME: observation.trace_name or context.trace_name or context.root_name,
        names.TRACE_TAGS: list(observation.tags or context.tags) or None,
        names.TRACE_PUBLIC: True if observation.public or context.public else None,
        names.ENVIRONMENT: observation.environment or context.environment,
        names.RELEASE: observation.release or context.release,
        names.VERSION: observation.version or context.version,
    }


def _metadata(key: str, value: Any, observation: Observation, context: TraceContext, sdk: Sdk, found: Written) -> None:
    own_key, trace_key = _name(names.OBSERVATION_METADATA, key), _name(names.TRACE_METADATA, key)
    propagated = context.propagated
    if sdk.is_legacy and observation.is_synthetic_root:  # its metadata is the trace's
        found.observation[trace_key] = _of_trace(key, value, context, sdk)
    elif observation.api == "v1":  # the trace shows its own, which is not among this
        found.observation[own_key] = sdk.metadata(value)
    elif propagated.holds(key, value):
        found.observation[trace_key] = _of_trace(key, value, context, sdk)
        if key in propagated.both and _shows_own(key, value, observation, sdk):
            found.observation[own_key] = sdk.metadata(value)
    else:
        found.observation[own_key] = sdk.metadata(value)
        if sdk.updates_traces and not propagated.fields and _sets_trace_fields(observation):
            found.observation[trace_key] = sdk.metadata(value)
            found.guessed |= {own_key, trace_key}


def _of_trace(key: str, value: Any, context: TraceContext, sdk: Sdk) -> AttributeValue:
    """Write a value of the trace's metadata: one span may have set it, which writes it as its own."""
    return sdk.metadata(value) if sdk.updates_traces and key in context.propagated.stated else sdk.propagated(value)


def _name(prefix: str, key: str) -> str:
    """Return the name for a key of metadata; metadata that is no object stands under the empty key."""
    return f"{prefix}.{key}" if key else prefix


def _shows_own(key: str, value: Any, observation: Observation, sdk: Sdk) -> bool:
    """Whether the value that was propagated is the observation's own too, which it hides.

    LangChain sets `ls_…` again for each model call. Python's SDK 4 propagates str() of a value, which is not its own.
    """
    if key.startswith("ls_") and observation.type == "GENERATION":
        return False
    as_python = isinstance(value, str) and (value in {"True", "False", "None"} or value.startswith(_PYTHON_REPR))
    return sdk.major >= 5 or not as_python


def _sets_trace_fields(observation: Observation) -> bool:
    """Whether a span set its trace's fields: its metadata may be the trace's as well as its own."""
    return bool(observation.user_id or observation.session_id or observation.tags or observation.public)


def present(found: Mapping[str, AttributeValue | None]) -> Attributes:
    """Return what has a value."""
    return {key: value for key, value in found.items() if value is not None}
