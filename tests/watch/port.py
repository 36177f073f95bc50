"""Looks at a worker through its HTTP port."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.programs import Program
from tests.sync.world import World

LISTEN = {"SYNC_HTTP_LISTEN": "127.0.0.1:0", "SYNC_INTERVAL": "1s", "SYNC_SETTLE": "0s"}
_LISTENING = re.compile(r"listening at (http://\S+)")
PATIENCE = 60.0  # seconds, for what happens at once on a machine that is not busy


@dataclass
class Answer:
    """What a path answered."""

    status: int
    body: str
    kind: str


@dataclass
class Port:
    """The port of a running worker."""

    url: str
    process: Program
    log: list[str] = field(default_factory=list)

    def get(self, path: str, timeout: float = 10.0, **headers: str) -> Answer:
        """Ask for a path; raises OSError where nobody answers in time."""
        request = urllib.request.Request(self.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return Answer(response.status, response.read().decode(), response.headers["Content-Type"])
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), error.headers["Content-Type"])

    def metrics(self) -> dict[str, float]:
        """Return all values, by what stands before them."""
        answer = self.get("/metrics")
        assert answer.status == 200, answer.body
        return values(answer.body)

    def until(self, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Return the first metrics for which it holds."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.get("/metrics")  # 503 until the state file is open
            if answer.status == 200 and holds(found := values(answer.body)):
                return found
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)

    def status(self) -> Any:
        """Return the object of /status."""
        return json.loads(self.get("/status").body)


def values(text: str) -> dict[str, float]:
    """Return the values of a text of metrics, by name and labels as they are written."""
    rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def total(found: Mapping[str, float], name: str, *labels: str) -> float:
    """Return the sum over all series of a metric that have these labels, written as in the text."""
    return sum(
        value
        for key, value in found.items()
        if key.partition("{")[0] == f"sync_worker_{name}" and all(label in key for label in labels)
    )


@contextmanager
def running(made: World, **environ: str) -> Iterator[Port]:
    """Start `run` with a port, and end it."""
    with made.start("run", environ={**LISTEN, **environ}) as process:
        try:
            yield _port(process)
        finally:
            process.kill()


def _port(process: Program) -> Port:
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        found = _LISTENING.search(line)
        if found:
            return Port(found[1].replace("0.0.0.0", "127.0.0.1"), process, log)
    raise AssertionError(f"it ended: {''.join(log)}")


def is_closed(url: str) -> bool:
    """Whether nobody listens at an address any more."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        http.client.HTTPConnection(host, int(port), timeout=5).connect()
    except ConnectionRefusedError:
        return True
    return False
