"""OpenTelemetry's GenAI conventions: `gen_ai.input.messages` and what goes with it, whoever writes them.

Langfuse consumes messages, system instructions, tool definitions, and arguments and results of tool calls: it puts the
instructions before the messages, joined to one plain message of the system, and the tools beside them. Models,
parameters and usage stay in the metadata as they were. The older names, `gen_ai.prompt.N`, are those of `prompts`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sync_worker.json_text import dump, is_compact, parse
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import prompts
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.conventions.tools import take_tools
from sync_worker.spans.instrumentations import OPENINFERENCE_KIND
from sync_worker.spans.restore import Originals

INPUT: Final = "gen_ai.input.messages"
OUTPUT: Final = "gen_ai.output.messages"
SYSTEM, TOOLS = "gen_ai.system_instructions", "gen_ai.tool.definitions"
ARGUMENTS, RESULT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"

_CALL_ID = "gen_ai.tool.call.id"

#: Named in the conventions since 1.37, the version that brought messages as attributes; before it was `gen_ai.system`.
_PROVIDER = "gen_ai.provider.name"

#: How an instrumentation writes system instructions, of which Langfuse keeps the texts.
Instructions = Callable[[list[str]], str]


def as_parts(texts: list[str]) -> str:
    """Write system instructions as the conventions have them."""
    return dump([{"type": "text", "content": text} for text in texts])


def as_text(texts: list[str]) -> str:
    """Write them as the instrumentations do that have plain text in their place."""
    return texts[0] if len(texts) == 1 else as_parts(texts)


def rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Put back what a span in the conventions had, of whatever version."""
    return rebuild_with(as_parts, observation, originals)


def rebuild_with(write: Instructions, observation: Observation, originals: Originals) -> Rebuilt:
    """Do the same for an instrumentation that writes system instructions in a way of its own."""
    if is_tool_call(originals):
        found = Rebuilt()
        put_tool_call(observation, found)
        return found
    text, tools = take_tools(observation.input)
    newer = _PROVIDER in originals.attributes
    if prompts.holds(text, observation.output, originals):
        found = prompts.flattened(text, observation.output)
        if newer:  # a span of newer conventions with `gen_ai.prompt.name` and the like
            found.lost |= {INPUT, OUTPUT}
    else:
        found = Rebuilt()
        system = put_input(text, found, write=write, newer=newer)
        if write is as_parts and (len(system) > 1 or "\n" in "".join(system)):
            found.guessed.add(SYSTEM)  # several parts, joined by line breaks, and one that has some look the same
        answered = conversation(observation.output)
        if observation.output and answered is not None and _is_attribute(observation.output, answered, newer=newer):
            found.attributes[OUTPUT] = observation.output
    if tools is not None:
        found.attributes[TOOLS] = dump(tools)
    return found


def is_tool_call(originals: Originals) -> bool:
    """Whether a span is the run of a tool."""
    return originals.attributes.get("gen_ai.operation.name") == "execute_tool" or _CALL_ID in originals.attributes


def put_tool_call(observation: Observation, found: Rebuilt) -> None:
    """Put arguments and result back; Langfuse keeps messages that show them too (Strands 1.62.0) in their place.

    Where it made input and output of span events, as of Strands before and of others, the span had neither.
    """
    if _is_of_events(observation.input):
        return
    sides = (
        (observation.input, INPUT, ARGUMENTS, "tool_call", ("arguments",)),
        (observation.output, OUTPUT, RESULT, "tool_call_response", ("response", "result")),
    )
    for text, messages, plain, kind, keys in sides:
        payload = _only_part(conversation(text) or [], kind)
        if payload is None:
            found.put(plain, text)
            continue
        found.put(messages, text)
        value = next((payload[key] for key in keys if key in payload), None)
        if value is not None:
            found.attributes[plain] = value if isinstance(value, str) else dump(value)
            found.guessed.add(plain)


def _is_of_events(text: str | None) -> bool:
    """Whether an input is what Langfuse makes of the event of a tool's message (`gen_ai.tool.message`)."""
    messages = (conversation(text) or []) if text and '"tool"' in text else []
    return len(messages) == 1 and messages[0]["role"] == "tool" and "parts" not in messages[0]


def _only_part(messages: list[Any], kind: str) -> dict[str, Any] | None:
    """Return the part of a single message that has one part alone, of a kind."""
    parts = messages[0].get("parts") if len(messages) == 1 else None
    part = parts[0] if isinstance(parts, list) and len(parts) == 1 else None
    return part if isinstance(part, dict) and part.get("type") == kind else None


def conversation(text: str | None) -> list[Any] | None:
    """Return the messages of a text that holds them: a list of objects with roles, or an empty one."""
    if text is None or not text.lstrip().startswith("["):
        return None
    is_json, value = parse(text)
    if not is_json or not isinstance(value, list):
        return None
    return value if all(isinstance(item, dict) and isinstance(item.get("role"), str) for item in value) else None


def has_parts(messages: list[Any]) -> bool:
    """Whether messages are in the shape of the conventions, which no other shape shares."""
    return any(isinstance(item.get("parts"), list) for item in messages)


def put_input(
    text: str | None, found: Rebuilt, *, key: str = INPUT, write: Instructions = as_parts, newer: bool = True
) -> list[str]:
    """Put messages back under `key`, and the system instructions that stand before them, which are returned.

    `newer` states that messages without parts are an attribute's as well.
    """
    messages = conversation(text)
    if messages is None or text is None:
        return []
    system = prepended(text, messages)
    if system:
        found.attributes[SYSTEM] = write(system)
        if len(system) < len(messages):
            found.attributes[key] = dump(messages[len(system) :])
    elif _is_attribute(text, messages, newer=newer):
        found.attributes[key] = text
    return system


def prepended(text: str, messages: list[Any]) -> list[str]:
    """Return the system instructions that Langfuse put before messages: plain ones, before such as have parts.

    Where nothing has parts the instrumentation wrote plain messages, the system's among them; so it did where the text
    is not compact, as Langfuse writes it.
    """
    system: list[str] = []
    for item in messages:
        if item.keys() != {"role", "content"} or item["role"] != "system" or not isinstance(item["content"], str):
            break
        system.append(item["content"])
    rest = messages[len(system) :]
    return system if (not rest or has_parts(rest)) and is_compact(text) else []


def _is_attribute(text: str, messages: list[Any], *, newer: bool) -> bool:
    """Whether messages were the text of an attribute: Langfuse makes the like, without parts, of span events too."""
    return newer or has_parts(messages) or not is_compact(text)


def matches(originals: Originals) -> bool:
    """Whether a span has attributes of the conventions, and no mark of another convention."""
    if OPENINFERENCE_KIND in originals.attributes:
        return False
    return any(key.startswith("gen_ai.") for key in originals.attributes)


CONVENTION: Convention = Convention("gen_ai", matches, rebuild)
