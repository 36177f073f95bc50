"""One hostile row among healthy ones, through the whole engine: the healthy ones arrive, once, whatever it is."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sync_worker.ledger import open_ledger
from sync_worker.ledger.lease import LIVE, release, take
from sync_worker.pipeline.report import SourceReport
from sync_worker.records import Observation
from sync_worker.settings import load
from sync_worker.sync.engine import Engine
from sync_worker.sync.opening import Transports
from sync_worker.times import moment_ms
from tests.support.clock import VirtualClock
from tests.support.rows import NOON, Row, row, trace

TRACE = "0af7651916cd43dd8448eb211c80319c"
MINUTE = 60_000
#: Where `tmp_path` is too: an example takes a state file of its own.
MEMORY = os.environ.get("PYTEST_DEBUG_TEMPROOT")


class Raw(str):
    """JSON text that is put into a row as it is."""


def wire(item: Any) -> str:
    """Return an item as JSON text, with raw text in it as it is."""
    if isinstance(item, Raw):
        return item
    if isinstance(item, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{wire(value)}" for key, value in item.items()) + "}"
    if isinstance(item, list):
        return "[" + ",".join(map(wire, item)) + "]"
    return json.dumps(item)


class Langfuse:
    """Serves healthy rows by their times, and one hostile row that it takes to start at noon."""

    def __init__(self, healthy: list[Row], hostile: Any) -> None:
        self.healthy = healthy
        self.hostile = hostile

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/projects"):
            project = {"id": "p1", "name": "p", "organization": {"id": "o", "name": "o"}, "metadata": {}}
            return httpx.Response(200, json={"data": [project]})
        if not request.url.path.endswith("/v2/observations"):
            return httpx.Response(404, json={"message": "no"})
        asked = dict(request.url.params)
        rows: list[Any] = [*self.healthy, self.hostile]
        rows = [item for item in rows if self._is_asked(item, asked)]
        at, limit = int(asked.get("cursor", 0)), int(asked["limit"])
        page = rows[at : at + limit]
        if "metadata" not in asked["fields"]:
            page = [self._light(item) for item in page]
        meta = {"cursor": str(at + limit)} if at + limit < len(rows) else {}
        body = '{"data":' + wire(page) + ',"meta":' + json.dumps(meta) + "}"
        return httpx.Response(
            200, content=body.encode("utf-8", "surrogatepass"), headers={"Content-Type": "application/json"}
        )

    def _is_asked(self, item: Any, asked: dict[str, str]) -> bool:
        start = item["startTime"] if item is not self.hostile else NOON.isoformat(timespec="milliseconds")
        if not asked["fromStartTime"].rstrip("Z") <= start[:23] < asked["toStartTime"].rstrip("Z"):
            return False
        keys = {"id": "id", "traceId": "traceId"}
        for condition in json.loads(asked.get("filter", "[]")):
            column = condition["column"]
            value = item.get(keys.get(column, column)) if isinstance(item, dict) else None
            if condition["operator"] == "any of" and value not in condition["value"]:
                return False
            if column == "isRootObservation" and value is not True:
                return False
        return True

    @staticmethod
    def _light(item: Any) -> Any:
        left_out = ("input", "output", "metadata", "modelParameters")
        return {key: value for key, value in item.items() if key not in left_out} if isinstance(item, dict) else item


class Kelet:
    """Counts what arrives, by the observation's id where it is told, else by the span's."""

    def __init__(self) -> None:
        self.spans: Counter[str] = Counter()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = (
            gzip.decompress(request.content) if request.headers.get("Content-Encoding") == "gzip" else request.content
        )
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans.update(span.span_id.hex() for span in scope.spans)
        return httpx.Response(200, content=b"", headers={"Content-Type": "application/x-protobuf"})


class Place:
    """A state file and both sides, for several cycles."""

    def __init__(self, folder: Path, hostile: Any, healthy: list[Row]) -> None:
        self.kelet = Kelet()
        self.langfuse = Langfuse(healthy, hostile)
        self.clock = VirtualClock(moment_ms(NOON) + 60 * MINUTE)
        environ = {
            "LANGFUSE_BASE_URL": "https://langfuse.test", "LANGFUSE_PUBLIC_KEY": "pk-lf-x",
            "LANGFUSE_SECRET_KEY": "sk-lf-x", "KELET_API_URL": "https://kelet.test", "KELET_API_KEY": "kelet-key-of-x",
            "KELET_PROJECT": "lab", "SYNC_STATE_PATH": str(folder / "state.db"),
        }  # fmt: skip
        self.settings = load(environ=environ, directory=folder)

    def once(self) -> tuple[SourceReport, int]:
        """Do a live cycle."""
        ledger = open_ledger(self.settings.state_path, self.clock)
        try:
            sides = Transports(httpx.MockTransport(self.langfuse), httpx.MockTransport(self.kelet))
            engine = Engine(self.settings, ledger, self.clock, 60.0, sides)
            lease = take(ledger, LIVE)
            try:
                return asyncio.run(engine.live(self.settings.sources[0]))
            finally:
                release(ledger, lease)
        finally:
            ledger.close()


def healthy_rows() -> list[Row]:
    """Return a trace of its own, and the trace that the hostile row stands in."""
    neighbours = trace(3, trace=TRACE, start=-30.0, seconds=20.0)
    return [*neighbours, *trace(2, trace="1" * 32, start=-60.0, seconds=20.0)]


def check(hostile: Any) -> tuple[SourceReport, Place]:
    """Run cycles with a hostile row, and hold what must hold whatever it is."""
    healthy = healthy_rows()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        place = Place(Path(folder), hostile, healthy)
        report, code = place.once()
        assert report.error is None
        assert code in {0, 3}
        assert [place.kelet.spans[item["id"]] for item in healthy] == [1] * len(healthy)
        before = place.kelet.spans.copy()
        for minutes in (1, 30, 240):
            place.clock.advance(minutes * 60.0)
            again, code = place.once()
            assert (again.error, code) == (None, 0), minutes
        assert sum((place.kelet.spans - before).values()) <= 1  # the hostile row itself may go when it has waited
        assert max(place.kelet.spans.values()) == 1
        return report, place


def deep(levels: int, inside: str = "1") -> Raw:
    """Return nested objects and arrays."""
    return Raw('{"a":[' * (levels // 2) + inside + "]}" * (levels // 2))


TEXTS = (
    st.text(st.characters(), max_size=20)
    | st.sampled_from(
        ["\ud800", "a\udfffb", "\ud83d\ude00", "\0", "a\0b", "", " ", "x" * 1_100, "\ufdd0d800", "😀", TRACE]
    )
)  # fmt: skip
ODD: st.SearchStrategy[Any] = (
    TEXTS
    | st.none() | st.booleans() | st.integers() | st.floats() | st.just({}) | st.just([])
    | st.lists(TEXTS, max_size=2) | st.dictionaries(TEXTS, TEXTS, max_size=2)
    | st.sampled_from([
        deep(90), deep(110), deep(490), deep(990), deep(5_000), deep(30_000), Raw("9" * 5_000), Raw("-" + "9" * 400),
        Raw("1e999"), Raw("NaN"), Raw("-Infinity"), Raw('{"a":1,"a":[2]}'), Raw('"\\ud800\\u0000"'), Raw('"a\tb"'),
        Raw('"' + "k" * 1_000_000 + '"'), Raw('{"' + "k" * 1_000_000 + '":1}'), Raw('[{"\\udc00":"\\udc00"}]'),
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999Z", "1969-12-31T23:59:59Z",
        "-001-01-01T00:00:00Z", "2400-01-01T00:00:00Z", "2026-11-20T12:00:00", NOON.isoformat(),
    ])
)  # fmt: skip
ROWS = st.dictionaries(st.sampled_from(sorted(row())), ODD, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(changes=ROWS, base=st.sampled_from(["neighbour", "alone"]))
@example({"metadata": {"m": deep(490)}}, "neighbour")
@example({"metadata": deep(5_000)}, "neighbour")
@example({"metadata": deep(30_000)}, "neighbour")
@example({"id": "\ud800"}, "neighbour")
@example({"traceId": "\udc00x"}, "alone")
@example({"traceId": ["a"], "parentObservationId": {"a": 1}, "tags": [{"a": 1}]}, "alone")
@example({"startTime": "9999-12-31T23:59:59.999Z", "endTime": "0001-01-01T00:00:00Z"}, "neighbour")
@example({"endTime": "9999-12-31T23:59:59.999Z", "updatedAt": "9999-12-31T23:59:59.999Z"}, "neighbour")
@example({"projectId": "\ud800", "sessionId": "\ud800", "environment": "\ud800", "tags": ["\ud800"]}, "neighbour")
@example({"id": Raw('"' + "i" * 1_000_000 + '"')}, "neighbour")
@example({"usageDetails": Raw('{"input":' + "9" * 5_000 + "}"), "promptVersion": Raw("9" * 400)}, "neighbour")
def test_one_hostile_row(changes: dict[str, Any], base: str) -> None:
    """It stops its source, takes its neighbours with it, makes them go out at every run, or is reported at each."""
    own = {"trace": TRACE} if base == "neighbour" else {}
    check(row(start=0.0, seconds=1.0, parent="00000000000000ff", **own) | changes)


WRONG = (Raw("5"), Raw("null"), Raw('"x"'), Raw("[]"), Raw("[[]]"), Raw('{"id":"x"}'), deep(30_000))


@pytest.mark.parametrize("hostile", WRONG, ids=[item[:9] for item in WRONG])
def test_what_is_no_row(hostile: Any) -> None:
    """An entry that is no row at all breaks the page it stands on."""
    report, _ = check(hostile)
    assert report.dead_letters == 1


def test_odd_ids_stay_apart() -> None:
    """Ids that no text can hold are taken for one another, or for the healthy one that looks like them."""
    ids = ["a\ud800", "a\ud801", "a?", "a\ufffd", "a\ufdd0d800"]
    rows = [row(trace=TRACE, id=item, start=-1.0) for item in ids]
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        place = Place(Path(folder), row(trace=TRACE, start=0.0), rows)
        assert (place.once()[0].spans_sent, len(place.kelet.spans)) == (6, 6)
        place.clock.advance(60.0)
        assert place.once()[0].spans_sent == 0


def test_a_deep_value_arrives_as_text() -> None:
    """What no library follows is lost, where it could go as the text that it is."""
    _, place = check(row(trace=TRACE, id="00000000000000ee", start=0.0, metadata={"m": deep(490, '"bottom"')}))
    assert place.kelet.spans["00000000000000ee"] == 1


def _breaks(usual: Any, fault: BaseException) -> Any:
    """Return a function that fails on what one row is among."""

    def broken(*arguments: Any, **options: Any) -> Any:
        for argument in arguments:
            members = argument if isinstance(argument, list) else [argument]
            if any(isinstance(item, Observation) and item.name == "culprit" for item in members):
                raise fault
        return usual(*arguments, **options)

    return broken


@pytest.mark.parametrize("fault", [RecursionError("deep"), MemoryError(), ValueError("odd")], ids=repr)
@pytest.mark.parametrize(
    "stage", ["langfuse.v2.parse_v2_observation", "pipeline.prepare.gather", "spans.conversion.convert",
              "spans.encode.encode", "spans.conversion._span", "spans.encode.fingerprint"]
)  # fmt: skip
def test_whatever_a_stage_makes_of_a_row(stage: str, fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in one stage on one row stops the source, takes the trace with it, or comes back at every run."""
    module, _, name = f"sync_worker.{stage}".rpartition(".")
    usual = getattr(importlib.import_module(module), name)
    if name == "parse_v2_observation":

        def broken(item: Any) -> Any:
            if item["name"] == "culprit":
                raise fault
            return usual(item)
    else:
        broken = _breaks(usual, fault)
    monkeypatch.setattr(f"{module}.{name}", broken)
    report, place = check(row(trace=TRACE, id="00000000000000ee", name="culprit", start=0.0, parent="00000000000000ff"))
    assert (place.kelet.spans["00000000000000ee"], report.dead_letters) == (0, 1)
