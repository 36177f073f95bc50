"""Google's Agent Development Kit, which names content `gcp.vertex.agent.*` or follows GenAI's conventions.

Sources: google-adk 1.10, 1.16, 1.28, 2.0, 2.6, 2.10, 2.12 and 2.13, telemetry. Up to 2.12 a span `call_llm` holds
request and response; a tool's span has its own attributes and an empty request and response beside them. From 2.13 on
there is no such span by default, and content, where it is captured at all, goes by the conventions.
"""

from __future__ import annotations

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import semconv
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.instrumentations import GOOGLE_ADK, OPENINFERENCE_KIND
from sync_worker.spans.restore import Originals
from sync_worker.spans.versions import version_of

REQUEST, RESPONSE = f"{GOOGLE_ADK}.llm_request", f"{GOOGLE_ADK}.llm_response"
ARGUMENTS, ANSWER = f"{GOOGLE_ADK}.tool_call_args", f"{GOOGLE_ADK}.tool_response"

#: The first version whose spans follow the conventions by default, and the first with a setting for that.
_ALIGNED, _CHOOSES = (2, 13), (2, 6)


def rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    """Put request and response, or arguments and answer of a tool, back."""
    if observation.name == "call_llm":
        return Rebuilt.of(observation, REQUEST, RESPONSE)
    if originals.attributes.get("gen_ai.operation.name") == "execute_tool" and (
        observation.input or observation.output
    ):
        return _tool(observation, originals, context)
    return semconv.rebuild(observation, originals, context)


def _tool(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    version = version_of(originals.scope)  # the first ones did not name it
    older_trace = context.root_name == "invocation"
    if version >= _ALIGNED and not older_trace:
        return semconv.rebuild(observation, originals, context)
    found = Rebuilt.of(observation, ARGUMENTS, ANSWER)
    found.attributes |= {REQUEST: "{}", RESPONSE: "{}"}
    if version >= _CHOOSES and not older_trace:
        found.guessed |= found.attributes.keys()
    return found


def matches(originals: Originals) -> bool:
    """Whether the kit made a span, and OpenInference's instrumentation did not write into it."""
    is_own = originals.scope is not None and originals.scope.name == GOOGLE_ADK
    return is_own and OPENINFERENCE_KIND not in originals.attributes


CONVENTION: Convention = Convention("google_adk", matches, rebuild)
