"""What of an observation is left out: input, output, metadata by key, user ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

from sync_worker.redaction.redaction_rules import LeaveOut

#: Original attributes that hold what Langfuse shows as input and output, beside the fields themselves.
CONTENT: Final = {
    "input": (
        "gen_ai.input.*", "gen_ai.prompt*", "gen_ai.system_instructions", "gen_ai.tool.call.arguments",
        "gen_ai.request.messages", "llm.input_messages*", "llm.prompts*", "llm.prompt_template*", "input.*",
        "input", "traceloop.entity.input", "langfuse.observation.input", "langfuse.trace.input", "ai.prompt*",
        "ai.toolCall.args", "tool.parameters", "tool_arguments", "request_data", "all_messages_events",
        "pydantic_ai.all_messages", "genkit:input", "mastra.*input*", "crewai.*.inputs", "retrieval.query*",
        "events", "lk.user_input", "lk.chat_ctx", "prompt", "prompts", "messages",
    ),
    "output": (
        "gen_ai.output.*", "gen_ai.completion*", "gen_ai.tool.call.result", "gen_ai.response.messages",
        "llm.output_messages*", "llm.completions*", "output.*", "output", "traceloop.entity.output",
        "langfuse.observation.output", "langfuse.trace.output", "ai.response.*", "ai.toolCall.result",
        "tool_response", "response_data", "all_messages_events", "pydantic_ai.all_messages", "final_result",
        "genkit:output", "mastra.*output*", "retrieval.documents*", "reranker.*_documents*", "events",
        "lk.response.*", "completion", "completions",
    ),
}  # fmt: skip
#: Kept whatever list of keys is given: by these a span's instrumentation is recognised, and they name no person.
_ALWAYS: Final = ("scope.name", "scope.version", "resourceAttributes.service.*", "resourceAttributes.telemetry.*")
_ATTRIBUTES: Final = "attributes."


def without(metadata: dict[str, Any], leave_out: LeaveOut) -> dict[str, Any]:
    """Return metadata without what is left out; keys of inner objects are joined with dots."""
    deny, allow = leave_out.no_metadata, leave_out.only_metadata
    for part in leave_out.content:
        deny = (*deny, *(f"{_ATTRIBUTES}{glob}" for glob in CONTENT[part]))
    if not deny and not allow:
        return metadata
    allowed = _any_of((*allow, *_ALWAYS)) if allow else None
    return _kept(metadata, "", None if not deny else _any_of(deny), allowed)


def _kept(
    value: Mapping[str, Any], path: str, denied: re.Pattern[str] | None, allowed: re.Pattern[str] | None
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{path}{key}"
        if denied is not None and denied.match(name):
            continue
        inside = None if allowed is None or allowed.match(name) else allowed
        if isinstance(item, dict) and (item or inside is None):
            kept = _kept(item, f"{name}.", denied, inside)
            if kept or not item:
                made[key] = kept
        elif inside is None:
            made[key] = [_kept_item(one, f"{name}.", denied) for one in item] if isinstance(item, list) else item
    return made


def _kept_item(item: Any, path: str, denied: re.Pattern[str] | None) -> Any:
    if isinstance(item, dict):
        return _kept(item, path, denied, None)
    return [_kept_item(one, path, denied) for one in item] if isinstance(item, list) else item


@lru_cache(maxsize=64)
def _any_of(globs: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(glob) for glob in globs))
