"""Where the worker's CPU time goes, beside where the bare work's goes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from bench.machine import ClientFailed, run
from bench.programs import PYTHON, Worker, whole
from bench.report import Report, table
from bench.servers import servers
from bench.shape import Shape

_LISTED = 25  # functions

#: What a module of the worker does, by how its path begins; the first that fits.
_STAGES = (
    ("sync_worker/langfuse/client", "read: HTTP, unpack, decode JSON"),
    ("sync_worker/langfuse", "read: rows"),
    ("sync_worker/spans/encode", "serialise"),
    ("sync_worker/spans/fingerprint", "fingerprint"),
    ("sync_worker/spans", "convert"),
    ("sync_worker/otlp/client", "send: compress, HTTP"),
    ("sync_worker/otlp", "send: batches"),
    ("sync_worker/ledger", "ledger"),
    ("sync_worker/sync", "assemble, decide"),
    ("sync_worker/json_text", "JSON text"),
    ("sync_worker", "start, settings, others"),
    ("bench/floor", "bare work's own: unpack, compress, group"),
)


def profile(shape: Shape, folder: Path) -> Report:
    """Sample a backfill and the bare work on the same rows. Raises ClientFailed when a row is not there once."""
    report = Report(
        "profile", {"rows": shape.rows}, ("stage", "backfill ms/1,000", "share %", "bare work ms/1,000", "share %")
    )
    with servers(shape) as both:
        worker = Worker(both, folder)
        noted = folder / "backfill.json"
        command = [*PYTHON, "bench.sampler", str(noted), "sync_worker", *worker.backfill_words()]
        run(command, folder=folder, environ=worker.environ())
        if not both.reported().exactly_once(shape.rows):
            raise ClientFailed("not every row arrived exactly once")
        bare = folder / "bare.json"
        run([*PYTHON, "bench.sampler", str(bare), "bench.floor", both.langfuse_url, whole(shape)], folder=folder)
    functions, floor = _read(noted), _read(bare)
    stages, floors = _stages(functions), _stages(floor)
    for stage, spent in stages.most_common():
        other = floors.get(stage, 0.0)
        report.rows.append(
            (stage, _each(spent, shape), _share(spent, stages), _each(other, shape), _share(other, floors))
        )
    report.rows += [
        (stage, 0.0, 0.0, _each(spent, shape), _share(spent, floors))
        for stage, spent in floors.most_common()
        if stage not in stages
    ]
    report.details = {
        "functions": [
            [f"{place} {name}", inner, _each(spent, shape)] for (place, name, inner), spent in functions.most_common(60)
        ]
    }
    return report


def functions_table(report: Report) -> str:
    """Return the functions that take the most, and in whose code the time is spent."""
    rows = [
        (name, "" if inner == name.split(" ", maxsplit=1)[0] else inner, spent)
        for name, inner, spent in report.details["functions"][:_LISTED]
    ]
    return table(("function of the worker", "inside", "ms/1,000"), rows)


def _read(file: Path) -> Counter[tuple[str, str, str]]:
    """Read what the sampler noted, without what is no part of the bare work: fetching and counting its pages."""
    noted = json.loads(file.read_text(encoding="utf-8"))
    apart = {"fetch", "main", "main.<locals>.<genexpr>", "<module>"}
    found: Counter[tuple[str, str, str]] = Counter()
    for place, name, inner, spent in noted:
        if not (place.startswith("bench/") and name in apart):
            found[place, name, inner] += spent
    return found


def _stages(functions: Counter[tuple[str, str, str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (place, _, _), spent in functions.items():
        stage = next((name for start, name in _STAGES if place.startswith(start)), "start, settings, others")
        found[stage] += spent
    return found


def _each(spent: float, shape: Shape) -> float:
    return spent / shape.rows * 1_000_000


def _share(spent: float, of: Counter[str]) -> float:
    return 100 * spent / (sum(of.values()) or 1)
