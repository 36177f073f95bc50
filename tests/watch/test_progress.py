"""The line of a run in progress: what it says, that it moves, and that other lines leave it alone."""

from __future__ import annotations

import asyncio
import io
import logging
import sys

import pytest

from sync_worker.backoff import Backoff
from sync_worker.clock import SystemClock
from sync_worker.errors import TransientError
from sync_worker.intervals import Interval
from sync_worker.runs.progress import Counts, Progress
from sync_worker.waits import Wait, collect, waiting
from sync_worker.watch import logs
from sync_worker.watch.live_line import LiveLine, above
from sync_worker.watch.progress_line import ProgressLine, Rates

HOUR = 3_600_000


class _Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _line(time: _Time) -> ProgressLine:
    return ProgressLine("backfill", io.StringIO(), monotonic=time)


def test_progress_moves_within_an_interval() -> None:
    """A backfill of one dense interval shows the same percentage until its end."""
    progress = Progress()
    progress.plan([Interval(0, 6 * HOUR), Interval(8 * HOUR, 10 * HOUR)])
    whole = Interval(0, 6 * HOUR)
    assert progress.counts == Counts(8 * HOUR, 0, 0)
    progress.read(whole, 4 * HOUR, 1000)
    assert progress.counts == Counts(8 * HOUR, 2 * HOUR, 1000)
    progress.read(whole, 5 * HOUR, 1000)  # observations again, newer than what was read
    assert progress.counts == Counts(8 * HOUR, 2 * HOUR, 2000)
    progress.read(whole, -HOUR, 1)  # a trace that began before the interval
    assert progress.counts == Counts(8 * HOUR, 6 * HOUR, 2001)
    progress.complete(whole, whole)
    assert progress.counts == Counts(8 * HOUR, 6 * HOUR, 2001)
    progress.plan([Interval(8 * HOUR, 10 * HOUR)])
    assert progress.counts == Counts(2 * HOUR, 0, 2001)


def test_counts_of_several_runs_are_added() -> None:
    """The display of several sources or processes shows one of them."""
    assert Counts(10, 4, 7) + Counts(30, 0, 1) == Counts(40, 4, 8)


def test_the_line_says_how_long_it_will_take() -> None:
    """The time to go stands still, or is told before anything was measured."""
    time = _Time()
    line = _line(time)
    line.update(Counts(100 * HOUR, 0, 0))
    assert line.text(Counts(100 * HOUR, 0, 0)) == "backfill 0%, 0 observations, time left not known yet"
    shown = []
    for minute in range(1, 5):
        time.now += 60
        counts = Counts(100 * HOUR, minute * HOUR, minute * 12_000)
        line.update(counts)
        shown.append(line.text(counts))
    assert shown == [
        "backfill 1%, 12,000 observations, 200 a second, 1h 39m left",
        "backfill 2%, 24,000 observations, 200 a second, 1h 38m left",
        "backfill 3%, 36,000 observations, 200 a second, 1h 37m left",
        "backfill 4%, 48,000 observations, 200 a second, 1h 36m left",
    ]
    time.now += 60  # nothing came
    line.update(counts)
    assert "150 a second, 2h 8m left" in line.text(counts)
    assert line.text(Counts(100, 100, 1)).endswith(", finishing")


def test_one_sparse_hour_does_not_promise_the_end() -> None:
    """Hours without observations pass at once, and the estimate stays at seconds when the dense ones come."""
    time, rates = _Time(), Rates()
    rates.add(time.now, Counts(1000, 0, 0))
    time.now += 2
    rates.add(time.now, Counts(1000, 500, 0))
    assert rates.left == pytest.approx(2)
    for _ in range(100):
        time.now += 3
        rates.add(time.now, Counts(1000, 500, 1_000))
    time.now += 3
    rates.add(time.now, Counts(1000, 501, 2_000))
    assert rates.left is not None
    assert rates.left > 10_000


def test_a_slow_source_is_counted_by_the_minute() -> None:
    """A rate of a few observations a minute is shown as 0 a second."""
    time = _Time()
    line = _line(time)
    line.update(Counts(100, 0, 0))
    time.now += 60
    line.update(Counts(100, 50, 30))
    assert "30 a minute, 1m left" in line.text(Counts(100, 50, 30))


def test_the_line_says_what_it_waits_for() -> None:
    """Somebody looks at a line that stands still and does not know whether it hangs."""
    time = _Time()
    line = _line(time)
    waits = {Wait("Langfuse's rate limit", 90.0, 138.0), Wait("Kelet", 99.0, 99.4)}
    text = "waiting for Langfuse's rate limit (38s)"
    assert line.text(Counts(), waits) == f"backfill: looking for what is due, {text}"
    assert text in line.text(Counts(10, 5, 1), waits)
    assert "waiting" not in line.text(Counts(10, 5, 1), {Wait("Kelet", 99.0, 99.4)})


async def test_a_retry_is_such_a_wait() -> None:
    """During an outage the line says nothing of it."""
    clock = SystemClock()
    with collect() as waits:
        retry = asyncio.create_task(Backoff("Kelet", clock, None).wait(TransientError("down", retry_after=30.0)))
        while not waits:
            await asyncio.sleep(0)
        (wait,) = waits
        assert (wait.reason, round(wait.until - wait.since)) == ("Kelet after an error, try 2", 30)
        clock.stop()
        await asyncio.gather(retry, return_exceptions=True)
        assert not waits
    with waiting("nobody who collects it", 5):
        assert not waits


def test_other_lines_are_written_above() -> None:
    """A log line is glued to the progress line, or that is gone until the next update."""
    terminal = io.StringIO()
    line = LiveLine(terminal)
    line.show("backfill 1%")
    with above():
        terminal.write("warning: retry\n")
    line.show("backfill 2%")
    line.close()
    with above():
        terminal.write("done\n")
    erase = "\r\x1b[K"
    assert terminal.getvalue() == (
        f"{erase}backfill 1%{erase}warning: retry\nbackfill 1%{erase}backfill 2%{erase}done\n"
    )


def test_logs_and_messages_know_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two ways in which this program writes on stderr do not clear the line before."""
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    line = LiveLine(terminal)
    line.show("backfill 1%")
    before = logging.getLogger().handlers[:], logging.getLogger("sync_worker").level
    try:
        logs.set_up("info", "text")
        logging.getLogger("sync_worker.test").warning("a retry")
    finally:
        logging.getLogger().handlers, logging.getLogger("sync_worker").level = before[0], before[1]
        line.close()
    first, _, rest = terminal.getvalue().removeprefix("\r\x1b[K").partition("\r\x1b[K")
    assert (first, rest.partition("\n")[2]) == ("backfill 1%", "backfill 1%\r\x1b[K")


def test_a_long_line_is_cut() -> None:
    """A line that wraps cannot be replaced: each update leaves a copy behind."""
    terminal = io.StringIO()
    line = LiveLine(terminal)
    line.show("x" * 200)
    line.close()
    assert terminal.getvalue().count("x") == 79


def test_a_terminal_that_is_gone_ends_the_display_alone() -> None:
    """A closed connection ends the backfill."""
    terminal = io.StringIO()
    line = LiveLine(terminal)
    terminal.close()
    line.show("backfill 1%")
    line.show("backfill 2%")
    line.close()
