"""The two servers of a measurement, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from bench.flow import Flow
from bench.machine import pinned, plain_environ, server_cores
from bench.shape import Shape


@dataclass(frozen=True, slots=True)
class Reported:
    """What the servers counted since they were asked last."""

    langfuse: dict[str, int]
    kelet: dict[str, int]
    first: float | None  # when the first request came, on the clock that all processes share
    cpu: float = 0.0  # seconds that both servers took

    @property
    def spans(self) -> int:
        """Spans that arrived."""
        return self.kelet.get("spans", 0)

    @property
    def listings(self) -> int:
        """Requests to Langfuse."""
        return self.langfuse.get("requests", 0)

    @property
    def deliveries(self) -> int:
        """Requests to Kelet."""
        return self.kelet.get("requests", 0)

    def exactly_once(self, rows: int) -> bool:
        """Whether each of so many rows arrived, once, and nothing else."""
        return self.spans == self.kelet.get("unique", 0) == rows


class Servers:
    """A Langfuse with a project and a receiver."""

    def __init__(self, shape: Shape, langfuse_port: int, kelet_port: int) -> None:
        self.shape = shape
        self.langfuse_url = f"http://127.0.0.1:{langfuse_port}"
        self.kelet_url = f"http://127.0.0.1:{kelet_port}"
        self._ports = (langfuse_port, kelet_port)

    def reported(self, *, anew: bool = True) -> Reported:
        """Return what was counted, and count anew, or go on."""
        langfuse, kelet = (_ask(port, "reset" if anew else "counts") for port in self._ports)
        return Reported(langfuse["counts"], kelet["counts"], langfuse["first"], langfuse["cpu"] + kelet["cpu"])

    def arrivals(self) -> list[int]:
        """Return when each row arrived first, in Unix milliseconds, or 0: block by block."""
        return [moment for block in _ask(self._ports[1], "arrivals")["arrivals"] for moment in block]


@contextmanager
def servers(shape: Shape, flow: Flow | None = None) -> Iterator[Servers]:
    """Run both servers on the cores that are theirs; a flow comes into a Langfuse that has nothing else."""
    with ExitStack() as stack, pinned(server_cores()):
        project = shape.as_text() if flow is None else flow.as_text()
        programs = (("langfuse_server", project), ("otlp_sink", shape.as_text()))
        ports = [stack.enter_context(_process(module, words)) for module, words in programs]
        with ExitStack() as free:
            free.enter_context(pinned(server_cores()))
            yield Servers(shape, *ports)


@contextmanager
def _process(module: str, words: str) -> Iterator[int]:
    command = [sys.executable, "-P", "-m", f"bench.{module}", words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=plain_environ())
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.terminate()


def _ask(port: int, what: str) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request("GET", f"/bench/{what}")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
