"""Attributes that Langfuse consumed at ingestion, put back under the names that the instrumentation gave them.

Langfuse takes messages, models, usage and the like out of a span's attributes into fields of its own. Who wrote the
span shows in its scope, or in an attribute that only one convention has; each convention is a module of its own.
"""

from __future__ import annotations

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import (
    fixed,
    genkit,
    google_adk,
    litellm,
    logfire,
    mastra,
    openinference,
    pydantic_ai,
    semconv,
    traceloop,
    vercel,
)
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.restore import Originals

#: The first one that a span matches counts: instrumentations by their scope, then names that several of them share.
CONVENTIONS: tuple[Convention, ...] = (
    vercel.CONVENTION,
    pydantic_ai.CONVENTION,
    mastra.CONVENTION,
    genkit.CONVENTION,
    fixed.MLFLOW,
    fixed.LIVEKIT,
    fixed.PIPECAT,
    logfire.CONVENTION,
    litellm.CONVENTION,
    google_adk.CONVENTION,
    openinference.CONVENTION,
    traceloop.CONVENTION,
    fixed.WITH_MIME_TYPES,
    semconv.CONVENTION,  # last: others write its names too
)


def rebuilt(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Return what Langfuse consumed of the original attributes; nothing where the convention is unknown."""
    for convention in CONVENTIONS:
        if convention.matches(originals):
            return convention.rebuild(observation, originals, context)
    return Rebuilt()
