"""The HTTP port of `run`, from outside of the process."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from sync_worker.watch import http_server
from tests.support import faults
from tests.support.rows import Row, score, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import KEY
from tests.watch.port import LISTEN, PATIENCE, is_closed, running, total

PAYLOAD = "what nobody but Kelet may read"


def rows(traces: int = 5, hours: float = 2.0) -> list[Row]:
    start = datetime.now(UTC) - timedelta(hours=hours)
    return [row for _ in range(traces) for row in trace(3, start=start, seconds=5.0, input=PAYLOAD, output=PAYLOAD)]


def test_all_that_is_asked_for(make_world: MakeWorld) -> None:
    """Somebody who watches would miss a value, or see another one than there is."""
    made = make_world(rows(5))
    with running(made) as port:
        found = port.until(lambda now: total(now, "spans_total") == 20 and total(now, "cycles_total") >= 2)
        assert found['sync_worker_lag_seconds{source="default"}'] < PATIENCE
        assert total(found, "spans_total", 'kelet_project="support_test"', 'outcome="accepted"') == 20
        assert total(found, "request_spans_sum") == 20
        assert total(found, "target_requests_total", 'code="200"') == total(found, "delivery_duration_seconds_count")
        assert total(found, "langfuse_requests_total", 'endpoint="/api/public/v2/observations"', 'code="200"') > 0
        assert total(found, "received_bytes_total") > total(found, "sent_bytes_total") / 10 > 0
        assert total(found, "last_cycle_outcome", 'outcome="ok"') == 1
        assert total(found, "live_lease_held") == 1
        assert total(found, "gap_seconds") == total(found, "pending_traces") == total(found, "dead_letters") == 0
        assert abs(time.time() - total(found, "last_successful_cycle_timestamp_seconds")) < PATIENCE
        assert total(found, "state_file_bytes") > 10_000 < total(found, "state_file_system_free_bytes")
        assert (port.get("/healthz").body, port.get("/readyz").body) == ("ok\n", "ok\n")
        page = port.get("/")
        assert (page.status, page.kind) == (200, "text/html; charset=utf-8")
        assert "20 in 24 h" in page.body
        shown, printed = port.status(), made.program_json("status")[1]
        assert shown["sources"][0].keys() == printed["sources"][0].keys()
        assert (shown["state_file"], shown["held_by"]) == (printed["state_file"], printed["held_by"])


def test_signals(make_world: MakeWorld) -> None:
    """Nobody would see that feedback does not arrive, or it be counted among the spans."""
    made = make_world(found := rows(3), SYNC_SCORES="true")
    traces = list(dict.fromkeys(one["traceId"] for one in found))
    now = datetime.now(UTC)
    made.langfuse.scores.put(*(score(number, trace_id, now) for number, trace_id in enumerate(traces)))
    with running(made) as port:
        port.until(lambda now: total(now, "signals_total", 'outcome="accepted"') == 3)
        made.kelet.script = faults.when(lambda request: request.path.endswith("/signal"), faults.status(422))
        made.langfuse.scores.put(score(7, traces[0], now))
        port.until(lambda now: total(now, "signals_total", 'outcome="rejected"') == 1)
        made.kelet.script = None
        made.langfuse.scores.put(score(1, traces[1], now, value=0.25))
        at_end = port.until(lambda now: total(now, "signals_total", 'outcome="edited"') == 1)
    assert total(at_end, "signals_total", 'outcome="accepted"', 'kelet_project="support_test"') == 3
    assert total(at_end, "scores", 'outcome="sent"') == 3
    assert total(at_end, "scores", 'outcome="rejected"') == total(at_end, "dead_letters", 'outcome="score"') == 1
    assert total(at_end, "spans_total") == total(at_end, "spans_total", 'outcome="accepted"') == 12
    assert time.time() - total(at_end, "last_score_listing_timestamp_seconds") < PATIENCE


def test_open_metrics_where_asked_for(make_world: MakeWorld) -> None:
    """A scraper that understands only one of the formats would get the other."""
    with running(make_world([])) as port:
        port.until(lambda _: True)
        plain = port.get("/metrics")
        open_metrics = port.get("/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert plain.kind.startswith("text/plain; version=0.0.4")
    assert open_metrics.kind.startswith("application/openmetrics-text")
    assert open_metrics.body.endswith("# EOF\n")


def test_request_limits(make_world: MakeWorld) -> None:
    """Nobody would see that the sync is slow since its requests are used up."""
    made = make_world(rows(1))
    with running(made, SYNC_REQUESTS_PER_MINUTE="600") as port:
        found = port.until(lambda now: 0 < total(now, "langfuse_requests_remaining") < 600)
        assert total(found, "langfuse_request_limit", 'endpoint="all"') == 600
        assert total(found, "langfuse_request_quota") == 600
    made.langfuse.script = lambda _: faults.rate_limited(50, limit=30)
    with running(made) as port:
        found = port.until(lambda now: total(now, "langfuse_request_limit", 'endpoint="public-api"') > 0)
    assert total(found, "langfuse_request_limit", 'endpoint="public-api"') == 30
    assert total(found, "langfuse_request_quota", 'endpoint="public-api"') == 24
    assert total(found, "langfuse_requests_remaining", 'endpoint="public-api"') == 0
    assert total(found, "langfuse_requests_total", 'code="429"') > 0


def test_kelet_is_down(make_world: MakeWorld) -> None:
    """A probe would restart a worker that only waits, or nobody would see that it is behind."""
    made = make_world(rows(2))
    made.kelet.script = lambda _: faults.status(503)
    with running(made) as port:
        before = port.until(lambda now: total(now, "target_requests_total", 'code="503"') >= 2)
        assert total(before, "spans_total") == total(before, "last_successful_cycle_timestamp_seconds") == 0
        deadline = time.monotonic() + PATIENCE
        while "for Kelet after an error, try" not in port.get("/").body:  # between two waits it tries
            assert time.monotonic() < deadline, "the page does not say so"
        assert (port.get("/healthz").status, port.get("/readyz").status) == (200, 200)
        assert total(port.until(lambda now: total(now, "loop_tick_age_seconds") < 5), "live_lease_held") == 1


def test_a_stopped_process_goes_on(make_world: MakeWorld) -> None:
    """After SIGCONT old values would be shown as if they were those of now."""
    with running(make_world(rows(1))) as port:
        before = port.until(lambda now: total(now, "last_successful_cycle_timestamp_seconds") > 0)
        port.process.send_signal(signal.SIGSTOP)
        with pytest.raises(OSError, match="timed out"):
            port.get("/metrics", timeout=3.0)
        port.process.send_signal(signal.SIGCONT)
        first = port.metrics()
        # It was not synced meanwhile, and that is seen at once: unless the cycle that is due has already synced it.
        synced = total(first, "watermark_timestamp_seconds") - total(before, "watermark_timestamp_seconds")
        assert total(first, "lag_seconds") >= 1.0 or synced >= 1.0
        name = "last_successful_cycle_timestamp_seconds"
        port.until(lambda now: total(now, name) >= total(before, name) + 3.0 and total(now, "lag_seconds") < PATIENCE)


def test_a_crash_takes_no_span_from_the_counts(make_world: MakeWorld) -> None:
    """A counter would go back to an earlier value that is not 0, which looks like as many new spans."""
    made = make_world(rows(5))
    with running(made) as port:
        port.until(lambda now: total(now, "spans_total") == 20)
        port.process.kill()
        port.process.wait(timeout=PATIENCE)
    made.langfuse.rows.extend(rows(1, hours=1.0))
    with running(made) as port:
        found = port.until(lambda now: total(now, "cycles_total") >= 1)
        assert total(found, "spans_total") >= 20
        assert total(found, "request_spans_sum") <= total(found, "spans_total") - 20


def test_a_backfill_beside(make_world: MakeWorld) -> None:
    """What a backfill sends would be in no metric."""
    made = make_world(rows(2, hours=50.0), SYNC_START="1h")
    gate = threading.Event()
    with running(made) as port:
        port.until(lambda now: total(now, "last_successful_cycle_timestamp_seconds") > 0)
        made.kelet.script = faults.held(gate)
        with made.start("backfill", "--from", "3d", "--to", "2d") as backfill:
            port.until(lambda now: total(now, "backfill_lease_held") == 1)
            gate.set()
            backfill.communicate(timeout=PATIENCE)
        found = port.metrics()
    assert (total(found, "backfill_lease_held"), total(found, "spans_total")) == (0, 8)
    assert total(found, "request_spans_sum") == 0, "what a process counts is its own"


def test_nothing_secret_is_served(make_world: MakeWorld) -> None:
    """A key, or what somebody wrote to a model, would be readable without any authentication."""
    made = make_world(rows(2))
    made.kelet.script = faults.refuse_span("root")
    with running(made) as port:
        port.until(lambda now: total(now, "cycles_total") >= 1)
        served = "".join(port.get(path).body for path in ("/metrics", "/status", "/healthz", "/readyz", "/", "/x"))
        port.process.terminate()
        printed = "".join(port.log) + "".join(port.process.communicate(timeout=PATIENCE))
    made.program("once", "--metrics-file", "once.prom")
    for text in (served, printed, (made.folder / "once.prom").read_text()):
        assert text
        for secret in (KEY, made.langfuse.secret_key, made.langfuse.public_key, PAYLOAD):
            assert secret not in text


def test_stopping_closes_the_port(make_world: MakeWorld) -> None:
    """A scrape during the end would hang or break, the port stay open, or SIGTERM lose what is in flight."""
    made = make_world(rows(2))
    gate = threading.Event()
    made.kelet.script = faults.held(gate)
    with running(made) as port:
        port.until(lambda _: bool(made.kelet.requests))
        port.process.terminate()
        deadline = time.monotonic() + PATIENCE
        while (answer := port.get("/metrics")).status == 200:
            assert time.monotonic() < deadline
        assert (answer.status, answer.body) == (503, "the worker is stopping\n")
        assert port.get("/healthz").status == 200
        gate.set()
        port.process.communicate(timeout=PATIENCE)
        assert port.process.returncode == 0
        assert is_closed(port.url)
    assert len(made.kelet.spans) == 8


def test_a_port_in_use(make_world: MakeWorld) -> None:
    """The worker would run unseen, or end with a traceback."""
    made = make_world([])
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, _, err = made.program("run", environ={"SYNC_HTTP_LISTEN": address})
    assert code == 2
    assert err.splitlines()[-1] == (
        f"sync-worker: SYNC_HTTP_LISTEN: {address} is in use by another program. "
        "Try: another port, or stop that program"
    )
    assert "Traceback" not in err
    assert not made.state.exists()


def test_an_open_port_is_warned_of_once(make_world: MakeWorld) -> None:
    """Somebody would open the worker to a network without knowing that anybody may read."""
    with running(make_world([]), SYNC_HTTP_LISTEN="0.0.0.0:0") as port:
        port.until(lambda now: total(now, "cycles_total") >= 2)
        port.process.terminate()
        _, err = port.process.communicate(timeout=PATIENCE)
    assert ("".join(port.log) + err).count("there is no authentication") == 1


def test_a_state_file_that_is_damaged(make_world: MakeWorld) -> None:
    """A scrape would end in a traceback, or show values that nothing stands for."""
    made = make_world(rows(1))
    with running(made, SYNC_INTERVAL="1h") as port:
        port.until(lambda now: total(now, "cycles_total") >= 1)
        with contextlib.closing(sqlite3.connect(made.state)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = made.state.stat().st_size
        with made.state.open("r+b") as file:
            file.seek(100)
            file.write(b"\xff" * (size - 100))
        for path in ("/metrics", "/status", "/readyz"):
            answer = port.get(path)
            assert (answer.status, answer.body.count("\n")) == (503, 1), answer.body
            assert str(made.state) in answer.body
        page = port.get("/")
        assert (page.status, page.kind) == (503, "text/html; charset=utf-8")
        assert "The state cannot be read now" in page.body
        assert port.get("/healthz").status == 200
        made.state.unlink()
        assert port.get("/metrics").body == f"the state file {made.state} is not there\n"


def test_clients_that_say_nothing(make_world: MakeWorld) -> None:
    """Whoever opens connections and says nothing would keep the scrapes out, or the worker from its work."""
    made = make_world(rows(1))
    with running(made) as port:
        address = (urlsplit(port.url).hostname or "", urlsplit(port.url).port or 0)
        silent = [socket.create_connection(address) for _ in range(6)]
        assert port.get("/healthz").status == 200
        for one in silent[:3]:
            one.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            one.close()
        port.until(lambda now: total(now, "spans_total") == 4)
        for one in silent[3:]:
            one.close()
        for request in (b"POST /metrics HTTP/1.0\r\n\r\n", b"no HTTP\r\n\r\n", b"\0" * 70_000):
            with socket.create_connection(address) as one:
                one.sendall(request)
        assert port.get("/metrics").status == 200
        port.process.terminate()
        _, err = port.process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err


def test_clients_that_never_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight clients that send a line of their request now and then keep out the probe, and the worker is restarted."""
    monkeypatch.setattr(http_server, "_SECONDS_IN_ALL", 1.0)
    server = http_server.HttpServer("127.0.0.1", 0, {"/healthz": lambda _: http_server.text("ok")})
    address = (urlsplit(server.url).hostname or "", urlsplit(server.url).port or 0)
    slow = [socket.create_connection(address) for _ in range(8)]
    try:
        for one in slow:
            one.sendall(b"GET /healthz HTTP/1.1\r\n")
        deadline, answer = time.monotonic() + PATIENCE, b""
        while not answer:
            assert time.monotonic() < deadline, "the probe gets no answer"
            for one in slow:
                with contextlib.suppress(OSError):  # it was broken off
                    one.sendall(b"X: y\r\n")
            with contextlib.suppress(OSError), socket.create_connection(address) as probe:
                probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                answer = probe.recv(1000)
            time.sleep(0.05)
    finally:
        for one in slow:
            one.close()
        server.close()
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Python" not in answer


def test_once_starts_as_it_did(make_world: MakeWorld) -> None:
    """`once` would load libraries for a port that it does not open."""
    made = make_world([])
    code, _, err = made.program("once", environ={**LISTEN, "PYTHONPROFILEIMPORTTIME": "1"})
    assert code == 0, err
    loaded = {line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")}
    assert "sync_worker.sync.engine" in loaded
    assert not {name for name in loaded if name.startswith(("prometheus_client", "wsgiref", "sync_worker.watch.p"))} - {
        "sync_worker.watch.progress_line"
    }
