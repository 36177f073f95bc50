"""Langfuse's own fields under the names its SDK gives them, and trace-level context as Kelet's SDK stamps it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from sync_worker.json_text import dump, utf8
from sync_worker.records import Number, Observation
from sync_worker.spans.context import RESERVED_KEY, TraceContext, session_of, user_of
from sync_worker.spans.langfuse_sdk import attribute_names as names
from sync_worker.spans.langfuse_sdk.attributes import (
    Written,
    common,
    of_any_observation,
    present,
    trace_io,
    typed,
    written,
)
from sync_worker.spans.langfuse_sdk.sdks import LEGACY, Sdk
from sync_worker.spans.overrides import NO_OVERRIDES, Overrides
from sync_worker.spans.restore import Originals
from sync_worker.spans.span_model import Attributes

#: Kelet's SDK keeps a span's session metadata below this many bytes, and drops what is over.
METADATA_BUDGET_BYTES = 16 * 1024


def langfuse_fields(
    observation: Observation,
    originals: Originals,
    context: TraceContext,
    sdk: Sdk | None,
    claimed: Container[str] = (),
) -> Written:
    """Return Langfuse's fields: what its SDK wrote, or for another instrumentation's span all that the observation has.

    `sdk` is the one that wrote the span; None for another instrumentation. `claimed` holds the keys of its metadata
    that go out under another name.
    """
    if sdk is not None:
        return written(observation, originals, context, sdk, claimed)
    parameters = dump(typed(observation.model_parameters)) if observation.model_parameters else None
    own = {
        f"{names.OBSERVATION_METADATA}.{key}": LEGACY.metadata(value)
        for key, value in originals.user.items()
        if key not in claimed and not key.startswith(RESERVED_KEY)
    }
    return Written(
        observation=common(observation, parameters, observation.usage, observation.cost) | trace_io(observation) | own,
        trace=present(of_any_observation(observation, context)),
    )


def identity_attributes(
    observation: Observation, context: TraceContext, trace_id: str, overrides: Overrides = NO_OVERRIDES
) -> Attributes:
    """Return session and user; a trace without a session is one of its own, named by the trace.

    Where the settings state where they come from, all spans of the trace have the same. `trace_id` is the
    trace's id as it may be shown.
    """
    session = context.session_id if overrides.session else session_of(observation) or context.session_id
    user = context.user_id if overrides.user else user_of(observation) or context.user_id
    found: Attributes = {"gen_ai.conversation.id": session or trace_id}
    if session:
        found[names.TRACE_SESSION_ID] = session
    if user:
        found[names.TRACE_USER_ID] = user
    return found


def metadata_attributes(
    observation: Observation, context: TraceContext, trace_id: str, trace_url: str | None
) -> Attributes:
    """Return `metadata.<key>`, as Kelet's SDK stamps a session's metadata on each of its spans.

    `trace_id` is the trace's id as it may be shown.
    """
    own: dict[str, Any] = {
        "environment": observation.environment or context.environment,
        "release": observation.release or context.release,
        "version": observation.version or context.version,
        "trace_name": context.trace_name or context.root_name,
        "tags": ",".join(observation.tags or context.tags) or None,
        "langfuse_trace_id": trace_id,
        "langfuse_trace_url": trace_url,
    }
    found: Attributes = {}
    left = METADATA_BUDGET_BYTES
    for key, value in ({key: value for key, value in own.items() if value} | context.metadata).items():
        kept = value if isinstance(value, str | bool | int | float) and _fits(value) else dump(value)
        size = len(utf8(key).encode()) + (len(utf8(kept).encode()) if isinstance(kept, str) else 8)
        if size <= left:
            left -= size
            found[f"metadata.{key}"] = kept
    return found


def _fits(value: str | Number) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63
