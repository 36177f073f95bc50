"""Tools of an OpenInference span: `llm.tools.N.tool.json_schema`, which Langfuse moves into the input."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

from sync_worker.json_text import dump, parse
from sync_worker.spans.conventions.openinference import google_genai
from sync_worker.spans.conventions.openinference.writing import MAX_KEYS, fields, items, json_of
from sync_worker.spans.conventions.tools import merged_input, take_tools, tool_name
from sync_worker.spans.restore import Originals
from sync_worker.spans.span_model import Attributes

#: Where Langfuse found and left tools, see `Instrumentation`.
Place: TypeAlias = Literal["kept", "declared", "added", "wrapped", "joined", "either"]

_TOOL = re.compile(r"llm\.tools\.(\d{1,6})\.tool\.json_schema\Z")


def moved_tools(text: str | None, stand: Place, originals: Originals) -> tuple[str | None, list[Any] | None]:
    """Return the input as the instrumentation wrote it, and the tools that Langfuse took out of the attributes."""
    if stand == "kept":
        value = merged_input(text)
        return text, None if value is None else value["tools"]
    if stand == "declared":
        return _without_added(text)
    if any(_is_named(value) for key, value in originals.attributes.items() if _TOOL.match(key)):
        return text, None  # a Langfuse that does not move tools
    return take_tools(text, lists=stand == "wrapped")


def place_in(text: str | None, stand: Place) -> Place:
    """Return where the tools of an input stand, where its instrumentation may do either."""
    if stand != "either":
        return stand
    value = merged_input(text)
    return "kept" if value is not None and "model" in value else "added"


def _without_added(text: str | None) -> tuple[str | None, list[Any] | None]:
    """Return a request to Gemini as it was, and the functions that Langfuse added behind the tools that declare them.

    It adds what has a name; the tools of a request have none.
    """
    value = merged_input(text)
    if value is None:
        return text, None
    own = [tool for tool in value["tools"] if tool_name(tool) is None]
    added = value["tools"][len(own) :]
    if not own or not added or value["tools"][: len(own)] != own:
        return text, None
    return dump(value | {"tools": own}), added


def tool_attributes(
    tools: list[Any] | None, stand: Place, originals: Originals, asked: Any, answered: Any
) -> Attributes:
    """Return the attributes for moved tools; those without a name have stayed at their places."""
    if not tools:
        return {}
    functions = google_genai.declarations(asked)
    if functions or stand == "joined":
        return _declared(tools, functions)
    shown = items(fields(answered).get("tools"))
    if shown and "input" in fields(asked):
        return {}  # Responses: what was written is the tool as the SDK read it back, with fields of its version
    taken = {int(match[1]) for key in originals.attributes if (match := _TOOL.match(key))}
    if shown:  # OpenAI Agents: only functions were written, each at its place among all tools
        places = [at for at, tool in enumerate(shown) if fields(tool).get("type") == "function"]
    else:
        places = [at for at in range(len(tools) + len(taken)) if at not in taken]
    return {
        f"llm.tools.{at}.tool.json_schema": json_of(tool) for at, tool in zip(places[:MAX_KEYS], tools, strict=False)
    }


def _declared(tools: list[Any], functions: list[Any]) -> Attributes:
    """Return Gemini's tools as declared in the request; what else was moved came from Google's own attribute.

    Langfuse keeps the first tool of a name, and Google's come before those of OpenInference.
    """
    own: Attributes = {}
    declared = {tool_name(function): function for function in functions}
    if any(declared.get(tool_name(tool)) != tool for tool in tools):
        own["gen_ai.tool.definitions"] = dump(tools)
    if declared.keys() != {name for tool in tools if (name := tool_name(tool))}:
        return own
    return own | {f"llm.tools.{at}.tool.json_schema": dump(tool) for at, tool in enumerate(functions[:MAX_KEYS])}


def _is_named(value: Any) -> bool:
    is_json, tool = parse(value) if isinstance(value, str) else (False, None)
    return is_json and tool_name(tool) is not None
