"""Definitions of the tools that a model or an agent had, wherever an observation has them beside its messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.span_model import AttributeValue

DEFINITIONS = "gen_ai.tool.definitions"

#: Names in model parameters and in metadata.
_KEYS = ("tools", "tool_definitions", "toolDefinitions", "functions")
_NAMES = frozenset(_KEYS)
#: Attributes that hold a request with its tools as JSON: OpenInference's parameters, Logfire's request, and what
#: pydantic-ai's models were asked with.
_REQUESTS = (("llm.invocation_parameters", _KEYS), ("request_data", _KEYS),
             ("model_request_parameters", ("function_tools",)))  # fmt: skip
_VERCEL = "ai.prompt.tools"  # a list of JSON texts
_STRANDS = "gen_ai.agent.tools"  # JSON list of names (strands-agents 1.62.0)
#: OpenInference's and OpenLLMetry's attributes, one or some a tool.
_FLAT = re.compile(
    r"llm\.(?:tools\.(\d+)\.tool\.json_schema|request\.functions\.(\d+)\.(name|description|parameters))\Z"
)
_FIRST = ("llm.tools.0.tool.json_schema", "llm.request.functions.0.name")
_ATTRIBUTES = frozenset({_VERCEL, _STRANDS, *_FIRST, *(attribute for attribute, _ in _REQUESTS)})
_MAX_TOOLS = 512


def tool_definitions(observation: Observation, originals: Mapping[str, AttributeValue]) -> str | None:
    """Return the definitions as a JSON list, in their instrumentation's shape; None where there are none."""
    for stated in (observation.model_parameters, observation.metadata):
        found = [] if stated.keys().isdisjoint(_NAMES) else _of(stated, _KEYS)
        if found:
            return dump(found)
    if (
        "gen_ai.input.messages" not in originals
        and observation.input
        and observation.input[0] == "{"
        and '"tools"' in observation.input
    ):
        found = _of(_parsed(observation.input), ("tools",))
        if found:
            return dump(found)
    found = [] if originals.keys().isdisjoint(_ATTRIBUTES) else _of_attributes(originals)
    return dump(found) if found else None


def _of_attributes(originals: Mapping[str, AttributeValue]) -> list[Any]:
    for attribute, keys in _REQUESTS:
        if attribute in originals:
            found = _of(_parsed(originals[attribute]), keys)
            if found:
                return [_of_pydantic(tool) for tool in found] if keys == ("function_tools",) else found
    vercel = originals.get(_VERCEL)
    if isinstance(vercel, list):
        return _definitions([_parsed(tool) for tool in vercel[:_MAX_TOOLS]])
    if _FIRST[0] in originals or _FIRST[1] in originals:
        return _flat(originals)
    names = _parsed(originals.get(_STRANDS))
    if isinstance(names, list):
        return [{"type": "function", "name": name} for name in names[:_MAX_TOOLS] if isinstance(name, str) and name]
    return []


def _of(stated: Any, keys: tuple[str, ...]) -> list[Any]:
    if isinstance(stated, dict):
        for key in keys:
            found = _definitions(_parsed(stated.get(key)))
            if found:
                return found
    return []


def _definitions(value: Any) -> list[Any]:
    """Return a list that defines tools: objects that state a name, or a type as those that a provider runs."""
    if not isinstance(value, list):
        return []
    found = [tool for tool in value[:_MAX_TOOLS] if isinstance(tool, dict) and _defines_tool(tool)]
    return found if len(found) == min(len(value), _MAX_TOOLS) else []


def _defines_tool(tool: dict[str, Any]) -> bool:
    keys = ("name", "type", "function", "toolSpec", "functionDeclarations", "function_declarations")
    return any(tool.get(key) for key in keys)


def _of_pydantic(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool of pydantic-ai's request in the conventions' shape."""
    found = {"type": "function", "name": tool.get("name")}
    for name, key in (("description", "description"), ("parameters", "parameters_json_schema")):
        if tool.get(key) is not None:
            found[name] = tool[key]
    return found


def _flat(originals: Mapping[str, AttributeValue]) -> list[Any]:
    whole: dict[int, Any] = {}
    fields: dict[int, dict[str, Any]] = {}
    for key, value in originals.items():
        match = _FLAT.match(key) if key.startswith("llm.") else None
        if match is None:
            continue
        if match[1] is not None:
            whole[int(match[1])] = _parsed(value)
        else:
            payload = _parsed(value) if match[3] == "parameters" else value
            fields.setdefault(int(match[2]), {"type": "function"})[match[3]] = payload
    return _definitions([tools[number] for tools in (whole, fields) for number in sorted(tools)])


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        is_json, parsed = parse(value)
        return parsed if is_json else None
    return value
