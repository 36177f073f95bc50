"""The same data, told by both generations of Langfuse's API: recorded from one server that has both.

What may differ is listed in `docs/generations.md`.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sync_worker.json_text import parse
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.langfuse.v1_observations import parse_observation, parse_trace
from sync_worker.records import Observation
from sync_worker.spans.context import gather
from sync_worker.spans.conversion import convert
from sync_worker.spans.span_model import Conversion, Span

DATA = Path(__file__).parents[1] / "data" / "v4.16.0-dual-items.json.gz"

#: Attributes that v2 does not tell of traces that came over OpenTelemetry.
TRACE_IO = {"langfuse.trace.input", "langfuse.trace.output"}
#: A trace of three roots whose parents are elsewhere: v1 does not say that they are roots.
SEVERAL_ROOTS = {"root-0", "root-1", "root-2"}
OF_THE_ROOT = {"langfuse.trace.name", "langfuse.internal.is_app_root", "metadata.trace_name", "gen_ai.agent.name"}
#: A root whose parent is elsewhere.
ORPHAN = {"orphan-child"}
#: A metadata key that stands on the trace and on an observation: in dual mode v2 tells it once.
BOTH = {"langfuse.trace.metadata.s", "langfuse.observation.metadata.s"}


def _spans(trace_id: str, rows: list[Observation]) -> dict[str, Span]:
    made = convert(rows, gather(trace_id, rows), "shop", Conversion())
    return {span.span_id: span for _, span in made.spans}


@cache
def both() -> dict[str, tuple[dict[str, Span], dict[str, Span]]]:
    """Return the spans of each trace as v1 and as v2 give them."""
    data = json.loads(gzip.decompress(DATA.read_bytes()))
    stated: dict[str, dict[str, list[Observation]]] = defaultdict(lambda: {"v1": [], "v2": []})
    for item in data["traces"]:
        stated[item["id"]]["v1"].append(parse_trace(item))
    for item in data["observations"]:
        stated[item["traceId"]]["v1"].append(parse_observation(item))
    for item in data["rows"]:
        stated[item["traceId"]]["v2"].append(parse_v2_observation(item))
    return {
        trace: (_spans(trace, rows["v1"]), _spans(trace, rows["v2"]))
        for trace, rows in stated.items()
        if rows["v1"] and rows["v2"]
    }


def _allowed(span: Span) -> set[str]:
    name = span.name
    return TRACE_IO | BOTH | (OF_THE_ROOT if name in SEVERAL_ROOTS | ORPHAN else set())


def _value(value: Any) -> Any:
    """Return a value so that the white space of JSON text does not count."""
    is_json, parsed = parse(value) if isinstance(value, str) else (False, None)
    return ("JSON", parsed) if is_json else (type(value).__name__, value)


def test_there_is_enough_to_compare() -> None:
    """A comparison of nothing finds no difference."""
    assert len(both()) >= 20
    assert sum(len(left.keys() & right.keys()) for left, right in both().values()) >= 60


@pytest.mark.parametrize("field", ["trace_id", "parent_id", "name", "kind", "start_ns", "end_ns", "status_code",
                                   "status_message", "scope", "resource", "events"])  # fmt: skip
def test_spans_agree(field: str) -> None:
    """After an upgrade the same trace would have another tree, other names or times."""
    for left, right in both().values():
        for span_id in left.keys() & right.keys():
            assert getattr(left[span_id], field) == getattr(right[span_id], field), left[span_id].name


def test_attributes_agree() -> None:
    """After an upgrade the same span would say something else."""
    different = []
    for left, right in both().values():
        for span_id in left.keys() & right.keys():
            here, there = left[span_id].attributes, right[span_id].attributes
            for key in here.keys() | there.keys():
                same = key in here and key in there and _value(here[key]) == _value(there[key])
                if not same and key not in _allowed(left[span_id]):
                    different.append((left[span_id].name, key, here.get(key), there.get(key)))
    assert not different


def test_each_exception_is_needed() -> None:
    """A difference that is gone stays in the docs."""
    found = {
        key
        for left, right in both().values()
        for span_id in left.keys() & right.keys()
        for key in left[span_id].attributes.keys() ^ right[span_id].attributes.keys()
    }
    assert found >= TRACE_IO | BOTH | {"langfuse.internal.is_app_root", "langfuse.trace.name"}
