"""What is decided of traces, without a server: when one is complete, checked again, forgotten, or older than sent."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sync_worker.errors import DailyLimitReached, DeadLettersFull
from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Unreadable
from sync_worker.ledger import SecondRead, SentObservation, TraceNote, open_ledger
from sync_worker.ledger.state_keys import LAST_ENDED_SCAN, State, last_scan
from sync_worker.pipeline.assemble import Assembly
from sync_worker.pipeline.daily_limit import DailyLimit
from sync_worker.pipeline.dead_lettering import DeadLettering
from sync_worker.pipeline.dedupe import SECOND_READ_MS, Dedupe, second_read_ms
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.notes import _next_check, pending_claimed
from sync_worker.pipeline.readiness import ReadinessLimits
from sync_worker.pipeline.report import SourceReport
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.trace import Trace
from sync_worker.records import Observation
from sync_worker.redaction.protection import NOTHING
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.runs.lookback import LookbackScans, earliest_scanned
from sync_worker.spans.fingerprint import fingerprint
from tests.support.clock import VirtualClock

HOUR = 3_600_000
LIMITS = ReadinessLimits(quiet_period=30_000, max_open=HOUR)


def row(id: str, start: int, end: int | None = None, *, parent: str | None = None, **more: Any) -> Observation:  # noqa: A002
    return Observation(id, "t", "p", "SPAN", start, start + 1 if end is None else end, parent_id=parent, **more)


def test_a_trace_at_the_border_of_a_page_is_kept() -> None:
    """Children that follow on the next page, as a root's clock is behind theirs, would go without it, or be cut off."""
    assembly = Assembly()
    assembly.add([row("root", 1_000), row("late", 1_100, parent="root")], 10)
    assert assembly.take_complete() == {}
    assembly.add([row("early", 990, parent="root")], 10)
    assert assembly.take_complete() == {}
    assembly.add([], 10)
    ((trace, observations),) = assembly.take_complete().items()
    assert (trace, {one.id for one in observations}) == ("t", {"root", "late", "early"})


def test_a_trace_without_its_root_is_kept_however_many_pages_follow() -> None:
    """A root that is listed long after its children would find them gone, without a session."""
    assembly = Assembly()
    assembly.add([row("child", 1_000, parent="root")], 10)
    for _ in range(3):
        assembly.add([], 10)
        assert assembly.take_complete() == {}
    assembly.add([row("root", 10)], 10)
    assembly.add([], 10)
    assert {one.id for one in assembly.take_complete()["t"]} == {"child", "root"}


def test_a_pending_trace_keeps_its_earlier_start() -> None:
    """A trace would be pending for SYNC_MAX_OPEN from its last observation, not from its first, and be read in part."""
    note = TraceNote("t", pending=True, earliest_ms=100, newest_ms=200, pending_ms=7)
    trace = Trace("t", [row("a", 150, 160)], note=note)
    assert (trace.earliest_ms, trace.newest_ms) == (100, 200)
    for start, earliest, newest in ((150, 100, 200), (50, 50, 200), (300, 100, 301)):
        claimed = pending_claimed(note, [row("a", start)], now_ms=1_000)
        assert (claimed.earliest_ms, claimed.newest_ms) == (earliest, newest)
        assert (claimed.pending, claimed.pending_ms, claimed.check_ms) == (True, 7, 61_000)


@pytest.mark.parametrize(
    ("start", "stored"),
    [(150, (100, 200, 9_000)), (50, (50, 200, 0)), (300, (100, 301, 0))],
    ids=["in", "early", "late"],
)
def test_what_a_scan_finds_of_a_pending_trace_moves_its_times(
    start: int, stored: tuple[int, int, int], tmp_path: Path
) -> None:
    """A trace would be pending longer than SYNC_MAX_OPEN, be sent before it is quiet, or be read in part."""
    ledger = open_ledger(tmp_path / "state.db", VirtualClock())
    ledger.store_traces(1, [TraceNote("t", pending=True, earliest_ms=100, newest_ms=200, check_ms=9_000)])
    session = SimpleNamespace(
        source_id=1, ledger=ledger, clock=VirtualClock(), state=State(ledger, "source 1"), limits=Limits(), reader=None,
        report=None,
    )  # fmt: skip
    pipeline = cast("Pipeline", SimpleNamespace(session=session))
    scans = LookbackScans(pipeline, [HOUR], 0, None, 60_000, cast("ArrivalDelay", None))
    assert scans._triage([row("a", start)]) == []
    found = ledger.traces(1, ["t"])["t"]
    assert (found.earliest_ms, found.newest_ms, found.check_ms) == stored
    ledger.close()


@pytest.mark.parametrize(
    ("start", "now", "expected"),
    [
        (0, 1_000, 61_000),  # young: after a minute
        (0, 40 * 60_000, 50 * 60_000),  # after a quarter of its age
        (0, HOUR - 1_000, HOUR),  # but no later than when it is sent as it is
        (0, HOUR + 5_000, HOUR + 5_001),  # beyond that: at once, never in the past
        (9 * HOUR, 9 * HOUR + 1_000, 9 * HOUR + 61_000),  # its age counts, not the time of day
    ],
)
def test_an_open_observation_is_checked_again(start: int, now: int, expected: int) -> None:
    """One that never ends would be asked for at every cycle, or be sent long after SYNC_MAX_OPEN."""
    running = Observation("a", "t", "p", "SPAN", start, None)
    assert _next_check(running, now, LIMITS) == expected


def test_what_a_running_scan_will_still_list_is_not_forgotten(tmp_path: Path) -> None:
    """After an outage of days the scan that catches up would take what was forgotten for new, and send it again."""
    ledger = open_ledger(tmp_path / "state.db", VirtualClock())
    state = State(ledger, "source 1")
    assert earliest_scanned(state, [HOUR, 48 * HOUR], fresh=False) is None
    state.put(last_scan(HOUR), 100 * HOUR)
    state.put(last_scan(48 * HOUR), 90 * HOUR)  # the outage began here
    assert earliest_scanned(state, [HOUR, 48 * HOUR], fresh=False) == 42 * HOUR
    state.put(LAST_ENDED_SCAN, 30 * HOUR)
    assert earliest_scanned(state, [HOUR, 48 * HOUR], fresh=False) == 29 * HOUR
    ledger.close()


class _Sent:
    """Stands in for a session whose ledger has one observation."""

    def __init__(self, sent: SentObservation) -> None:
        self.source_id = 1
        self.report = SimpleNamespace(observations_unchanged=0, spans_changed=0, notes=Counter[str]())
        self.policy = SimpleNamespace(resend_changed=True)
        self.ledger = SimpleNamespace(
            completed_observations=lambda *_: {("t", "a"): sent}, clock=VirtualClock(), touch=self._touch
        )
        self.second_reads: list[SecondRead] = []
        self.claimed: tuple[Interval, ...] = ()

    def _touch(self, _: int, __: object, reads: list[SecondRead]) -> None:
        self.second_reads += reads


@pytest.mark.parametrize(
    ("updated", "goes"), [(9, False), (10, True), (11, True)], ids=["older", "another of the same time", "newer"]
)
def test_an_older_state_never_goes_out_over_a_newer_one(updated: int, *, goes: bool) -> None:
    """A replica that lags behind would put back what was corrected since."""
    sent = SentObservation(updated_ms=10, fingerprint=fingerprint(row("a", 1, input="newer", updated_ms=10)))
    session = cast("Session", _Sent(sent))
    dedupe = Dedupe(session, cast("DeadLettering", None))
    everything = SimpleNamespace(contains=lambda _: True)
    listed = row("a", 1, input="other", updated_ms=updated, api="v2")
    assert bool(dedupe.fresh({"t": [listed]}, cast("Any", everything), again=False)) is goes
    assert (session.report.spans_changed, session.report.observations_unchanged) == (int(goes), int(not goes))


@pytest.mark.parametrize(
    ("sent", "goes"),
    [
        (SentObservation(updated_ms=10, fingerprint=b"other"), False),
        (SentObservation(updated_ms=10, fingerprint=b"other", dead_lettered=True), False),
        (SentObservation(updated_ms=10, fingerprint=b"", dead_lettered=True), True),
    ],
    ids=["sent", "dead-lettered", "never read"],
)
def test_what_changed_is_left_as_it_was_sent_where_the_operator_says_so(sent: SentObservation, *, goes: bool) -> None:
    """Changes would go out all the same, or what could not be read before never."""
    stand_in = _Sent(sent)
    stand_in.policy.resend_changed = False
    dedupe = Dedupe(cast("Session", stand_in), cast("DeadLettering", None))
    everything = SimpleNamespace(contains=lambda _: True)
    listed = row("a", 1, input="other", updated_ms=11, api="v1")
    assert bool(dedupe.fresh({"t": [listed]}, cast("Any", everything), again=False)) is goes
    assert stand_in.report.notes["changed observations left as sent"] == int(not goes)


@pytest.mark.parametrize(("left_out", "reads"), [((), 1), (("t",), 0)], ids=["sent", "left out"])
def test_what_was_updated_without_a_change_is_read_a_second_time(left_out: tuple[str, ...], reads: int) -> None:
    """A listing that mixed two versions would be taken for no change for good, or what is not sent be read again."""
    now = VirtualClock().now_ms()
    listed = row("a", 1, input="same", updated_ms=now - 1_000, api="v2")
    stand_in = _Sent(SentObservation(updated_ms=now - 60_000, fingerprint=fingerprint(listed)))
    dedupe = Dedupe(cast("Session", stand_in), cast("DeadLettering", None))
    assert dedupe.fresh({"t": [listed]}, Interval(0, now), again=False, left_out=left_out) == {}
    assert [read.due_ms for read in stand_in.second_reads] == [now - 1_000 + SECOND_READ_MS] * reads


def test_each_observation_that_is_not_served_has_its_own_dead_letter(tmp_path: Path) -> None:
    """Intervals that only touch would be one observation, which hides the other; or one be dead-lettered twice."""
    ledger = open_ledger(tmp_path / "state.db", VirtualClock())
    session = SimpleNamespace(source_id=1, ledger=ledger, protection=NOTHING, report=SourceReport("one"))
    letters = DeadLettering(cast("Session", session))
    for start, end, count in ((200, 300, 1), (100, 200, 2), (300, 400, 3), (150, 160, 3), (299, 300, 3)):
        letters.add_without_id([Unreadable("not served", start_ms=start, until_ms=end)])
        assert len(ledger.unserved_intervals(1)) == session.report.dead_letters == count
    ledger.close()


def test_dead_letters_that_fit_are_counted(tmp_path: Path) -> None:
    """The report of a run that ends at the limit would have fewer than it made."""
    ledger = open_ledger(tmp_path / "state.db", VirtualClock())
    ledger.max_dead_letters = 2
    session = SimpleNamespace(source_id=1, ledger=ledger, protection=NOTHING, report=SourceReport("one"))
    letters = DeadLettering(cast("Session", session))
    with pytest.raises(DeadLettersFull):
        letters.add_unreadable(Unreadable("broken", name, "t") for name in "abc")
    assert len(ledger.dead_letters(1)) == session.report.dead_letters == 2
    ledger.close()


def test_what_was_just_updated_is_read_a_second_time() -> None:
    """A mix of two versions would stay as it was sent, or everything be read twice."""
    now, wait = 10_000_000, SECOND_READ_MS
    assert second_read_ms(row("a", 1, updated_ms=now - 100, api="v2"), now) == now - 100 + wait
    assert second_read_ms(row("a", 1, updated_ms=now + 100, api="v2"), now) == now + wait
    assert second_read_ms(row("a", 1, updated_ms=now - wait, api="v2"), now) is None
    assert second_read_ms(row("a", 1, updated_ms=now - wait, api="v2", unsettled=True), now) == now + wait
    assert second_read_ms(row("a", 1, updated_ms=now - 100, api="v1"), now) is None


def test_whole_traces_go_up_to_the_limit_of_a_day(tmp_path: Path) -> None:
    """More would be sent than a day may cost, a trace be torn in two, or one that is too large hold up all for ever."""
    clock = VirtualClock()
    ledger = open_ledger(tmp_path / "state.db", clock)
    limit = DailyLimit(ledger, 1, 5)
    three, two, one, nine = (Trace(f"t{n}", [row(f"{n} {at}", at) for at in range(n)]) for n in (3, 2, 1, 9))
    limit.check_day()
    limit.check()
    admitted = limit.admit([three, two, one])
    assert admitted == [three, two]
    assert limit.admit([one]) == []
    assert DailyLimit(ledger, 1, 5).admit([one]) == [one]  # as long as no other process says that it sends
    limit.end(admitted)
    assert [len(trace.fresh) for trace in limit.admit([nine])] == [5]
    with pytest.raises(DailyLimitReached):
        limit.stop()
    with pytest.raises(DailyLimitReached):
        DailyLimit(ledger, 1, 5).check_day()
    DailyLimit(ledger, 1, 6).check_day()
    clock.advance(86_400)
    DailyLimit(ledger, 1, 5).check_day()
    ledger.close()
