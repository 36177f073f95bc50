"""The heartbeat URL, with a service in its place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sync_worker.errors import ConfigError
from sync_worker.settings import load
from sync_worker.watch.heartbeat import fail_url
from tests.support import faults
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.watch.port import PATIENCE

SECRET = "/0f5c1c7e-secret-of-the-check"


class Service:
    """A service that is called: which paths, with what."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.gate: threading.Event | None = None
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.calls.append(self.path)
                service.headers.append(dict(self.headers))
                if service.gate is not None:
                    service.gate.wait(PATIENCE)
                self.send_response(service.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}{SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def until(self, count: int) -> list[str]:
        """Return the calls once there are so many."""
        deadline = time.monotonic() + PATIENCE
        while len(self.calls) < count:
            assert time.monotonic() < deadline, self.calls
            time.sleep(0.02)
        return list(self.calls)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    if made.gate is not None:
        made.gate.set()
    made.server.shutdown()
    made.server.server_close()


def test_good_and_bad_cycles(make_world: MakeWorld, service: Service) -> None:
    """The service would take a worker that fails for one that works, or be given what is none of its business."""
    made = make_world([], SYNC_HEARTBEAT_URL=service.url, SYNC_INTERVAL="1s", SYNC_SETTLE="0s")
    with made.start("run") as process:
        assert set(service.until(2)) == {SECRET}
        made.langfuse.script = lambda _: faults.status(405)
        deadline = time.monotonic() + PATIENCE
        while service.calls[-1] != f"{SECRET}/fail":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        made.langfuse.script = None
        while service.calls[-1] != SECRET:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert set(service.calls) == {SECRET, f"{SECRET}/fail"}
    assert not {"Authorization", "Content-Length", "Cookie", "X-Kelet-Project"} & set().union(*service.headers)
    assert SECRET not in err


def test_a_service_that_hangs_blocks_nothing(make_world: MakeWorld, service: Service) -> None:
    """A cycle, or the end of the worker, would wait for a service that has nothing to do with the sync."""
    service.gate = threading.Event()
    made = make_world([], SYNC_HEARTBEAT_URL=service.url, SYNC_INTERVAL="1s", SYNC_SETTLE="0s")
    with made.start("run") as process:
        service.until(1)
        made.langfuse.rows.extend(trace(1, start=datetime.now(UTC), seconds=0.1))
        deadline = time.monotonic() + PATIENCE
        while not made.kelet.spans:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize(("status", "line"), [(302, "the heartbeat was answered with 302"), (200, "")])
def test_once(make_world: MakeWorld, service: Service, status: int, line: str) -> None:
    """`once` would not call, follow a redirect, or fail since the service does."""
    made = make_world([], SYNC_HEARTBEAT_URL=f"{service.url}?team=a", SYNC_SETTLE="0s")
    service.status = status
    code, _, err = made.program("once")
    assert (code, line in err, SECRET in err) == (0, True, False)
    made.langfuse.script = lambda _: faults.status(405)
    assert made.program("once")[0] != 0
    assert service.calls == [f"{SECRET}?team=a", f"{SECRET}/fail?team=a"]


def test_nobody_answers(make_world: MakeWorld) -> None:
    """A service that is down would end the run with an error, or its address be in the log."""
    made = make_world([], SYNC_HEARTBEAT_URL=f"http://127.0.0.1:9{SECRET}")
    code, _, err = made.program("once")
    assert (code, err.count("the heartbeat got no answer"), SECRET in err) == (0, 1, False)


def test_the_address_is_a_secret(make_world: MakeWorld) -> None:
    """`config show`, or the error of a wrong address, would show it."""
    made = make_world([], SYNC_HEARTBEAT_URL=f"https://hc.example.com{SECRET}")
    _, out, err = made.program("config", "show")
    assert "SYNC_HEARTBEAT_URL" in out
    assert SECRET not in out + err
    for wrong in ("ftp://x", "https://user:pw@x", "https://x y", "http://hc.example.com", "https://x#y", "x"):
        with pytest.raises(ConfigError, match="SYNC_HEARTBEAT_URL") as error:
            load(environ={**made.environ, "SYNC_HEARTBEAT_URL": f"{wrong}{SECRET}"}, directory=made.folder)
        assert SECRET not in str(error.value)


def test_fail_goes_behind_the_path() -> None:
    """A bad cycle would be called at an address that the service does not know."""
    assert fail_url("https://a/b?c=d") == "https://a/b/fail?c=d"
    assert fail_url("https://a/") == "https://a/fail"
