"""Live cycles of the worker at times to come, in one process: `python -m bench.live '[0, 60, 120]'`.

The settings come from the environment. Each number is by how many seconds the worker's clock is put forward for a
cycle. Prints, as JSON, what each cycle took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import httpx

from sync_worker.cli.common import hold_lease
from sync_worker.clock import SystemClock
from sync_worker.ledger import open_ledger
from sync_worker.ledger.lease import LIVE, heartbeat
from sync_worker.settings import load
from sync_worker.sync.engine import Engine
from sync_worker.sync.opening import Transports
from sync_worker.watch import logs


class ShiftedClock(SystemClock):
    """A clock that can be put forward."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_ms = 0

    def now_ms(self) -> int:
        """Return the time that the worker is to believe."""
        return super().now_ms() + self.ahead_ms

    def monotonic(self) -> float:
        """Return seconds that run ahead as the time does."""
        return super().monotonic() + self.ahead_ms / 1000


class Dateless(httpx.AsyncHTTPTransport):
    """A way to a server that does not tell its time, by which the worker would see that its own was put forward."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Do a request."""
        response = await super().handle_async_request(request)
        response.headers.pop("Date", None)
        return response


async def cycles(offsets: list[float]) -> list[dict[str, Any]]:
    """Do a cycle at each of these times from now, in seconds."""
    settings = load()
    logs.set_up(settings.log_level, settings.log_format)
    clock = ShiftedClock()
    ledger = open_ledger(settings.state_path, clock)
    ways = Transports(Dateless(), Dateless())
    engine = Engine(settings, ledger, clock, settings.patience.total_seconds(), ways)
    reported: list[dict[str, Any]] = []
    try:
        with hold_lease(ledger, LIVE) as lease:
            for offset in offsets:
                clock.ahead_ms = int(offset * 1000)
                heartbeat(ledger, lease)
                started, cpu = time.perf_counter(), time.process_time()
                report, code = await engine.live(settings.sources[0])
                took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
                reported.append({"offset": offset, "code": int(code), **took, **report.as_json()})
    finally:
        ledger.close()
    return reported


if __name__ == "__main__":
    print(json.dumps(asyncio.run(cycles(json.loads(sys.argv[1])))))
