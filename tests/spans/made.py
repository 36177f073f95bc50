"""Rows for tests of the conversion, made up as Observations, and short ways to convert them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sync_worker.records import Observation
from sync_worker.spans.context import gather
from sync_worker.spans.conversion import Converted, convert
from sync_worker.spans.span_model import Attributes, Conversion, Span

TRACE = "0af7651916cd43dd8448eb211c80319c"
ROOT, CHILD, GRANDCHILD = "00000000000000a1", "00000000000000b2", "00000000000000c3"
T0 = 1_795_000_000_000  # Unix ms

#: What Langfuse adds to the metadata of a span that came over OTLP from an instrumentation it does not know.
OTLP: dict[str, Any] = {"scope.version": "1.0", "scope.name": "my.app", "resourceAttributes.service.name": "shop"}


def row(id: str = ROOT, **changes: Any) -> Observation:  # noqa: A002
    """Return a row of one second; `start` and `end` are milliseconds after the first moment, `end=None` is open."""
    start, end = changes.pop("start", 0), changes.pop("end", 1000)
    known: dict[str, Any] = {
        "id": id,
        "trace_id": TRACE,
        "project_id": "p1",
        "type": "SPAN",
        "name": "step",
        "start_ms": T0 + start,
        "end_ms": None if end is None else T0 + end,
    }
    return Observation(**(known | changes))


def generation(id: str = ROOT, **changes: Any) -> Observation:  # noqa: A002
    """Return a row for a model call."""
    return row(
        id, **({"type": "GENERATION", "name": "call", "model": "gpt-4o", "input": "hi", "output": "ho"} | changes)
    )


def converted(rows: Sequence[Observation], others: Sequence[Observation] = (), **options: Any) -> Converted:
    """Convert rows of one trace with all that they and the others say of it."""
    trace_id = rows[0].trace_id or "obs:" + rows[0].id
    return convert(rows, gather(trace_id, [*rows, *others]), "shop-prod", Conversion(**options), others)


def spans(*rows: Observation, others: Sequence[Observation] = (), **options: Any) -> dict[str, Span]:
    """Return the spans of rows by row id."""
    return {row.id: span for row, span in converted(rows, others, **options).spans}


def span(only: Observation, **options: Any) -> Span:
    """Return the span of a row that is alone in its trace."""
    return spans(only, **options)[only.id]


def attributes(only: Observation, **options: Any) -> Attributes:
    """Return the attributes of a row that is alone in its trace."""
    return span(only, **options).attributes


def otlp(**original: Any) -> dict[str, Any]:
    """Return metadata of a span that came over OTLP with these attributes; `__` stands for a dot."""
    return {f"attributes.{key.replace('__', '.')}": value for key, value in reversed(original.items())} | OTLP


def held(found: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return what is found under the keys, to compare it with one literal."""
    return {key: found[key] for key in keys if key in found}
