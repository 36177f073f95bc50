"""Mastra's exporter for OpenTelemetry (`@mastra/otel-exporter` 0.3 and 1.0 to 1.4).

The spans of agents and workflows keep input and output under names of their own (`mastra.agent_run.input`), which
Langfuse leaves alone; of model calls and tools it consumes them. Mastra's exporter for Langfuse uses Langfuse's SDK.
"""

from __future__ import annotations

from sync_worker.json_text import dump
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import semconv
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.conventions.tools import take_tools
from sync_worker.spans.instrumentations import OPENINFERENCE_KIND
from sync_worker.spans.restore import Originals

_TYPE = "mastra.span.type"
#: Written by 0.3 only.
_FIRST_VERSIONS = "mastra.trace_id"


def _rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    found = Rebuilt()
    kind = str(originals.attributes[_TYPE])
    if _FIRST_VERSIONS in originals.attributes:
        for text, key, of_model in (
            (observation.input, "input", "gen_ai.prompt"),
            (observation.output, "output", "gen_ai.completion"),
        ):
            found.put(key, text)
            if kind == "model_generation":
                found.put(of_model, text)
    elif originals.attributes.get("gen_ai.operation.name") == "execute_tool":
        semconv.put_tool_call(observation, found)
    else:
        text, tools = take_tools(observation.input)
        if tools is not None:
            found.attributes[semconv.TOOLS] = dump(tools)
        semconv.put_input(text, found, write=semconv.as_text)
        found.put(semconv.OUTPUT, observation.output)
    return found


def _matches(originals: Originals) -> bool:
    """Whether Mastra made a span, and not in OpenInference's attributes, as its exporter for Arize does."""
    return _TYPE in originals.attributes and OPENINFERENCE_KIND not in originals.attributes


CONVENTION: Convention = Convention("mastra", _matches, _rebuild)
