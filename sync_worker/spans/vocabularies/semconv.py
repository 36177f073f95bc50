"""Messages and tool calls in the words of OpenTelemetry's GenAI conventions, as several makers write them.

Langfuse makes one input of `gen_ai.system_instructions`, `gen_ai.input.messages` and `gen_ai.tool.definitions`: it puts
the instructions before the messages, joined to one plain message of the system, and the tools beside them.
"""

from __future__ import annotations

from collections.abc import Callable

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.restore import Originals
from sync_worker.spans.vocabularies.tools import take_tools
from sync_worker.spans.vocabularies.vocabulary import Rebuilt, Vocabulary

INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"


def one_text_part(instructions: str) -> str:
    """Write system instructions as the conventions have them, in one part."""
    return dump([{"type": "text", "content": instructions}])


def take_system(text: str | None) -> tuple[str | None, str | None]:
    """Return the system's instructions that Langfuse put before messages, and the messages without them.

    The conventions' messages have `parts`, the one that Langfuse writes has not: where others have none either, the
    maker wrote plain messages, and nothing is taken.
    """
    is_json, value = parse(text) if text and text.startswith("[") and '"system"' in text else (False, None)
    if not is_json or not isinstance(value, list) or not value:
        return None, text
    first, rest = value[0], value[1:]
    if not isinstance(first, dict) or first.keys() != {"role", "content"} or first["role"] != "system":
        return None, text
    if not isinstance(first["content"], str) or not all(isinstance(item, dict) and "parts" in item for item in rest):
        return None, text
    return first["content"], dump(rest) if rest else None


def put_input(
    text: str | None, found: Rebuilt, *, key: str = INPUT_MESSAGES, write: Callable[[str], str] = one_text_part
) -> None:
    """Put messages back under `key`, and the system instructions that stand before them."""
    system, messages = take_system(text)
    if system:
        found.attributes[SYSTEM_INSTRUCTIONS] = write(system)
    if messages and messages.startswith("["):
        found.attributes[key] = messages


def put_tool_call(row: Observation, found: Rebuilt) -> None:
    """Put arguments and result of a tool's run back."""
    for key, text in ((TOOL_ARGUMENTS, row.input), (TOOL_RESULT, row.output)):
        if text:
            found.attributes[key] = text


def is_tool_call(row: Observation, originals: Originals) -> bool:
    """Whether a span is the run of a tool."""
    return originals.attributes.get("gen_ai.operation.name") == "execute_tool" or row.type == "TOOL"


def rebuild(row: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Put back what a span that speaks only the conventions had."""
    found = Rebuilt()
    if is_tool_call(row, originals):
        put_tool_call(row, found)
        return found
    text, tools = take_tools(row.input)
    if tools is not None:
        found.attributes[TOOL_DEFINITIONS] = dump(tools)
    put_input(text, found)
    if r"\n" in str(found.attributes.get(SYSTEM_INSTRUCTIONS, "")):
        found.guessed.add(SYSTEM_INSTRUCTIONS)  # several parts, joined, look the same
    if row.output:
        found.attributes[OUTPUT_MESSAGES] = row.output
    return found


#: The Vercel AI SDK 7 (`@ai-sdk/otel` 1.0), whose instructions may be several messages.
VERCEL_7 = Vocabulary(
    "vercel-ai-7", lambda originals: originals.scope is not None and originals.scope.name == "gen_ai", rebuild
)
