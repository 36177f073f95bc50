"""Tool definitions that Langfuse moved out of a span's attributes into the observation's input, taken out again.

Langfuse's server (`normalizeToolMetadataForObservation`) collects `ai.prompt.tools`, `gen_ai.tool.definitions`,
`model_request_parameters.function_tools` and `llm.tools.N.tool.json_schema`, keeps the first of each name, and writes
them into the input as compact JSON: a list L becomes `{"messages": L, "tools": […]}`, an object gets `tools` as its
last key, nothing becomes `{"tools": […]}`, and other text s becomes `{"prompt": s, "tools": […]}`. An object that has
`tools` already keeps them where they are, those of a new name are added.
"""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import dump, is_compact, parse


def merged_input(text: str | None) -> dict[str, Any] | None:
    """Return the input as an object, where it may be one that Langfuse wrote tools into; None where it is not."""
    if text is None or not text.startswith("{") or not text.endswith("}") or '"tools":[' not in text:
        return None
    is_json, value = parse(text)
    if not is_json or not isinstance(value, dict) or not is_compact(text):
        return None
    tools = value.get("tools")
    return value if isinstance(tools, list) and tools else None


def take_tools(text: str | None, *, lists: bool = True) -> tuple[str | None, list[Any] | None]:
    """Return the input as it was before Langfuse wrote tools into it, and the tools; None where it wrote none.

    `{"messages": […]}` may have been that before, or a list: `lists` states which.
    """
    value = merged_input(text)
    if value is None or next(reversed(value)) != "tools":
        return text, None
    tools = value.pop("tools")
    if not value:
        return None, tools
    if value.keys() == {"prompt"} and isinstance(value["prompt"], str):
        return value["prompt"], tools
    if lists and value.keys() == {"messages"} and isinstance(value["messages"], list):
        return dump(value["messages"]), tools
    return dump(value), tools


def tool_name(tool: Any) -> str | None:
    """Return the name by which Langfuse distinguishes tools."""
    if not isinstance(tool, dict):
        return None
    function = tool.get("function")
    name = (function if isinstance(function, dict) else tool).get("name")
    return name if isinstance(name, str) and name else None
