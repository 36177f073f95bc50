"""Attributes that Langfuse consumed at ingestion, put back in the words of the instrumentation that wrote the span.

Langfuse takes messages, models, usage and the like out of a span's attributes into fields of its own. Who wrote the
span shows in its scope, or in an attribute that only one vocabulary has; each vocabulary is a module of its own.
"""

from __future__ import annotations

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.restore import Originals
from sync_worker.spans.vocabularies import (
    conventions,
    fixed,
    genkit,
    google_adk,
    litellm,
    logfire,
    mastra,
    openinference,
    pydantic_ai,
    traceloop,
    vercel,
)
from sync_worker.spans.vocabularies.vocabulary import Rebuilt, Vocabulary

#: The first one that a span speaks counts: makers by their scope, then words that several makers share.
VOCABULARIES: tuple[Vocabulary, ...] = (
    vercel.VOCABULARY,
    pydantic_ai.VOCABULARY,
    mastra.VOCABULARY,
    genkit.VOCABULARY,
    fixed.MLFLOW,
    fixed.LIVEKIT,
    fixed.PIPECAT,
    logfire.VOCABULARY,
    litellm.VOCABULARY,
    google_adk.VOCABULARY,
    openinference.VOCABULARY,
    traceloop.VOCABULARY,
    fixed.WITH_MIME_TYPES,
    conventions.VOCABULARY,  # last: others write its names too
)


def rebuilt(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Return what Langfuse consumed of the original attributes; nothing where the convention is unknown."""
    for vocabulary in VOCABULARIES:
        if vocabulary.speaks(originals):
            return vocabulary.rebuild(observation, originals, context)
    return Rebuilt()
