"""What stands beside the words of a call: settings, labels and counts, which are no content."""

from __future__ import annotations

from typing import Any

from sync_worker.spans.messages.conversation import Part
from sync_worker.spans.messages.parts import carries, extra_part, first_string

FINISH_KEYS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason", "completionReason")
#: Names of a call, a message or a moment: no words, while they hold a single text or number.
_LABELS = frozenset(
    {
        *("id", "index", "object", "type", "role", "created", "created_at", "createdAt", "timestamp", "model", "lc"),
        *(
            "status",
            "stop_sequence",
            "service_tier",
            "system_fingerprint",
            "example",
            "chunk_position",
            "generation_id",
        ),
        *("model_name", "model_id", "modelId", "provider_name", "provider_response_id", "provider_url", "run_id"),
        *("conversation_id", "state", "kind", "content_type", "ai_model_id", "encoding", "choice_index", "cached"),
        *(
            "message_id",
            "messageId",
            "request_id",
            "session_id",
            "uuid",
            "parent_tool_use_id",
            "native_finish_reason",
            "response_id",
            "responseId",
            "modelVersion",
            "model_version",
            "create_time",
        ),
        *("createTime", "user", "truncation", "background", "max_tool_calls", "completed_at", "done", "provider"),
        *("completed_timestamp", "billing", "store", "gen_ai.system", "event.name", "_type", "graph", "messageType"),
    }
)
#: Counts and the like, which are objects, lists or numbers; a text under these names is a text.
_COUNTS = frozenset(
    {
        *("usage", "usage_metadata", "usageMetadata", "response_metadata", "ResponseMetadata", "logprobs", "metrics"),
        *("cache_control", "sdk_http_response", "llm_output", "provider_details", "vendor_details", "models_usage"),
        *("prompt_filter_results", "token_usage", "avgLogprobs", "logprobsResult", "logprobs_result", "avg_logprobs"),
        *(
            "tokenCount",
            "token_count",
            "tokenUsage",
            "estimatedTokens",
            "prompt_logprobs",
            "token_ids",
            "inputTextTokenCount",
        ),
    }
)
#: How a call was to be made.
_SETTINGS = frozenset(
    {
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "temperature", "top_p"),
        *("top_k", "n", "stop", "stop_sequences", "stream", "stream_options", "presence_penalty", "seed", "logprobs"),
        *("frequency_penalty", "logit_bias", "top_logprobs", "response_format", "tool_choice", "parallel_tool_calls"),
        *("metadata", "service_tier", "reasoning", "reasoning_effort", "thinking", "verbosity", "include", "betas"),
        *("previous_response_id", "prompt_cache_key", "safety_identifier", "modalities", "extra_headers", "timeout"),
        *("extra_query", "extra_body", "generationConfig", "generation_config", "safetySettings", "safety_settings"),
        *("toolConfig", "tool_config", "cachedContent", "cached_content", "live_connect_config", "inferenceConfig"),
        *("additionalModelRequestFields", "options", "invocation_params", "textGenerationConfig", "format"),
        *("performanceConfig", "keep_alive", "raw_prompting", "container", "prompt_cache_retention"),
    }
)


#: A label or a setting is a word, a number or a moment; a longer text with spaces is somebody's words.
_WORDS_LENGTH = 40


def is_beside(key: str, value: object) -> bool:
    """Whether a field of a message is no part of its content."""
    if key in _LABELS:
        return not isinstance(value, dict | list) and not _is_words(value)
    return (key in _COUNTS and not isinstance(value, str)) or isinstance(value, bool)


def extras(fields: dict[str, Any]) -> list[Part]:
    """Return the fields beside the messages of a body that state something."""
    return [
        extra_part(key, item)
        for key, item in fields.items()
        if carries(item)
        and not isinstance(item, int | float)
        and not (key in _SETTINGS and not _has_words(key, item))
        and not is_beside(key, item)
    ]


def _has_words(key: str, value: object) -> bool:
    """Whether a setting holds somebody's words; of objects only metadata does, which an application fills itself."""
    if key == "metadata" and isinstance(value, dict):
        return any(_is_words(item) or isinstance(item, dict | list) for item in value.values())
    return _is_words(value)


def is_word(value: object) -> bool:
    """Whether a value is a name or a number, no content."""
    return not isinstance(value, dict | list) and not (isinstance(value, str) and (" " in value or "\n" in value))


def _is_words(value: object) -> bool:
    return isinstance(value, str) and len(value) > _WORDS_LENGTH and " " in value


def take_metadata(fields: dict[str, Any], key: str) -> None:
    """Lift why a message ended out of a framework's metadata; what is neither label nor count stays in it."""
    metadata = fields.pop(key, None)
    if not isinstance(metadata, dict):
        if carries(metadata):
            fields[key] = metadata
        return
    finish = first_string(metadata, FINISH_KEYS)
    if finish is not None and fields.setdefault(FINISH_KEYS[0], finish[1]) != finish[1]:
        finish = None
    left = {
        name: item
        for name, item in metadata.items()
        if carries(item) and not (finish is not None and name == finish[0]) and not is_beside(name, item)
    }
    if left:
        fields[key] = left
