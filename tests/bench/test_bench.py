"""A tiny benchmark: its servers serve all rows, its receiver counts right, and its programs do the same work."""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.flow import Flow
from bench.flow_store import FlowStore
from bench.freshness import Wait, purposes, trace_waits
from bench.langfuse_server import Langfuse
from bench.otlp_sink import Sink
from bench.serving import Request
from bench.shape import DAY_MS, HOUR_MS, Shape, iso, recent, unix_ms
from bench.speed import speed
from bench.store import Store
from sync_worker.langfuse.v2 import CONTEXT, FULL, METADATA_ONLY

SHAPE = Shape(blocks=3, block_rows=200, period_ms=HOUR_MS, first_ms=unix_ms("2026-03-01T22:00:00.000Z"))


@pytest.fixture(scope="module")
def langfuse() -> Langfuse:
    return Langfuse(Store(SHAPE))


def listed(langfuse: Langfuse, fields: str = FULL, **asked: str) -> list[dict[str, Any]]:
    """Walk pages as a client does."""
    rows: list[dict[str, Any]] = []
    query = "&".join(f"{name}={value}" for name, value in {"fields": fields, "limit": "70", **asked}.items())
    cursor = ""
    while True:
        target = f"/api/public/v2/observations?{query}{cursor}"
        reply = langfuse.answer(Request("GET", target, {"authorization": "x", "accept-encoding": "gzip"}, b""))
        page = json.loads(gzip.decompress(reply.body))
        rows += page["data"]
        if "cursor" not in page["meta"]:
            return rows
        assert page["data"]
        cursor = f"&cursor={page['meta']['cursor']}"


def condition(column: str, value: Any) -> str:
    return json.dumps([{"type": "x", "column": column, "operator": "any of", "value": value}], separators=(",", ":"))


class TestLangfuse:
    def test_all_rows_newest_first(self, langfuse: Langfuse) -> None:
        """Rows would be missing or repeated at the borders of pages and blocks, and every measurement would fail."""
        rows = listed(langfuse)
        assert len({(row["traceId"], row["id"]) for row in rows}) == len(rows) == SHAPE.rows
        starts = [row["startTime"] for row in rows]
        assert starts == sorted(starts, reverse=True)
        assert min(starts) >= iso(SHAPE.first_ms)
        assert max(starts) < iso(SHAPE.end_ms)
        parents = {(row["traceId"], row["parentObservationId"]) for row in rows if row["parentObservationId"]}
        assert parents <= {(row["traceId"], row["id"]) for row in rows}

    def test_intervals_meet(self, langfuse: Langfuse) -> None:
        """An interval would repeat what its neighbour holds, or leave a row out between them."""
        rows = listed(langfuse)
        cuts = [SHAPE.first_ms - DAY_MS, unix_ms(rows[450]["startTime"]), SHAPE.start_of(2), SHAPE.end_ms + DAY_MS]
        parts: list[dict[str, Any]] = []
        for start, end in pairwise(cuts):
            parts = listed(langfuse, fromStartTime=iso(start), toStartTime=iso(end)) + parts
        assert parts == rows

    def test_filters(self, langfuse: Langfuse) -> None:
        """Roots would not be found, and late rows would be fetched again and again."""
        rows = listed(langfuse)
        some = rows[::97]
        ids = [row["id"] for row in some]
        traces = sorted({row["traceId"] for row in some})
        assert listed(langfuse, filter=condition("id", ids)) == some
        assert listed(langfuse, filter=condition("traceId", traces)) == [r for r in rows if r["traceId"] in traces]
        roots = json.loads(condition("traceId", traces)) + json.loads(condition("isRootObservation", value=True))
        found = listed(langfuse, CONTEXT, filter=json.dumps(roots, separators=(",", ":")))
        assert {row["traceId"] for row in found} == set(traces)
        assert all(row["parentObservationId"] is None and "input" not in row for row in found)
        since = rows[300]["startTime"]
        late = listed(langfuse, METADATA_ONLY, filter=condition("endTime", since))
        assert [row["id"] for row in late] == [r["id"] for r in rows if r["endTime"] and r["endTime"] >= since]
        assert "metadata" not in late[0]


def test_sink_reports_lost_repeated_and_strange_spans(langfuse: Langfuse) -> None:
    """A worker that loses spans or sends them twice would pass as a fast one."""
    ids = [row["id"] for row in listed(langfuse)]
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for observation_id in [*ids[:-2], ids[0], "00" * 8]:
        spans.add(trace_id=b"\x07" * 16, span_id=bytes.fromhex(observation_id), name="x" * 300)
    headers = {"content-encoding": "gzip"}
    with closing(Sink(SHAPE)) as sink:
        sink.answer(Request("POST", "/api/traces", headers, gzip.compress(request.SerializeToString())))
        reported = json.loads(sink.answer(Request("GET", "/bench/arrivals", {}, b"")).body)
    assert sum(moment > 0 for block in reported["arrivals"] for moment in block) == SHAPE.rows - 2
    counts = reported["counts"]
    wanted = {"requests": 1, "spans": SHAPE.rows, "unique": SHAPE.rows - 2, "repeated": 1, "strange": 1}
    assert {name: counts[name] for name in wanted} == wanted


def test_every_program_does_the_whole_work(tmp_path: Path) -> None:
    """The benchmark would not run, or compare programs that do not bring over the same rows."""
    report = speed(recent(240), tmp_path, rounds=1)
    assert [row[0] for row in report.rows] == [
        "backfill", "once", "SDK script", "SDK script, 4 threads", "tuned script", "bare work",
    ]  # fmt: skip
    assert "SDK script" in report.as_text()
    report.write(tmp_path / "report.json")
    reported = json.loads((tmp_path / "report.json").read_text())
    assert reported["details"]["backfill"]["counts"]["kelet"]["unique"] == 240


class TestFlow:
    FLOW = Flow(rate=30, seconds=10, first_ms=unix_ms("2026-03-01T22:59:50.000Z"))

    def test_observations_come_when_they_have_ended(self) -> None:
        """A trace would be whole from its start on, and its freshness would be nothing that happens."""
        now = self.FLOW.first_ms
        langfuse = Langfuse(FlowStore(self.FLOW, lambda: now))
        assert listed(langfuse) == []
        seen: dict[str, str] = {}
        for now in range(self.FLOW.first_ms, self.FLOW.first_ms + 330_000, 15_000):
            seen |= {row["id"]: row["updatedAt"] for row in listed(langfuse) if row["id"] not in seen}
            assert max(seen.values(), default="") <= iso(now)
        rows = listed(langfuse)
        assert len(seen) == len(rows) == len(self.FLOW.all)
        assert {row["id"] for row in rows if row["parentObservationId"]} | {
            self.FLOW.id_of(one.number) for one in self.FLOW.all if one.parent is None
        } == set(seen)
        late = [one for one in self.FLOW.all if one.is_late]
        assert 0.01 < len(late) / len(rows) < 0.06
        on_time = {one.trace: one for one in sorted(self.FLOW.all, key=lambda one: one.written_ms) if not one.is_late}
        assert all(last.parent is None for last in on_time.values())

    def test_a_wait_is_distinguished(self) -> None:
        """What SYNC_SETTLE and the interval cost would pass as work, or the other way round."""
        (trace, *_) = {one.trace: one for one in self.FLOW.all if not one.is_late}
        comes = [one for one in self.FLOW.all if one.trace == trace]
        end = max(one.written_ms for one in comes if not one.is_late)
        arrived = [end + 52_500 if one.trace == trace else 0 for one in self.FLOW.all]
        (wait,) = trace_waits(comes, arrived, [end - 10_000, end + 50_000, end + 110_000])
        assert wait == Wait(whole=52.5, quiet=30, interval=20, work=2.5)

    def test_requests_are_known_by_what_they_are_for(self) -> None:
        """A second read would pass as an interval, and what a worker reads again and again would not show."""
        now = self.FLOW.first_ms + 700_000
        langfuse = Langfuse(FlowStore(self.FLOW, lambda: now))
        ids = condition("id", [self.FLOW.id_of(0)])
        for fields, asked in (
            (FULL, {"toStartTime": iso(now)}), (FULL, {"toStartTime": iso(now - 600_000)}), (FULL, {"filter": ids}),
            (METADATA_ONLY, {"toStartTime": iso(now)}), (METADATA_ONLY, {"filter": ids}),
        ):  # fmt: skip
            listed(langfuse, fields, limit="1000", **asked)
        counted = json.loads(langfuse.answer(Request("GET", "/bench/reset", {}, b"")).body)["counts"]
        found = {name: (requests, rows) for name, requests, rows, _ in purposes(counted, len(self.FLOW.all)).rows}
        for name in ("intervals", "second reads, as intervals", "lookback scans"):
            assert found[name] == (1, len(self.FLOW.all))
        assert (
            found["late observations and second reads, by id"] == found["observations that may be unmerged"] == (1, 1)
        )
        assert found["all"] == (5, 3 * len(self.FLOW.all) + 2)
