"""LiteLLM's export to OpenTelemetry: GenAI's conventions, with tool calls in the older names beside them.

Source: litellm 1.106.2, integrations/opentelemetry.py. Tool calls go into `gen_ai.completion.N.function_call.*`, which
Langfuse reads first: the messages of such a call are lost. Its `langfuse_otel` callback writes Langfuse's own names.
"""

from __future__ import annotations

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.instrumentations import OPENINFERENCE_KIND
from sync_worker.spans.restore import Originals
from sync_worker.spans.vocabularies import conventions, prompts
from sync_worker.spans.vocabularies.vocabulary import Rebuilt, Vocabulary

#: What the callback for Langfuse writes; Langfuse keeps it in the metadata of any scope but its own SDK's.
_LANGFUSE_TYPE = "langfuse.observation.type"


def rebuild(row: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Put back what Langfuse consumed of a span that LiteLLM made."""
    if _LANGFUSE_TYPE in originals.attributes:
        return Rebuilt()  # input and output go out under Langfuse's names as those of any row
    if prompts.holds(row.input, row.output, originals):
        found = prompts.flattened(row.input, row.output)
        if not any(key.endswith((".role", ".content")) for key in found.attributes):
            found.lost |= {conventions.INPUT, conventions.OUTPUT}
        return found
    return conventions.rebuild_with(conventions.as_text, row, originals)


def speaks(originals: Originals) -> bool:
    """Whether LiteLLM made a span, and not in the words of OpenInference, which its callback for Arize uses."""
    if originals.scope is None or not originals.scope.name.startswith("litellm"):
        return False
    return OPENINFERENCE_KIND not in originals.attributes or _LANGFUSE_TYPE in originals.attributes


VOCABULARY = Vocabulary("litellm", speaks, rebuild)
