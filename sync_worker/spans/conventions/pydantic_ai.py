"""pydantic-ai: scope `pydantic-ai`, through Logfire too.

Read in `pydantic-ai-slim` 0.0.55 to 2.68. What it writes depends on the version of its instrumentation, which a program
may choose: 1 writes `events`, 2 (the default until package 2.0) the conventions' messages, 3 and later (5 is the
default since) the conventions' tool calls too.
"""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import semconv
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.conventions.logfire import events_of, is_events
from sync_worker.spans.conventions.tools import take_tools
from sync_worker.spans.instrumentations import OPENINFERENCE_KIND, PYDANTIC_AI, runs_tool_by_conventions
from sync_worker.spans.restore import Originals

_PARAMETERS = "model_request_parameters"


def _rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    found = Rebuilt()
    if observation.type == "TOOL":
        _tool(observation, originals, found)
    elif "agent_name" in originals.attributes or observation.type == "AGENT":
        _agent(observation, found)
    elif observation.type == "GENERATION":
        _chat(observation, originals, found)
    return found


def _tool(observation: Observation, originals: Originals, found: Rebuilt) -> None:
    if runs_tool_by_conventions(originals.scope, originals.attributes):
        semconv.put_tool_call(observation, found)
        return
    for key, text in (("tool_arguments", observation.input), ("tool_response", observation.output)):
        if text:
            found.amended[key] = text  # Langfuse keeps both, but parsed


def _agent(observation: Observation, found: Rebuilt) -> None:
    semconv.put_input(observation.input, found, key="pydantic_ai.all_messages")
    found.put("all_messages_events" if is_events(observation.output) else "final_result", observation.output)


def _chat(observation: Observation, originals: Originals, found: Rebuilt) -> None:
    text, tools = take_tools(observation.input)
    _tools(tools, originals, found)
    events = events_of(text, observation.output)
    if events is not None:
        found.attributes["events"] = dump(events)
        found.guessed.add("events")  # of several answers Langfuse keeps the first
        return
    semconv.put_input(text, found)
    found.put(semconv.OUTPUT, observation.output)


def _tools(tools: list[Any] | None, originals: Originals, found: Rebuilt) -> None:
    """Put tools back where they were: those of the request's parameters have a schema of another name.

    From 1.42 on spans have both, and Langfuse keeps the conventions' definition where two have one name; the richer
    one in the parameters is lost then.
    """
    of_request = [tool for tool in tools or () if _is_of_request(tool)]
    defined = [tool for tool in tools or () if not _is_of_request(tool)]
    if defined:
        found.attributes[semconv.TOOLS] = dump(defined)
    kept = originals.attributes.get(_PARAMETERS)
    is_json, parameters = parse(kept) if isinstance(kept, str) else (False, None)
    if not is_json or not isinstance(parameters, dict) or "function_tools" in parameters or not tools:
        return
    if defined:
        found.guessed.add(_PARAMETERS)
    else:
        found.amended[_PARAMETERS] = dump({"function_tools": of_request} | parameters)


def _is_of_request(tool: Any) -> bool:
    return isinstance(tool, dict) and "parameters_json_schema" in tool


def _matches(originals: Originals) -> bool:
    """Whether pydantic-ai made a span; Langfuse prefers the words that a processor of OpenInference adds."""
    is_own = originals.scope is not None and originals.scope.name == PYDANTIC_AI
    return is_own and OPENINFERENCE_KIND not in originals.attributes


CONVENTION: Convention = Convention("pydantic-ai", _matches, _rebuild)
