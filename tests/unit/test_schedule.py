"""When `run` begins its cycles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sync_worker.errors import ExitCode
from sync_worker.ledger import lease
from sync_worker.pipeline.report import SourceReport
from sync_worker.sync.schedule import Worker
from tests.support.clock import VirtualClock

INTERVAL = 60.0


class Engine:
    """Stands for the engine: each cycle takes as long as a test says, and ends as it says; after the last, `run` does.

    `began` has the seconds from the start of `run` at which each began.
    """

    def __init__(self, clock: VirtualClock, cycles: Sequence[tuple[float, int]]) -> None:
        self.began: list[float] = []
        self._clock = clock
        self._cycles = cycles
        self._start = clock.monotonic()
        self.settings = SimpleNamespace(of=lambda _: SimpleNamespace(interval=timedelta(seconds=INTERVAL)))
        self.ledger = SimpleNamespace(clock=clock, store_run=lambda *_: None)
        self.identities = SimpleNamespace(identify=self.identify)

    async def identify(self, _: Any) -> None: ...

    def note_starts(self, _: Any) -> None: ...

    async def live(self, source: Any) -> tuple[SourceReport, int]:
        self.began.append(self._clock.monotonic() - self._start)
        seconds, code = self._cycles[len(self.began) - 1]
        self._clock.advance(seconds)
        if len(self.began) == len(self._cycles):
            self._clock.stop()
        return SourceReport(source.name, "kelet"), code


@pytest.mark.parametrize(
    ("seconds", "code", "at_once"),
    [
        (5, ExitCode.OK, False),
        (60, ExitCode.OK, True),
        (90, ExitCode.DEAD_LETTERS, True),
        (90, ExitCode.TRANSIENT, False),
    ],
    ids=["short", "an interval", "long", "long and failed"],
)
def test_after_a_long_cycle_the_next_begins_at_once(
    monkeypatch: pytest.MonkeyPatch, seconds: float, code: int, *, at_once: bool
) -> None:
    """A source that needs more than an interval would idle while it is behind, or one that fails would be hammered."""
    monkeypatch.setattr(lease, "heartbeat", lambda *_: None)
    clock = VirtualClock()
    engine = Engine(clock, [(seconds, code), (5, ExitCode.OK)])
    source = SimpleNamespace(name="default", key_files=())
    worker = Worker(cast("Any", engine), [cast("Any", source)], clock, cast("Any", None))
    assert asyncio.run(worker.run()) == ExitCode.OK
    first, second = engine.began
    assert first == 0
    assert (second == seconds) is at_once
