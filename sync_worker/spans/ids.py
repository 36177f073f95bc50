"""Trace and span ids: the same Langfuse id gives the same OTLP id, on every run and on every machine.

OTLP wants 16 bytes for a trace and 8 for a span. OpenTelemetry ids pass through Langfuse unchanged and stay as they
are; UUIDs of trace are 16 bytes already; whatever else Langfuse accepts (1 to 800 characters) is hashed together with
its Langfuse project. Changing anything here gives every customer new ids, so the mapping carries a version.
"""

from __future__ import annotations

import hashlib
import re

from sync_worker.records import SYNTHETIC_ROOT_PREFIX, is_otel_span_id, is_otel_trace_id

#: Version of the mapping, kept with the state: ids of another version are not the same spans.
ID_MAP_VERSION = 1

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")


def source_trace_id(trace_id: str | None, observation_id: str) -> str:
    """Return the Langfuse trace id, or the one made up for an observation that has none."""
    return trace_id if trace_id is not None else "obs:" + observation_id


def otlp_trace_id(project_id: str, trace_id: str) -> str:
    """Return 32 lower-case hex digits, never all zero, for a Langfuse trace id."""
    if is_otel_trace_id(trace_id):
        kept = trace_id.lower()
    elif _UUID.match(trace_id):
        kept = trace_id.replace("-", "").lower()
    else:
        kept = ""
    if kept.strip("0"):
        return kept
    return _hashed(f"lf:trace:{project_id}:{trace_id}", 16)


def otlp_span_id(project_id: str, trace_id: str, observation_id: str) -> str:
    """Return 16 lower-case hex digits, never all zero, for a Langfuse observation id of a trace."""
    if is_otel_span_id(observation_id):
        return observation_id.lower()
    return _hashed(f"lf:span:{project_id}:{trace_id}:{observation_id}", 8)


def is_same_span(observation_id: str, other_id: str) -> bool:
    """Whether two observation ids of a trace become one span id: sloppy exporters write hex in both cases."""
    return observation_id == other_id or (
        observation_id.lower() == other_id.lower() and is_otel_span_id(observation_id)
    )


def source_parent_id(trace_id: str, observation_id: str, parent_id: str | None) -> str | None:
    """Return the parent's Langfuse id, or None for a root.

    An observation that is its own parent is a root. So is an OpenTelemetry observation below the synthetic root that
    Langfuse makes of its trace (`t-<trace id>`): a direct export had no such span.
    """
    if not parent_id or is_same_span(observation_id, parent_id):
        return None
    if parent_id == SYNTHETIC_ROOT_PREFIX + trace_id and is_otel_trace_id(trace_id) and is_otel_span_id(observation_id):
        return None
    return parent_id


def _hashed(text: str, size: int) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:size]
    return digest.hex() if any(digest) else _hashed(text + ":0", size)
