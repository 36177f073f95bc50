"""Traceloop's entities: workflows, tasks, agents and tools, with `traceloop.entity.input` and `.output`.

Written by the decorators of its SDKs and by OpenLLMetry's instrumentations of frameworks (langchain, llamaindex,
crewai, haystack, agno, mcp). Langfuse reads them before any messages that such a span has too, which are lost then.
"""

from __future__ import annotations

import json

from sync_worker.json_text import parse
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import semconv
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.instrumentations import OPENINFERENCE_KIND
from sync_worker.spans.restore import Originals

INPUT, OUTPUT = "traceloop.entity.input", "traceloop.entity.output"

_KIND = "traceloop.span.kind"

_DECORATORS = "traceloop.tracer"

#: Marks its spans as entities but writes their content in GenAI's conventions, old or new (opentelemetry-
#: instrumentation-openai-agents 0.47 to 0.62).
_CONVENTIONAL = "opentelemetry.instrumentation.openai_agents"


def rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Put input and output of an entity back."""
    scope = "" if originals.scope is None else originals.scope.name
    if scope.startswith(_CONVENTIONAL):
        return semconv.rebuild(observation, originals, context)
    sides = [semconv.conversation(text) for text in (observation.input, observation.output)]
    if any(side and semconv.has_parts(side) for side in sides):
        return semconv.rebuild(observation, originals, context)
    found = Rebuilt.of(observation, INPUT, OUTPUT)
    if observation.api == "v1" and scope == _DECORATORS:
        _quote_again(found)
    if scope.startswith("opentelemetry.instrumentation.langchain") and originals.attributes.get(_KIND) == "tool":
        _as_tool_call(originals, found)
    return found


def _quote_again(found: Rebuilt) -> None:
    """Write as JSON again what v1 shows parsed: the SDK's decorators write JSON whatever it is (0.47 to 0.62)."""
    for key, text in found.attributes.items():
        if isinstance(text, str) and not parse(text)[0]:
            found.attributes[key] = json.dumps(text)
            found.guessed.add(key)  # long JSON may have been cut, which is plain text


def _as_tool_call(originals: Originals, found: Rebuilt) -> None:
    """Repeat a tool's input and output as arguments and result (opentelemetry-instrumentation-langchain 0.62.4)."""
    if originals.attributes.get("gen_ai.operation.name") == "execute_tool":
        for entity, call in ((INPUT, semconv.ARGUMENTS), (OUTPUT, semconv.RESULT)):
            if entity in found.attributes:
                found.attributes[call] = found.attributes[entity]


def matches(originals: Originals) -> bool:
    """Whether a span is one of Traceloop's entities, and not stated in OpenInference's attributes by somebody else."""
    is_own = originals.scope is not None and originals.scope.name.startswith("traceloop.")
    return _KIND in originals.attributes and (is_own or OPENINFERENCE_KIND not in originals.attributes)


CONVENTION: Convention = Convention("traceloop", matches, rebuild)
