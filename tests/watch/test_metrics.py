"""Metrics and their pages in this process: bounds, labels, a loop that hangs, a state file that is busy, files."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest

from sync_worker.clock import SystemClock
from sync_worker.errors import ConfigError, StateError
from sync_worker.ledger import open_ledger
from sync_worker.ledger.reading import open_to_read
from sync_worker.ledger.totals import ACCEPTED, count, totals
from sync_worker.measurements import (
    BOUNDS,
    CYCLE_SECONDS,
    CYCLES,
    DELIVERY_SECONDS,
    TARGET_REQUESTS,
    Histogram,
    Measurements,
    Tick,
)
from sync_worker.runs.arrival_delay import BOUNDS as ARRIVAL
from sync_worker.settings import WrongValueError
from sync_worker.settings.values import parse_listen
from sync_worker.sync.observed import endpoint_of, target_transport
from sync_worker.targets import PRESETS, PresetName, Target
from sync_worker.watch.exposition import render, with_measurements
from sync_worker.watch.http_server import HttpServer, text
from sync_worker.watch.metrics import ARRIVAL_BOUNDS, METRICS, MOST_VALUES, bounded
from sync_worker.watch.pages import HANGS_AFTER, Pages
from tests.sync.conftest import MakeWorld

BY_NAME = {metric.name: metric for metric in METRICS}


def test_names_follow_the_rules() -> None:
    """Prometheus' own tools would complain of a name, or two metrics have one."""
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.bounds) == (metric.kind == "histogram")
        assert set(metric.labels) <= {"source", "kelet_project", "outcome", "endpoint", "code", "version"}
        assert metric.meaning.endswith(".")


def test_histogram_of_the_state_file_has_its_buckets() -> None:
    """Arrival delays would be shown in buckets that they were not counted in."""
    assert tuple(map(float, ARRIVAL)) == ARRIVAL_BOUNDS


def test_labels_are_bounded() -> None:
    """A template of projects would make any number of series, and Prometheus run out of memory."""
    spans: dict[tuple[str, ...], float | Histogram] = {
        ("a", f"p{number}", "accepted"): float(number) for number in range(200)
    }
    found = bounded(BY_NAME["spans_total"], spans)
    assert len(found) == MOST_VALUES + 1
    assert found["a", "other", "accepted"] == sum(range(MOST_VALUES, 200))
    lags = bounded(BY_NAME["lag_seconds"], {(f"s{number}",): float(number) for number in range(80)})
    assert lags["other",] == 79.0
    marks: dict[tuple[str, ...], float | Histogram] = {(f"s{number}",): float(number) for number in range(80)}
    assert bounded(BY_NAME["watermark_timestamp_seconds"], marks)["other",] == float(MOST_VALUES)
    cycles: dict[tuple[str, ...], float | Histogram] = {(f"s{number}",): Histogram((1, 0), 2.0) for number in range(52)}
    assert bounded(BY_NAME["cycle_duration_seconds"], cycles)["other",] == Histogram((2, 0), 4.0)


def test_projects_of_a_template_are_bounded_in_the_state_file(tmp_path: Path) -> None:
    """The state file would grow with each project that a template makes."""
    ledger = open_ledger(tmp_path / "state.db", SystemClock())
    with ledger.transaction():
        for number in range(70):
            count(ledger, 1, ACCEPTED, f"p {number}", 2)
            count(ledger, 1, ACCEPTED, "p 0", 1)
        count(ledger, 2, ACCEPTED, "p 0", 5)
    found = totals(ledger, 1)
    ledger.close()
    assert len(found) == 51
    assert (found[ACCEPTED, "p 0"], found[ACCEPTED, "other"]) == (72, 40)


def test_measurements_go_on_from_what_was_stored() -> None:
    """Each `once` would report its own counts, and a rate of them be 0."""
    before, after = Measurements(), Measurements()
    before.count(CYCLES, "a", "ok", by=3)
    before.observe(CYCLE_SECONDS, 0.2, "a")
    after.load(before.as_json())
    after.count(CYCLES, "a", "ok")
    after.observe(CYCLE_SECONDS, math.inf, "b")
    after.observe(CYCLE_SECONDS, 0.5, "a")
    assert after.counters(CYCLES) == {("a", "ok"): 4}
    assert after.histograms(CYCLE_SECONDS)["a",] == Histogram((0, 2, *[0] * (len(BOUNDS[CYCLE_SECONDS]) - 1)), 0.7)
    stored = before.as_json()
    stored["histograms"][CYCLE_SECONDS] = [["a", [1, 2], 0.5]]
    other = Measurements()
    other.load(stored)
    assert other.histograms(CYCLE_SECONDS) == {}


def test_series_of_one_process_are_bounded() -> None:
    """A server that answers with ever new codes would fill the memory."""
    made = Measurements()
    for number in range(3_000):
        made.count(CYCLES, "a", str(number))
    found = made.counters(CYCLES)
    assert (len(found), found["a", "other"]) == (2_001, 1_000)


def test_text_is_escaped() -> None:
    """A name with a quote or a line break would break the whole scrape."""
    _, body = render({"spans_total": {("a", 'x"\n\\y', "accepted"): 1}}, "", process=False)
    assert b'kelet_project="x\\"\\n\\\\y"' in body


def test_a_loop_that_hangs(make_world: MakeWorld) -> None:
    """A worker that hangs would be taken for one that waits, and never be restarted."""
    now = 0.0
    made = make_world([])
    tick = Tick(lambda: now)
    pages = Pages(made.settings(), made.settings().sources, made.clock, Measurements(), tick, dict)
    server = HttpServer("127.0.0.1", 0, pages.by_path())
    try:
        now = HANGS_AFTER - 1
        assert _get(f"{server.url}/healthz") == (200, "ok\n")
        now = HANGS_AFTER
        status, body = _get(f"{server.url}/healthz")
        assert (status, "the event loop has not run for 120 s" in body) == (503, True)
        tick.note()
        assert _get(f"{server.url}/healthz")[0] == 200
        assert _get(f"{server.url}/readyz") == (503, "the lease of the live sync is not held yet\n")
    finally:
        server.close()


def test_what_nobody_expected_is_one_line() -> None:
    """An error in a page would be a traceback for whoever asks, with whatever is in it."""

    def broken(_: object) -> object:
        raise RuntimeError("with a secret in it")

    server = HttpServer("127.0.0.1", 0, {"/x": broken, "/y": lambda _: text("a\nb")})  # type: ignore[dict-item]
    try:
        assert _get(f"{server.url}/x") == (503, "/x failed: unexpected RuntimeError\n")
        assert _get(f"{server.url}/y") == (200, "a b\n")
    finally:
        server.close()


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_busy_state_file_is_not_waited_for(tmp_path: Path) -> None:
    """A scrape would hang as long as another program has the file, or longer than Prometheus waits."""
    path = tmp_path / "state.db"
    open_ledger(path, SystemClock()).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = delete")
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with (
            pytest.raises(StateError, match="cannot be read in time"),
            open_to_read(path, SystemClock(), began + 0.3) as ledger,
        ):
            ledger.sources()
        other.execute("ROLLBACK")
    with open_to_read(path, SystemClock(), time.monotonic() + 60) as ledger:
        assert ledger.sources() == []
        with pytest.raises(StateError):
            ledger.delete_hourly_count(1, 1)


def test_a_query_that_takes_long_is_broken_off(tmp_path: Path) -> None:
    """A large state file would keep a scrape busy for minutes, and every later one."""
    path = tmp_path / "state.db"
    open_ledger(path, SystemClock()).close()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with (
        pytest.raises(StateError, match="cannot be read in time"),
        open_to_read(path, SystemClock(), time.monotonic() + 0.2) as ledger,
    ):
        ledger.query(endless)


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/api/public/v2/observations", "/api/public/v2/observations"),
        ("/langfuse/api/public/traces/7c1f", "/api/public/traces"),
        ("/secret-id/of/media.png", "other"),
    ],
)
def test_endpoints_have_no_ids(path: str, endpoint: str) -> None:
    """Each trace would be a series of its own, with its id in it."""
    assert endpoint_of(path) == endpoint


@pytest.mark.parametrize(
    ("preset", "path", "series"),
    [
        ("kelet", "/api/traces", ("shop", "traces")),
        ("kelet", "/api/projects/lab/signal", ("lab", "signals")),
        ("phoenix", "/v1/traces", ("main", "traces")),
        ("phoenix", "/v1/logs", ("main", "signals")),
    ],
)
async def test_scores_to_any_target_are_no_spans(preset: PresetName, path: str, series: tuple[str, str]) -> None:
    """A target that takes scores as log events seems to get more requests with spans, and to answer them faster."""
    made, target = Measurements(), Target(preset, "https://t.example", PRESETS[preset])
    answer = httpx.MockTransport(lambda _: httpx.Response(200))
    async with target_transport(answer, "one", target, "main", made) as transport:
        headers = {"X-Kelet-Project": "shop"} if preset == "kelet" else {}
        await transport.handle_async_request(httpx.Request("POST", f"https://t.example{path}", headers=headers))
    assert made.counters(TARGET_REQUESTS) == {("one", *series, "200"): 1}
    assert len(made.histograms(DELIVERY_SECONDS)) == (series[1] == "traces")


@pytest.mark.parametrize(
    ("written", "address"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0)), ("localhost:80", ("localhost", 80))],
)
def test_addresses_to_listen_at(written: str, address: tuple[str, int]) -> None:
    """A usual way to write an address would not be understood."""
    assert parse_listen(written) == address


@pytest.mark.parametrize("written", ["9464", ":9464", "::1:9464", "a b:1", "x:65536", "x:", "http://x:1", "[x]:1"])
def test_no_addresses_to_listen_at(written: str) -> None:
    """A mistake would end in an error of the operating system, or in another address."""
    with pytest.raises(WrongValueError):
        parse_listen(written)


class TestMetricsFile:
    def test_counts_go_on(self, make_world: MakeWorld) -> None:
        """Counts of a `once` a minute would begin at 0 each time, and every rate be 0."""
        made = make_world([])
        for _ in range(3):
            assert made.program("once", "--metrics-file", "m.prom")[0] == 0
        written = (made.folder / "m.prom").read_text()
        assert 'sync_worker_cycles_total{outcome="ok",source="default"} 3.0' in written
        assert (made.folder / "m.prom").stat().st_mode & 0o777 == 0o644
        assert [file.name for file in made.folder.iterdir() if "m.prom" in file.name] == ["m.prom"]

    def test_a_bad_run_is_written_too(self, make_world: MakeWorld) -> None:
        """An alert on rejected keys would never fire."""
        made = make_world([])
        code, _, _ = made.program("once", "--metrics-file", "m.prom", environ={"LANGFUSE_SECRET_KEY": "sk-lf-revoked"})
        assert code == 4
        line = 'sync_worker_last_cycle_outcome{outcome="credentials",source="default"} 1.0'
        assert line in (made.folder / "m.prom").read_text()

    def test_a_folder_that_is_not_there(self, make_world: MakeWorld) -> None:
        """The run would do its work, and nobody learn that its metrics are missing."""
        made = make_world([])
        code, _, err = made.program("backfill", "--from", "2d", "--to", "1d", "--metrics-file", "no/m.prom")
        assert (code, "its folder does not exist" in err, made.langfuse.requests) == (2, True, [])

    @pytest.mark.parametrize("name", ["state.db", "state.db-wal", ".env", "pipe"])
    def test_what_is_something_else_is_not_replaced(self, make_world: MakeWorld, name: str) -> None:
        """A slip of the hand replaces the state file, a file of keys or a device, and the run ends with 0."""
        made = make_world([])
        (made.folder / ".env").write_text("KELET_PROJECT=support_test\n")
        os.mkfifo(made.folder / "pipe")
        first = name.startswith("state")  # it is not there yet
        assert first or made.program("once")[0] == 0
        code, _, err = made.program("once", "--metrics-file", name)
        assert (code, f"--metrics-file {name} is " in err) == (2, True)
        assert (made.folder / ".env").read_text() == "KELET_PROJECT=support_test\n"
        assert (made.folder / "pipe").is_fifo()
        assert made.program("once")[0] == 0
        assert made.program("once", "--metrics-file", name)[0] == 2


def test_all_metrics_have_a_place(make_world: MakeWorld) -> None:
    """A metric would be in the table, and nothing ever be its value."""
    made = make_world([], SYNC_HTTP_LISTEN="127.0.0.1:0")
    found = with_measurements({}, Measurements())
    assert {metric.name for metric in METRICS if metric.measured} == found.keys()
    assert isinstance(made.settings().http_listen, tuple)
    with pytest.raises(ConfigError):
        HttpServer("192.0.2.1", 1, {})
