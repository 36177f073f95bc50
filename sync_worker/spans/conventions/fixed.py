"""Conventions that have one attribute for the input of a span, one for its output, and nothing else of note."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import semconv
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.restore import Originals

Keys = tuple[str | None, str | None]

#: `livekit-agents` 1.2 to 1.4, by span name; later ones write `lk.pii.*`, which Langfuse 4.16 leaves alone.
_LIVEKIT: Mapping[str, Keys] = {
    "agent_turn": (None, "lk.response.text"),
    "eou_detection": ("lk.chat_ctx", None),
    "function_tool": (None, "lk.function_tool.output"),
    "llm_node": ("lk.chat_ctx", "lk.response.text"),
    "tts_request_run": ("lk.input_text", None),
    "user_turn": ("lk.user_transcript", None),
}


def _fixed(keys: Keys) -> Callable[[Observation, Originals, TraceContext], Rebuilt]:
    return lambda observation, originals, context: Rebuilt.of(observation, *keys)


def _livekit(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Put back what a span of that name had; later versions use the conventions on model calls and tools."""
    if any(key.startswith("lk.pii.") for key in originals.attributes):
        named = originals.attributes.get("gen_ai.operation.name")
        return (
            semconv.rebuild(observation, originals, context)
            if named == "execute_tool" or _has_parts(observation)
            else Rebuilt()
        )
    return Rebuilt.of(observation, *_LIVEKIT.get(observation.name or "", (None, None)))


def _has_parts(observation: Observation) -> bool:
    """Whether input and output are the conventions' messages; earlier model calls had events, which look alike."""
    return _are_in_parts(observation.input) and _are_in_parts(observation.output)


def _are_in_parts(text: str | None) -> bool:
    messages = [] if text is None else semconv.conversation(text)
    if text is None or messages is None:
        return messages is not None
    return all("parts" in item for item in messages[len(semconv.prepended(text, messages)) :])


def _of_scope(*prefixes: str) -> Callable[[Originals], bool]:
    return lambda originals: originals.scope is not None and originals.scope.name.startswith(prefixes)


LIVEKIT: Convention = Convention("livekit", _of_scope("livekit-agents"), _livekit)

#: `mlflow` 3.17: every span of its own has the id of its trace.
MLFLOW: Convention = Convention(
    "mlflow",
    lambda originals: "mlflow.traceRequestId" in originals.attributes,
    _fixed(("mlflow.spanInputs", "mlflow.spanOutputs")),
)

#: `pipecat-ai` 1.14, model calls; speech has its text under names that Langfuse leaves alone.
PIPECAT: Convention = Convention("pipecat", _of_scope("pipecat"), _fixed(("input", "output")))

#: The mime types of input and output, which OpenInference has too: Langfuse leaves them where it takes the values.
WITH_MIME_TYPES: Convention = Convention(
    "input.value",
    lambda originals: bool({"input.mime_type", "output.mime_type"} & originals.attributes.keys()),
    _fixed(("input.value", "output.value")),
)
