"""OpenInference: what Langfuse consumed of it is input, output, tools and messages.

Langfuse takes `input.value` and `output.value` as they are, and throws `llm.input_messages.*` and
`llm.output_messages.*` away beside them; these are made again from the two, as the instrumentation made them from the
same objects. Tools it moves into the input (see `tools`). Everything else stays among the original attributes.
"""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import parse
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.conventions.openinference.by_instrumentation import Instrumentation, instrumentation_of
from sync_worker.spans.conventions.openinference.tooling import moved_tools, place_in, tool_attributes
from sync_worker.spans.conventions.openinference.unread import pairs, scattered, unread
from sync_worker.spans.conventions.openinference.writing import flat
from sync_worker.spans.conventions.tools import take_tools
from sync_worker.spans.instrumentations import OPENINFERENCE_KIND
from sync_worker.spans.restore import Originals
from sync_worker.spans.span_model import Attributes
from sync_worker.spans.versions import Version

_INPUT, _OUTPUT = "llm.input_messages", "llm.output_messages"

#: Instrumentations whose own input and output Langfuse prefers to those of OpenInference, where a span has both.
_PREFERRED = ("traceloop.tracer", "langfuse-sdk")


def _matches(originals: Originals) -> bool:
    scope = "" if originals.scope is None else originals.scope.name
    named = scope.startswith(("openinference.", "@arizeai/openinference-"))
    return named or (OPENINFERENCE_KIND in originals.attributes and not scope.startswith(_PREFERRED))


def _rebuild(observation: Observation, originals: Originals, _: TraceContext) -> Rebuilt:
    bare = _without_values(observation, originals)
    if bare is not None:
        return Rebuilt(bare)
    instrumentation, version = instrumentation_of(observation, originals)
    place = place_in(observation.input, instrumentation.tools)
    is_model_call = originals.attributes.get(OPENINFERENCE_KIND) == "LLM"
    text, tools = observation.input, None
    if observation.api != "v1" or is_model_call or place == "joined":  # in v1 others' own tools look no other
        text, tools = moved_tools(observation.input, place, originals)
    found: Attributes = flat(_INPUT, scattered(originals.attributes)) if not text else {}
    if text:
        found["input.value"] = text
    if observation.output:
        found["output.value"] = observation.output
    has_messages = is_model_call or not instrumentation.only_llm
    if not tools and not (has_messages and instrumentation.reads_messages):
        return Rebuilt(found)
    asked, answered = _json(text), _json(observation.output)
    derived = tool_attributes(tools, place, originals, asked, answered)
    if has_messages:
        derived |= _messages(instrumentation, version, asked, answered)
        if instrumentation.reads_answer is not None and observation.output and not isinstance(answered, dict | list):
            derived |= flat(_OUTPUT, instrumentation.reads_answer(observation.output, asked))
    moved = ("input.value",) if tools and place != "kept" else ()
    return Rebuilt(found | derived, guessed=set() if instrumentation.sure else {*derived, *moved})


def _messages(instrumentation: Instrumentation, version: Version, asked: Any, answered: Any) -> Attributes:
    found: Attributes = {}
    for prefix, reads, value in (
        (_INPUT, instrumentation.reads_system, answered),
        (_INPUT, instrumentation.reads_input, asked),
        (_OUTPUT, instrumentation.reads_output, answered),
    ):
        if reads is not None and isinstance(value, dict | list):
            found |= flat(prefix, reads(value, version))
    return found


def _without_values(observation: Observation, originals: Originals) -> Attributes | None:
    """Return the messages of a span that had no `input.value`: they are the observation's input and output."""
    if originals.attributes.keys() & {"input.mime_type", "output.mime_type"}:
        return None
    text, tools = take_tools(observation.input)
    asked, answered = unread(text), unread(observation.output)
    if (asked is None and text) or (answered is None and observation.output) or (asked is None and answered is None):
        return None
    found = flat(_INPUT, pairs(asked or []))
    return found | flat(_OUTPUT, pairs(answered or [])) | tool_attributes(tools, "added", originals, None, None)


def _json(text: str | None) -> Any:
    """Return what a text states that is JSON and an object or a list."""
    is_json, value = parse(text) if text and text.lstrip()[:1] in {"{", "["} else (False, None)
    return value if is_json else None


CONVENTION: Convention = Convention("openinference", _matches, _rebuild)
