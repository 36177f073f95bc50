"""A real Phoenix and a real OpenTelemetry receiver, as processes on the loopback address.

They are in the environment that SYNC_TEST_TARGETS names; without it no test here is collected.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.receivers import AnyReceiver

_PLACE = os.environ.get("SYNC_TEST_TARGETS")
collect_ignore_glob = [] if _PLACE else ["test_*.py"]

_START_SECONDS = 180.0  # Phoenix makes its database first
_SECRET = "Secret0" * 6  # letters and digits, as Phoenix demands


@dataclass(frozen=True)
class Phoenix:
    """Arize Phoenix with its authentication on."""

    url: str
    key: str
    start: Callable[[], None]

    def spans(self, project: str) -> list[dict[str, Any]]:
        """Return all spans of a project, as Phoenix's REST API lists them; none while it has no such project."""
        if project not in self.projects():
            return []
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            query = {"limit": "1000", **({"cursor": cursor} if cursor else {})}
            answer = self._get(f"/v1/projects/{project}/spans", query)
            found += answer["data"]
            cursor = answer["next_cursor"]
            if not cursor:
                return found

    def projects(self) -> set[str]:
        """Return the names of the projects."""
        return {one["name"] for one in self._get("/v1/projects", {})["data"]}

    def _get(self, path: str, query: Mapping[str, str]) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        response = httpx.get(f"{self.url}{path}", params=query, headers=headers, timeout=60.0)
        response.raise_for_status()
        return response.json()


@pytest.fixture
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """A Phoenix that is not started yet."""
    folder = tmp_path_factory.mktemp("phoenix")
    port, grpc = _free_port(), _free_port()
    url = f"http://127.0.0.1:{port}"
    environ = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ENABLE_AUTH": "true",
        "PHOENIX_SECRET": _SECRET,
        "PHOENIX_ADMIN_SECRET": f"Admin{_SECRET}",
    }
    with ExitStack() as stack:

        def start() -> None:
            stack.enter_context(_process(["phoenix", "serve"], environ, folder / "phoenix.log", f"{url}/healthz"))

        yield Phoenix(url, f"Admin{_SECRET}", start)


@contextmanager
def rotel(onward: AnyReceiver, folder: Path) -> Iterator[str]:
    """Start Rotel, which hands on what it decoded; yield its address."""
    port, grpc = _free_port(), _free_port()
    agent = next(Path(str(_PLACE)).glob("lib/python*/site-packages/rotel/rotel-agent"))
    arguments = [
        str(agent), "start", "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
        "--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", onward.url,
        "--batch-timeout", "100ms",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with _process(arguments, {}, folder / f"rotel-{port}.log", url):
        yield url


def wait_until(is_done: Callable[[], bool], seconds: float = 180.0, every: float = 0.1) -> None:
    """Wait for what another process does by itself; asking must not keep it from doing so."""
    ends = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < ends
        time.sleep(every)


@contextmanager
def _process(command: Sequence[str], environ: Mapping[str, str], log: Path, url: str) -> Iterator[None]:
    """Run a program of the environment until the end of the block, from when it answers at the address."""
    program = Path(command[0])
    if not program.is_absolute():
        program = Path(str(_PLACE)) / "bin" / program
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with (
        log.open("wb") as output,
        subprocess.Popen([program, *command[1:]], env={**kept, **environ}, stdout=output, stderr=output) as process,
    ):
        try:
            ends = time.monotonic() + _START_SECONDS
            while not _answers(url):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < ends, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0).status_code < 500
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
