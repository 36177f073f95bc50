"""Pairs: spans as a program exported them directly, and what Langfuse's API returned for the very same spans."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.langfuse.v1_observations import parse_observation, parse_trace
from sync_worker.pipeline.assemble import Assembly
from sync_worker.records import Observation
from sync_worker.spans.context import gather
from sync_worker.spans.conversion import convert
from sync_worker.spans.span_model import Conversion, Span

DATA = Path(__file__).resolve().parent.parent / "data" / "fidelity"
NAMES = tuple(sorted(path.name.removesuffix(".json.gz") for path in DATA.glob("*.json.gz")))

SpanKey = tuple[str, str]

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Direct:
    """A span as it was exported directly. Times in Unix milliseconds; attribute values as plain Python ones."""

    key: SpanKey
    parent_id: str
    name: str
    kind: int
    start_ms: int
    end_ms: int
    status: int
    message: str
    scope: str
    scope_version: str
    scope_attributes: dict[str, Any]
    resource: dict[str, Any]
    attributes: dict[str, Any]
    events: list[str]  # names
    links: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One run of a program: its spans, and the answers of each generation of Langfuse's API for them."""

    name: str
    made_with: str
    direct: tuple[Direct, ...]
    v2: list[dict[str, Any]]
    v1: dict[str, list[dict[str, Any]]]


def _rows_v2(pair: Pair) -> list[Observation]:
    return [parse_v2_observation(row) for row in pair.v2]


def _rows_v1(pair: Pair) -> list[Observation]:
    return [*map(parse_trace, pair.v1["traces"]), *map(parse_observation, pair.v1["observations"])]


#: Each generation of Langfuse's API that is compared: by its name, how its answers become rows.
GENERATIONS: dict[str, Callable[[Pair], list[Observation]]] = {"v2": _rows_v2, "v1": _rows_v1}


def spans_of(rows: Iterable[Observation]) -> dict[SpanKey, Span]:
    """Return the spans that the worker makes of rows, with its default settings; nothing of them may be cut."""
    assembly = Assembly()
    assembly.add(list(rows), 0)
    made: dict[SpanKey, Span] = {}
    for trace_id, members in assembly.take().items():
        result = convert(members, gather(trace_id, members), "shop", Conversion())
        if result.notes:
            raise ValueError(f"trace {trace_id}: {dict(result.notes)}")
        made |= {(span.trace_id, span.span_id): span for _, span in result.spans}
    return made


@cache
def load(name: str) -> Pair:
    """Return a pair."""
    stored = json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
    direct = tuple(
        _direct(span, scoped["scope"], _attributes(group["resource"]))
        for group in stored["direct"]
        for scoped in group["scopeSpans"]
        for span in scoped["spans"]
    )
    return Pair(name, stored["made_with"], direct, stored["v2"], stored["v1"])


def _direct(span: dict[str, Any], scope: dict[str, Any], resource: dict[str, Any]) -> Direct:
    status = span.get("status", {})
    return Direct(
        key=(span["traceId"], span["spanId"]),
        parent_id=span.get("parentSpanId", ""),
        name=span["name"],
        kind=span.get("kind", 0),
        start_ms=int(span["startTimeUnixNano"]) // _NS_PER_MS,
        end_ms=int(span["endTimeUnixNano"]) // _NS_PER_MS,
        status=status.get("code", 0),
        message=status.get("message", ""),
        scope=scope.get("name", ""),
        scope_version=scope.get("version", ""),
        scope_attributes=_attributes(scope),
        resource=resource,
        attributes=_attributes(span),
        events=[event["name"] for event in span.get("events", [])],
        links=len(span.get("links", [])),
    )


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: _value(item.get("value", {})) for item in holder.get("attributes", [])}


def _value(value: dict[str, Any]) -> Any:
    """Return an OTLP/JSON value as Python's; the kinds that the worker never sends stay as they are."""
    for kind, read in _READERS.items():
        if kind in value:
            return read(value[kind])
    return value or None


_READERS: dict[str, Callable[[Any], Any]] = {
    "stringValue": str,
    "boolValue": bool,
    "intValue": int,
    "doubleValue": float,
    "arrayValue": lambda array: [_value(item) for item in (array or {}).get("values", [])],
}
