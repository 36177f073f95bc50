"""Machines whose clock is wrong, stands still or jumps: nothing is lost, nothing goes twice, and it is caught up."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.lease import LIVE
from tests.support import faults
from tests.support.rows import Row, at, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import ROOT, World, identities

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
WRONG = {"1970": None, "-100h": -100 * HOUR, "+100h": 100 * HOUR, "-1h": -HOUR, "+1h": HOUR}
SKEWED = ROOT / "tests" / "support" / "skewed"


def _base(hours: int = 3) -> list[Row]:
    return [made for number in range(hours * 12) for made in trace(2, start=number * 300.0, seconds=5.0)]


def _visible(rows: list[Row], seconds: float) -> list[Row]:
    return [one | {"createdAt": at(seconds), "updatedAt": at(seconds)} for one in rows]


class Skew:
    """Makes the machine's clock wrong while the servers' stay right."""

    def __init__(self, made: World) -> None:
        self._made = made
        self._seconds = 0.0
        made.langfuse.now = lambda: made.clock.now_ms() / 1000 - self._seconds
        made.kelet.now = made.langfuse.now

    def set(self, seconds: float | None) -> None:
        """Make the clock wrong by so many seconds; None: it says 1970."""
        true = self._made.clock.now_ms() / 1000 - self._seconds
        wrong = -true if seconds is None else seconds
        self._made.clock.jump(wrong - self._seconds)
        self._seconds = wrong


def _cached(made: World) -> None:
    """Let a cache in front of Langfuse say that its answers, and so their dates, are old."""

    def script(request: Request) -> Reply:
        reply = made.langfuse.answer(request, None)
        return replace(reply, status=reply.status or 200, headers={**reply.headers, "Age": "7"})

    made.langfuse.script = script


def _silent(made: World) -> None:
    """Let nobody say what time it is."""
    _cached(made)
    made.kelet.script = lambda _: Reply(200, {"Content-Type": "application/json", "Age": "7"}, b"{}", accept=True)


def _state(made: World) -> Ledger:
    return open_ledger(made.state, made.clock)


def _coverage(made: World) -> list[Interval]:
    ledger = _state(made)
    try:
        return ledger.completed_intervals(1, LIVE)
    finally:
        ledger.close()


@pytest.mark.parametrize("wrong", list(WRONG))
@pytest.mark.parametrize("reported", ["by both", "by Kelet", "by nobody"])
def test_one_cycle_by_a_wrong_clock(make_world: MakeWorld, wrong: str, reported: str) -> None:
    """A single cycle at another time takes coverage back and repeats history, or forgets it and loses late rows."""
    made = make_world(_base(), after_noon=3 * HOUR, SYNC_LATE_HORIZONS="20m,2h", SYNC_START="3h")
    skew = Skew(made)
    if reported != "by both":
        (_cached if reported == "by Kelet" else _silent)(made)
    made.once()
    made.cycles(600, every=300)
    here = 3 * HOUR + 600
    done = _coverage(made)
    fresh = _visible(trace(2, start=here - 100, seconds=5.0), here - 90)
    late = _visible(trace(2, start=here - 400, seconds=5.0), here)
    made.langfuse.rows.extend([*fresh, *late])
    skew.set(WRONG[wrong])
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert _coverage(made)[0][0] == done[0][0]
    assert reported == "by nobody" or _coverage(made)[-1][1] <= done[-1][1] + 60_000
    skew.set(0)
    made.clock.advance(60)
    made.cycles(300)
    made.langfuse.rows.extend(_visible(trace(2, start=here - 300, seconds=5.0), here + 300))
    made.cycles(2 * HOUR, every=300)
    if reported != "by nobody" or wrong != "+1h":
        assert _coverage(made)[-1][1] > done[-1][1] + 100 * 60_000
    assert identities(list(made.langfuse.rows)) == made.arrived()


@pytest.mark.parametrize("wrong", list(WRONG))
def test_lasting_wrong_clock_is_corrected(make_world: MakeWorld, wrong: str) -> None:
    """A machine without a clock of its own syncs by 1970 for ever, or not at all, and never says why."""
    made = make_world(_base(), after_noon=3 * HOUR, SYNC_LATE_HORIZONS="20m,2h", SYNC_START="4h")
    skew = Skew(made)
    skew.set(WRONG[wrong])
    made.once()
    made.cycles(1200)
    late = _visible(trace(2, start=3 * HOUR + 600, seconds=5.0), 3 * HOUR + 1200)
    made.langfuse.rows.extend(late)
    made.cycles(1200)
    assert identities(list(made.langfuse.rows)) == made.arrived()
    true = made.langfuse.now() * 1000
    assert true - 61_000 <= _coverage(made)[-1][1] + 30_000 <= true
    assert abs(_coverage(made)[0][0] - (true - 2_400_000 - 4 * HOUR * 1000)) <= 1000


@pytest.mark.parametrize("wrong", list(WRONG))
def test_clock_that_jumps_in_the_middle_of_a_cycle(make_world: MakeWorld, wrong: str) -> None:
    """Between a page that was read and its commit the time is another: what was read is covered further, or less."""
    made = make_world(_base(), after_noon=3 * HOUR, SYNC_LATE_HORIZONS="20m,2h", SYNC_START="4h")
    skew = Skew(made)
    made.once()
    made.cycles(600, every=300)
    done = _coverage(made)
    here = 3 * HOUR + 600
    made.langfuse.rows.extend(_visible([*trace(2, start=here, seconds=5.0), *trace(1, start=here - 500)], here + 10))
    made.clock.advance(120)

    def script(request: Request) -> None:
        if "io" in request.query.get("fields", ""):
            skew.set(WRONG[wrong])

    made.langfuse.script = script
    assert made.once()[1] == 0
    made.langfuse.script = None
    assert _coverage(made)[0][0] == done[0][0]
    assert _coverage(made)[-1][1] <= done[-1][1] + 121_000
    skew.set(0)
    made.cycles(2 * HOUR, every=300)
    assert identities(list(made.langfuse.rows)) == made.arrived()


def test_clocks_that_were_all_wrong_are_all_set_right(make_world: MakeWorld) -> None:
    """Servers on one machine with the worker agree on a wrong time: once it is set right, nothing goes on for days."""
    made = make_world(_base(), after_noon=3 * HOUR, SYNC_LATE_HORIZONS="20m,2h", SYNC_START="4h")
    made.once()
    made.clock.jump(100 * HOUR)
    made.once()
    made.clock.jump(-100 * HOUR)
    made.clock.advance(60)
    made.langfuse.rows.extend(_visible(trace(2, start=3 * HOUR + 10, seconds=5.0), 3 * HOUR + 20))
    made.cycles(600)
    assert _coverage(made)[-1][1] == made.clock.now_ms() - 30_000
    assert identities(list(made.langfuse.rows)) == made.arrived()


def test_clock_that_stands_still(make_world: MakeWorld) -> None:
    """A clock that stops also stops the sync."""
    made = make_world(_base(), after_noon=3 * HOUR, SYNC_START="3h")
    skew = Skew(made)
    made.once()
    for passed in range(20):
        made.clock.advance(60)
        skew.set(-60.0 * (passed + 1))
        made.langfuse.rows.extend(_visible(trace(1, start=3 * HOUR + 60 * passed, seconds=5.0), 3 * HOUR + 60 * passed))
        assert made.once()[1] == 0
    skew.set(0)
    made.cycles(300)
    assert identities(list(made.langfuse.rows)) == made.arrived()


def test_pending_trace_is_not_given_up_by_a_wrong_clock(make_world: MakeWorld) -> None:
    """A trace that is under way goes in halves, or counts as vanished, since a clock says that it is days old."""
    root, *children = trace(2, start=HOUR, seconds=30.0)
    made = make_world(children, after_noon=HOUR + 60, SYNC_START="3h")
    skew = Skew(made)
    made.once()
    _silent(made)
    skew.set(100 * HOUR)
    for _ in range(3):
        report, code = made.once()
        assert (report.spans_sent, report.traces_vanished, report.traces_pending, code) == (0, 0, 1, 0)
    skew.set(0)
    root["endTime"], root["updatedAt"] = at(HOUR + 200), at(HOUR + 200)
    made.clock.advance(300)
    made.langfuse.rows.add(root)
    made.cycles(300)
    assert identities([root, *children]) == made.arrived()


def test_time_that_nobody_confirms_covers_nothing(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    """Three clocks say three things, and one of them is believed; or nothing arrives meanwhile; or nobody is told."""
    made = make_world(_base(), after_noon=3 * HOUR, SYNC_START="3h")
    skew = Skew(made)
    made.once()
    done = _coverage(made)
    true = made.langfuse.now
    made.kelet.now = lambda: true() + 7 * HOUR
    skew.set(HOUR)
    made.langfuse.rows.extend(_visible(trace(2, start=3 * HOUR + 10, seconds=5.0), 3 * HOUR + 20))
    made.clock.advance(120)
    caplog.clear()
    report, code = made.once()
    assert (report.spans_sent, code) == (3, 0)
    assert _coverage(made) == done
    (line,) = [record.getMessage() for record in caplog.records if "not certain" in record.getMessage()]
    assert "this machine: " in line
    assert "Try:" in line
    made.kelet.now = true
    made.cycles(120)
    assert _coverage(made)[-1][1] > done[-1][1] + 120_000
    assert identities(list(made.langfuse.rows)) == made.arrived()


def test_server_without_a_date_is_synced_by_the_machine(make_world: MakeWorld) -> None:
    """A proxy that takes the date out of answers keeps a sync from ever being complete."""
    made = make_world(_base(), after_noon=3 * HOUR, SYNC_START="3h")
    _silent(made)
    for hours in (0, 1, 49):
        made.clock.advance(hours * HOUR)
        made.once()
        made.cycles(900)
        assert _coverage(made)[-1][1] == made.clock.now_ms() - 30_000
    assert identities(list(made.langfuse.rows)) == made.arrived()


def test_start_is_that_of_the_first_try(make_world: MakeWorld) -> None:
    """Keys that are set right on Wednesday lose what happened since Monday."""
    made = make_world(_base(), after_noon=HOUR, SYNC_START="30m")
    secret = made.environ["LANGFUSE_SECRET_KEY"]
    made.environ["LANGFUSE_SECRET_KEY"] = "sk-lf-of-another-project"
    assert made.once()[1] == ExitCode.CREDENTIALS
    made.clock.advance(2 * DAY)
    assert made.once()[1] == ExitCode.CREDENTIALS
    made.environ["LANGFUSE_SECRET_KEY"] = secret
    assert made.once()[1] == 0
    due = [one for one in made.langfuse.rows if str(one["startTime"]) >= at(1800.0)]
    assert identities(due) == made.arrived()
    ledger = _state(made)
    assert ledger.sources()[0].sync_start_ms == made.clock.now_ms() - round((2 * DAY + 1800) * 1000)
    assert ledger.query("SELECT count(*) FROM state_keys WHERE scope GLOB 'start *'") == [(0,)]
    ledger.close()


@pytest.mark.parametrize("wrong", list(WRONG))
def test_start_of_a_wrong_clock_is_corrected_by_a_refusal(make_world: MakeWorld, wrong: str) -> None:
    """The first try was on a machine whose clock was not set yet: all history is read, or none."""
    made = make_world(_base(), after_noon=HOUR, SYNC_START="30m")
    first = made.clock.now_ms()
    skew = Skew(made)
    skew.set(WRONG[wrong])
    secret = made.environ["LANGFUSE_SECRET_KEY"]
    made.environ["LANGFUSE_SECRET_KEY"] = "sk-lf-of-another-project"
    made.once()
    skew.set(0)
    made.clock.advance(2 * DAY)
    made.environ["LANGFUSE_SECRET_KEY"] = secret
    assert made.once()[1] == 0
    ledger = _state(made)
    assert abs((ledger.sources()[0].sync_start_ms or 0) - (first - 1_800_000)) < 1000
    ledger.close()


def test_known_project_keeps_its_start(make_world: MakeWorld) -> None:
    """Wrong keys in between move the start of a sync that is under way."""
    made = make_world(_base(), after_noon=3 * HOUR, SYNC_START="3h")
    made.once()
    done = _coverage(made)
    keys = dict(made.environ)
    made.environ |= {"LANGFUSE_PUBLIC_KEY": "pk-lf-mistyped", "LANGFUSE_SECRET_KEY": "sk-lf-mistyped"}
    made.clock.advance(DAY)
    assert made.once()[1] == ExitCode.CREDENTIALS
    made.environ |= keys
    made.clock.advance(DAY)
    assert made.once()[1] == 0
    assert _coverage(made)[0][0] == done[0][0]
    assert identities(list(made.langfuse.rows)) == made.arrived()


def _process(made: World, folder: Path, *arguments: str, skew: float) -> tuple[int, str, str]:
    return made.program(*arguments, environ=_skewed(folder, skew))


def _skewed(folder: Path, skew: float) -> dict[str, str]:
    file = folder / "skew"
    file.write_text(str(skew), encoding="ascii")
    return {"PYTHONPATH": f"{SKEWED}{os.pathsep}{ROOT}", "SKEW_FILE": str(file)}


def _now_rows(count: int, back: float = 3000.0) -> list[Row]:
    """Return rows that started a minute apart, `back` seconds ago at the earliest, by this machine's true clock."""
    noon = time.time() - time.mktime(time.strptime(at(0.0)[:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone
    return [made for number in range(count) for made in trace(1, start=noon - back + number * 60, seconds=5.0)]


def test_process_at_1970_syncs_by_langfuse_time(make_world: MakeWorld, tmp_path: Path) -> None:
    """A board without a battery sends nothing until its clock is set."""
    rows = _now_rows(40)
    made = make_world(rows)
    code, _, err = _process(made, tmp_path, "once", skew=-time.time() + 100)
    assert code == 0, err
    assert identities(rows) == made.arrived()
    assert len(re.findall("behind Langfuse's", err)) == 1
    code, _, err = _process(made, tmp_path, "once", skew=100 * HOUR)
    assert code == 0, err
    code, _, err = _process(made, tmp_path, "once", skew=0)
    assert code == 0, err
    assert identities(rows) == made.arrived()
    code, out, _ = _process(made, tmp_path, "verify", "--from", "2h", "--to", "now", skew=-100 * HOUR)
    assert (code, "complete" in out) == (0, True), out
    code, out, err = _process(made, tmp_path, "backfill", "--from", "3h", "--to", "now", skew=-100 * HOUR)
    assert code == 0, err
    assert identities(rows) == made.arrived()


def test_backfill_of_a_wrong_clock_waits_for_langfuse_to_tell_the_time(make_world: MakeWorld, tmp_path: Path) -> None:
    """One answer that is lost has a backfill of the last hours do other hours, and say that all is done."""
    rows = _now_rows(5)
    made = make_world(rows)
    code, _, err = _process(made, tmp_path, "once", skew=0)
    assert code == 0, err
    old = _now_rows(5, back=30 * HOUR)
    made.langfuse.rows.extend(old)
    made.langfuse.script = faults.on_path("/api/public/ready", faults.drop())
    code, _, err = _process(made, tmp_path, "backfill", "--from", "60h", "--to", "now", skew=100 * HOUR)
    assert (code, "may be wrong. Try: run again" in err) == (1, True), err
    made.langfuse.script = faults.in_turn(faults.drop())
    code, _, err = _process(made, tmp_path, "backfill", "--from", "60h", "--to", "now", skew=100 * HOUR)
    assert code == 0, err
    assert identities([*rows, *old]) == made.arrived()


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_run_goes_on_at_its_pace_when_the_clock_is_set(make_world: MakeWorld, tmp_path: Path, jump: float) -> None:
    """A clock that is set back by an hour stops `run` for an hour; one that is set forward makes it race."""
    made = make_world(_now_rows(5))
    environ = _skewed(tmp_path, 0)
    with made.start("run", environ={**environ, "SYNC_INTERVAL": "1s"}) as process:
        try:
            _wait_for(lambda: _lists(made) >= 2)
            (tmp_path / "skew").write_text(str(jump), encoding="ascii")
            made.langfuse.rows.extend(_visible(_now_rows(1), 0.0))
            began, before = time.monotonic(), _lists(made)
            _wait_for(lambda: _lists(made) >= before + 5)
            took = time.monotonic() - began
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert took > 2.0
    assert max(made.arrived().values()) == 1


def _lists(made: World) -> int:
    return sum(1 for one in made.langfuse.requests if "io" in one.query.get("fields", ""))


def _wait_for(met: object) -> None:
    end = time.monotonic() + 40
    while not met():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.05)


def test_check_shows_by_which_time_the_sync_goes(make_world: MakeWorld, tmp_path: Path) -> None:
    """An operator cannot tell that a clock is wrong, or believes that it stops the sync."""
    made = make_world(_now_rows(1))
    code, out, err = _process(made, tmp_path, "check", skew=-2 * HOUR)
    (line,) = [line for line in out.splitlines() if "clock:" in line]
    assert re.search(r"^ok +default: clock: 7,(200|199) s behind Langfuse's; the sync uses Langfuse's time", line), out
    assert code == 0, err
    made.kelet.now = lambda: time.time() + DAY
    code, out, err = _process(made, tmp_path, "check", skew=-2 * HOUR)
    assert "FAIL  default: clock" in out
    assert code == ExitCode.USAGE, err


def test_future_start_is_refused(make_world: MakeWorld) -> None:
    """A SYNC_START that is yet to come looks like a sync that finds nothing."""
    made = make_world(_base(1), SYNC_START="2026-11-21T00:00:00Z")
    with pytest.raises(ConfigError, match="SYNC_START lies in the future"):
        made.once()
