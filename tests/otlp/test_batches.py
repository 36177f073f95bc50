"""Requests are put together from bytes: they must be what the protobuf library would have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from sync_worker.otlp.batches import Batcher, body
from sync_worker.spans.span_model import EncodedSpan, ObservationKey
from tests.otlp.conftest import encoded

SIZES = st.sampled_from([0, 1, 90, 126, 127, 128, 129, 300, 16_200, 16_383, 16_384, 20_000]) | st.integers(0, 400)


@st.composite
def batches(draw: st.DrawFn) -> list[EncodedSpan]:
    """Spans of any size, with a few resources and scopes of any size in any order."""
    resources = draw(st.lists(SIZES, min_size=1, max_size=3, unique=True))
    scopes = draw(st.lists(SIZES, min_size=1, max_size=3, unique=True))
    count = draw(st.integers(1, 12))
    return [
        EncodedSpan(
            key=ObservationKey("t", str(number)),
            project="p",
            trace_id="t",
            resource=_resource(draw(st.sampled_from(resources))),
            scope=_scope(draw(st.sampled_from(scopes))),
            span=_span(number, draw(SIZES)),
            start_ms=0,
            updated_ms=0,
            fingerprint=b"",
        )
        for number in range(count)
    ]


def _resource(size: int) -> bytes:
    made = Resource()
    if size:
        made.attributes.add(key="r" * size)
    return made.SerializeToString()


def _scope(size: int) -> bytes:
    return InstrumentationScope(name="s" * size).SerializeToString()


def _span(number: int, size: int) -> bytes:
    return Span(name="n" * size, start_time_unix_nano=number).SerializeToString()


def by_library(batch: Sequence[EncodedSpan]) -> ExportTraceServiceRequest:
    """Group spans by resource and scope, in order of appearance, with the library's own messages."""
    groups: dict[bytes, dict[bytes, list[Span]]] = {}
    for one in batch:
        groups.setdefault(one.resource, {}).setdefault(one.scope, []).append(Span.FromString(one.span))
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource.FromString(resource),
                scope_spans=[
                    ScopeSpans(scope=InstrumentationScope.FromString(scope), spans=under)
                    for scope, under in scopes.items()
                ],
            )
            for resource, scopes in groups.items()
        ]
    )


@given(batches())
def test_body_is_what_the_library_writes(batch: list[EncodedSpan]) -> None:
    """Kelet cannot read a request, or finds a span under another resource, twice, or not at all."""
    written = body(batch)
    assert written == by_library(batch).SerializeToString()
    read = ExportTraceServiceRequest.FromString(written)
    found = [item for one in read.resource_spans for scope in one.scope_spans for item in scope.spans]
    assert sorted(item.start_time_unix_nano for item in found) == list(range(len(batch)))
    for one in read.resource_spans:
        for scope in one.scope_spans:
            order = [item.start_time_unix_nano for item in scope.spans]
            assert order == sorted(order)
    assert len({one.resource.SerializeToString() for one in read.resource_spans}) == len(read.resource_spans)


def test_body_of_nothing() -> None:
    """The empty request, which `check` sends, is not empty."""
    assert body([]) == b""


@st.composite
def traces(draw: st.DrawFn) -> list[list[EncodedSpan]]:
    """Traces of a few projects, their spans not always of one project."""
    made = []
    for trace in range(draw(st.integers(0, 12))):
        projects = draw(st.sampled_from([["a"], ["b"], ["a", "b"]]))
        made.append([
            encoded(
                "n" * draw(st.sampled_from([1, 50, 400])),
                number + 1,
                trace=trace + 1,
                project=draw(st.sampled_from(projects)),
                resource=draw(st.sampled_from(["x", "y" * 300])),
                scope=draw(st.sampled_from(["s", "t" * 200])),
            )
            for number in range(draw(st.integers(0, 7)))
        ])  # fmt: skip
    return made


@settings(max_examples=150)
@given(traces(), st.integers(1, 9), st.sampled_from([1, 300, 600, 1500, 4000, 10**6]))
def test_pack(made: list[list[EncodedSpan]], max_spans: int, max_bytes: int) -> None:
    """A batch mixes projects, passes a limit, tears a trace apart for nothing, or loses or reorders spans."""
    packed = list(pack(made, max_spans, max_bytes))
    everything = [one for trace in made for one in trace]
    assert Counter(one.key for one in _flat(packed)) == Counter(one.key for one in everything)
    for project in ("a", "b"):
        sent = [one.key for one in _flat(packed) if one.project == project]
        assert sent == [one.key for one in everything if one.project == project]
    for batch in packed:
        assert batch
        assert len({one.project for one in batch}) == 1
        assert len(batch) <= max_spans
        assert len(body(batch)) <= max_bytes or len(batch) == 1
    for trace in made:
        for project, group in groupby(trace, key=lambda one: one.project):
            part = list(group)
            holding = [batch for batch in packed if any(one in batch for one in part)]
            assert {one.project for batch in holding for one in batch} == {project}
            fits = len(part) <= max_spans and len(body(part)) + 20 * len(part) <= max_bytes
            assert len(holding) == 1 or not fits


def pack(traces: Iterable[Sequence[EncodedSpan]], max_spans: int, max_bytes: int) -> Iterator[list[EncodedSpan]]:
    """Yield the batches of traces."""
    batcher = Batcher(max_spans, max_bytes)
    for trace in traces:
        yield from batcher.add(trace)
    yield from batcher.rest()


def _flat(packed: list[list[EncodedSpan]]) -> list[EncodedSpan]:
    return [one for batch in packed for one in batch]


def test_pack_fills_batches() -> None:
    """Requests go out half empty although the next trace would have fitted."""
    made = [[encoded(trace=trace, number=number) for number in (1, 2)] for trace in range(1, 101)]
    assert [len(batch) for batch in pack(made, 50, 10**6)] == [50, 50, 50, 50]
    assert [len(batch) for batch in pack(made, 51, 10**6)] == [50, 50, 50, 50]


def test_what_spans_have_in_common_counts_once() -> None:
    """Requests go out at a fraction of their size, since each trace counts the resource and the scope of all."""
    made = [[encoded(trace=trace, resource="r" * 400, scope="s" * 400)] for trace in range(1, 101)]
    everything = _flat(made)
    assert list(pack(made, 1000, len(body(everything)) + 20 * len(everything))) == [everything]


def test_pack_takes_only_what_it_needs() -> None:
    """A backlog is converted before the first batch goes out, and fills the memory."""
    taken = []

    def source() -> Iterator[list[EncodedSpan]]:
        for trace in range(1, 1000):
            taken.append(trace)
            yield [encoded(trace=trace)]

    packed = pack(source(), 10, 10**6)
    assert taken == []
    next(packed)
    assert len(taken) <= 11
    next(packed)
    assert len(taken) <= 21


def test_batch_is_not_touched_after_it_went_out() -> None:
    """A batch in flight grows while its request is being tried again."""
    packed = pack([[encoded(trace=trace)] for trace in range(1, 31)], 10, 10**6)
    first = next(packed)
    before = list(first)
    assert len(list(packed)) == 2
    assert first == before
