"""How many requests a cycle makes when nothing is new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.machine import ClientFailed
from bench.programs import Worker, live
from bench.report import Report
from bench.servers import servers
from bench.shape import Shape

_GOAL = 4  # requests to Langfuse a cycle
_MINUTES = 240  # the deepest look at late rows comes every four hours
_STARTS = 5


def idle(shape: Shape, folder: Path) -> Report:
    """Count the requests of idle cycles: of `once` as it is started, and of four hours of cycles a minute apart.

    For the hours the worker's clock is put forward. Raises ClientFailed when a row arrives twice or not at all.
    """
    report = Report("idle", {"rows": shape.rows}, ("cycles", "count", "requests a cycle", "maximum", "Kelet requests"))
    with servers(shape) as both:
        worker = Worker(both, folder)
        worker.once()
        if not both.reported().exactly_once(shape.rows):
            raise ClientFailed("not every row arrived exactly once")
        counts: list[int] = []
        sent = 0
        for _ in range(_STARTS):
            worker.once()
            reported = both.reported()
            counts.append(reported.listings)
            sent += reported.deliveries
        report.rows.append(("once, started again", _STARTS, sum(counts) / _STARTS, max(counts), sent))
        cycles = live(worker, [minute * 60.0 for minute in range(1, _MINUTES + 1)])
        reported = both.reported()
        requests = _requests(cycles)
        mean = reported.listings / len(cycles)
        report.rows.append(("run, a cycle a minute, 4 hours", len(cycles), mean, max(requests), reported.deliveries))
        if sent or reported.deliveries:
            raise ClientFailed(f"idle cycles sent something: {sent} and {reported.deliveries} requests")
    report.at_most("requests to Langfuse in an idle cycle of once", max(counts), _GOAL)
    report.at_most("requests to Langfuse in an idle cycle of run, mean", mean, _GOAL)
    report.at_most("requests to Langfuse in an idle cycle of run, most", max(requests), _GOAL)
    report.details = {"once": counts, "run": requests, "kinds": reported.langfuse}
    return report


def _requests(cycles: list[dict[str, Any]]) -> list[int]:
    if any(cycle["code"] for cycle in cycles):
        raise ClientFailed("a cycle failed")
    return [int(cycle["langfuse_requests"]) for cycle in cycles]
