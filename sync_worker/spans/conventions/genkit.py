"""Genkit: scope `genkit-tracer`.

Read in `@genkit-ai/core` 1.42: `genkit:input` is always JSON text, `genkit:output` is where it is no plain text. Of a
model's input Langfuse shows the messages only, and of its output the message: what stood around them is lost.
"""

from __future__ import annotations

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.restore import Originals

_IN_PARTS = frozenset({"model", "background-model"})


def _rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    found = Rebuilt()
    if str(originals.attributes.get("genkit:metadata:subtype")) in _IN_PARTS:
        return found
    if observation.input:
        found.attributes["genkit:input"] = observation.input if parse(observation.input)[0] else dump(observation.input)
    found.put("genkit:output", observation.output)
    return found


CONVENTION: Convention = Convention(
    "genkit", lambda originals: originals.scope is not None and originals.scope.name == "genkit-tracer", _rebuild
)
