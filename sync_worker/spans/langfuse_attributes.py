"""Langfuse's own fields under the names its SDK gives them, and trace-level context as Kelet's SDK stamps it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from langfuse import LangfuseOtelSpanAttributes as Names

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.context import RESERVED_KEY, TraceContext
from sync_worker.spans.instrumentations import sdk_major
from sync_worker.spans.model import Attributes, AttributeValue
from sync_worker.spans.restore import Originals
from sync_worker.spans.sizes import utf8
from sync_worker.times import iso_time

#: Set by the SDK's versions before 5, which still had a trace-level input and output.
TRACE_INPUT, TRACE_OUTPUT = "langfuse.trace.input", "langfuse.trace.output"

#: Kelet's SDK keeps a span's session metadata below this many bytes, and drops what is over.
METADATA_BUDGET_BYTES = 16 * 1024


def observation_attributes(row: Observation, originals: Originals, claimed: Container[str] = ()) -> Attributes:
    """Return what the Langfuse SDK would have written for the row's own fields.

    `claimed` holds the keys of its metadata that go out under another name.
    """
    found: dict[str, AttributeValue | None] = {
        Names.OBSERVATION_TYPE: row.type.lower(),
        Names.OBSERVATION_LEVEL: None if row.level == "DEFAULT" else row.level,
        Names.OBSERVATION_STATUS_MESSAGE: row.status_message,
        Names.OBSERVATION_INPUT: row.input,
        Names.OBSERVATION_OUTPUT: row.output,
        Names.OBSERVATION_MODEL: row.model,
        Names.OBSERVATION_MODEL_PARAMETERS: dump(_typed(row.model_parameters)) if row.model_parameters else None,
        Names.OBSERVATION_USAGE_DETAILS: dump(row.usage) if row.usage else None,
        Names.OBSERVATION_COST_DETAILS: dump(row.cost) if row.cost else None,
        Names.OBSERVATION_COMPLETION_START_TIME: (
            None if row.completion_start_ms is None else f'"{iso_time(row.completion_start_ms)}"'
        ),
        Names.OBSERVATION_PROMPT_NAME: row.prompt_name,
        Names.OBSERVATION_PROMPT_VERSION: row.prompt_version,
        Names.IS_APP_ROOT: True if row.is_root else None,
        TRACE_INPUT: row.trace_input,
        TRACE_OUTPUT: row.trace_output,
    }
    for key, value in originals.user.items():
        if key not in claimed and not key.startswith(RESERVED_KEY):
            found[f"{Names.OBSERVATION_METADATA}.{key}"] = _metadata_value(value, originals)
    return {key: value for key, value in found.items() if value is not None}


def trace_attributes(row: Observation, context: TraceContext) -> Attributes:
    """Return the trace-level fields that the SDK writes on every span, the row's own value first."""
    found: dict[str, AttributeValue | None] = {
        Names.TRACE_NAME: row.trace_name or context.trace_name or context.root_name,
        Names.TRACE_TAGS: list(row.tags or context.tags) or None,
        Names.TRACE_PUBLIC: True if row.public or context.public else None,
        Names.ENVIRONMENT: row.environment or context.environment,
        Names.RELEASE: row.release or context.release,
        Names.VERSION: row.version or context.version,
    }
    return {key: value for key, value in found.items() if value is not None}


def identity_attributes(row: Observation, context: TraceContext) -> Attributes:
    """Return session and user; a trace without a session is one of its own, named by the trace."""
    session = row.session_id or context.session_id
    user = row.user_id or context.user_id
    found: Attributes = {"gen_ai.conversation.id": session or context.trace_id}
    if session:
        found[Names.TRACE_SESSION_ID] = session
    if user:
        found[Names.TRACE_USER_ID] = user
    return found


def metadata_attributes(row: Observation, context: TraceContext, trace_url: str | None) -> Attributes:
    """Return `metadata.<key>`, as Kelet's SDK stamps a session's metadata on each of its spans."""
    own: dict[str, Any] = {
        "environment": row.environment or context.environment,
        "release": row.release or context.release,
        "version": row.version or context.version,
        "trace_name": context.trace_name or context.root_name,
        "tags": ",".join(row.tags or context.tags) or None,
        "langfuse_trace_id": context.trace_id,
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


def _metadata_value(value: Any, originals: Originals) -> AttributeValue:
    """Write a metadata value as the SDK that made the span does; Python's version 4 where that is unknown."""
    major = sdk_major(originals.scope)
    if major and originals.resource.get("telemetry.sdk.language") in {"nodejs", "webjs"}:
        return value if isinstance(value, str) else dump(value)
    if major >= 5:
        return dump(value)
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and _fits(value)):
        return value
    return value if isinstance(value, bool) and major == 3 else dump(value)


def _typed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return model parameters with the types that Langfuse turned to text: booleans, lists and objects."""
    return {key: _untold(value) if isinstance(value, str) else value for key, value in parameters.items()}


def _untold(text: str) -> Any:
    if text in {"true", "false"}:
        return text == "true"
    is_json, value = parse(text) if text[:1] in {"[", "{"} else (False, None)
    return value if is_json else text


def _fits(value: str | float) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63
