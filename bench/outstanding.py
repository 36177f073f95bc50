"""What of a flow has not arrived, and why, by what the worker's state file says of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.flow import Comes, Flow
from sync_worker.clock import SystemClock
from sync_worker.intervals import contiguous_end
from sync_worker.ledger import Ledger, source_scope
from sync_worker.ledger.lease import LIVE
from sync_worker.ledger.reading import open_to_read
from sync_worker.ledger.state_keys import last_scan

#: The default windows of SYNC_LATE_HORIZONS that a flow can reach, the shortest first; how many scans each has.
_WINDOWS_MS = (1_200_000, 7_200_000)
SCAN_EVERY_MS = _WINDOWS_MS[0] // 12
_READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker is: observations done, pending traces, second reads to come, watermark in Unix ms."""

    done: int = 0
    pending: int = 0
    second_reads: int = 0
    watermark_ms: int = 0


@dataclass(slots=True)
class Reason:
    """Why some observations have not arrived: `is_loss` where nothing will bring them."""

    text: str
    is_loss: bool = False
    count: int = 0
    due_ms: list[int] = field(default_factory=list)  # when it is looked at again, Unix ms

    def describe(self, now_ms: int) -> str:
        """Return it as a line."""
        seconds = sorted((moment - now_ms) / 1_000 for moment in self.due_ms)
        when = f", due in {seconds[0]:.0f} to {seconds[-1]:.0f} s" if seconds else ""
        return f"{self.count:,}: {self.text}{when}"


def progress(state: Path, flow: Flow) -> Progress:
    """Return how far the worker is; nothing before it has a state file with a project."""
    if not state.exists():
        return Progress()
    with _opened(state) as ledger:
        source = _source(ledger)
        if source is None:
            return Progress()
        ((done,),) = ledger.query("SELECT count(*) FROM sent WHERE source_id = ?", [source])
        completed = ledger.completed_intervals(source, LIVE)
        return Progress(
            int(done),
            ledger.pending(source).count,
            ledger.count_second_reads(source),
            contiguous_end(flow.first_ms, completed),
        )


def reasons(state: Path, flow: Flow, missing: Sequence[Comes], now_ms: int) -> list[Reason]:
    """Return why each of these observations has not arrived at the target, most frequent reason first.

    The worker must have ended, at `now_ms` (Unix ms).
    """
    with _opened(state) as ledger:
        source = _source(ledger)
        if source is None:
            return [Reason("the worker has not met the project", count=len(missing))] if missing else []
        traces = {one.trace_id for one in missing}
        notes = ledger.traces(source, traces)
        done = ledger.completed_observations(source, traces)
        completed = ledger.completed_intervals(source, LIVE)
        stored = ledger.state(source_scope(source))
        scans = [(window, stored.get(last_scan(window)) or 0) for window in _WINDOWS_MS]
    found: dict[str, Reason] = {}

    def count(text: str, due_ms: int | None = None, *, is_loss: bool = False) -> None:
        reason = found.setdefault(text, Reason(text, is_loss))
        reason.count += 1
        if due_ms is not None:
            reason.due_ms.append(due_ms)

    for one in missing:
        sent = done.get((one.trace_id, flow.id_of(one.number)))
        note = notes.get(one.trace_id)
        scan = next((scan for scan in scans if one.start_ms >= scan[1] - scan[0]), scans[-1])
        if sent is not None and sent.dead_lettered:
            count("it is a dead letter")
        elif sent is not None:
            count("it counts as sent, and is not there", is_loss=True)
        elif one.written_ms > now_ms:
            count("it is not listed yet", one.written_ms)
        elif note is not None and note.pending:
            count("its trace is pending", note.check_ms)
        elif not any(interval.contains(one.start_ms) for interval in completed):
            count("its interval is not completed")
        elif one.written_ms >= scan[1]:
            count("it was listed after the last lookback scan began", scan[1] + scan[0] // 12)
        else:
            count("its interval is completed, a lookback scan has passed, and nothing waits for it", is_loss=True)
    return sorted(found.values(), key=lambda reason: -reason.count)


@contextmanager
def _opened(state: Path) -> Iterator[Ledger]:
    with open_to_read(state, SystemClock(), time.monotonic() + _READ_SECONDS) as ledger:
        yield ledger


def _source(ledger: Ledger) -> int | None:
    """Return the only source of a state file."""
    return next((source.id for source in ledger.sources()), None)
