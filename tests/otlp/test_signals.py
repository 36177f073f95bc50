"""Signals one by one to a receiver that has bad days: each has one result, that of what arrived."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pytest

from sync_worker.clock import Stopped
from sync_worker.demo.receiver import OtlpReceiver, TraceRequest
from sync_worker.demo.serving import Reply
from sync_worker.errors import CredentialsRejected, SourcePaused, StateError, TransientError
from sync_worker.otlp.signal_delivery import MAX_FAILED_RUNS, RejectedSignal, SignalDelivery
from sync_worker.signals.signal_model import EncodedSignal
from tests.otlp.conftest import PROJECT, MakeClient, backoff
from tests.support import faults
from tests.support.clock import VirtualClock


@dataclass
class Kept:
    """A sink that keeps results and refuses a second one of a signal."""

    accepted: list[str] = field(default_factory=list)
    rejected: list[tuple[str, int | None]] = field(default_factory=list)
    runs: dict[str, int] = field(default_factory=dict)
    full: bool = False

    def check(self) -> None:
        if self.full:
            raise StateError("the disk is full")

    def accept(self, signal: EncodedSignal, rejected: Collection[RejectedSignal]) -> None:
        assert signal.score_id not in self.accepted
        self.accepted.append(signal.score_id)
        self.reject(rejected)

    def reject(self, rejected: Collection[RejectedSignal]) -> None:
        self.rejected += [(one.signal.score_id, one.status) for one in rejected]

    def postpone(self, signal: EncodedSignal) -> int:
        self.runs[signal.score_id] = self.runs.get(signal.score_id, 0) + 1
        return self.runs[signal.score_id]


@dataclass
class Sending:
    """A delivery and all that belongs to it."""

    delivery: SignalDelivery
    kept: Kept
    clock: VirtualClock

    async def send(self, *numbers: int, project: str = PROJECT) -> list[bool]:
        """Send signals and finish, however it ends."""
        try:
            return [await self.delivery.send(_signal(number, project)) for number in numbers]
        finally:
            self.delivery.finish()


Make = Callable[..., Sending]


@pytest.fixture
def make(make_client: MakeClient) -> Make:
    """Make a delivery to the receiver."""

    def made(*, kept: Kept | None = None, patience: float | None = 300.0, rejected: int = 0) -> Sending:
        clock, sink = VirtualClock(), kept or Kept()
        delivery = SignalDelivery(make_client(), sink, backoff(clock, patience), clock, rejected_in_a_row=rejected)
        return Sending(delivery, sink, clock)

    return made


def _signal(number: int, project: str = PROJECT) -> EncodedSignal:
    content = {
        "kind": "metric", "source": "synthetic", "trace_id": "0" * 31 + "1", "trigger_name": "api-x",
        "value": f"s{number}",
    }  # fmt: skip
    return EncodedSignal(f"s{number}", bytes([number]), number, "trace", project, json.dumps(content).encode())


def _arrived(kelet: OtlpReceiver) -> list[str]:
    return [str(signal.content["value"]) for signal in kelet.signals]


def _bad(*numbers: int, reply: Reply) -> Callable[[TraceRequest], Reply | None]:
    bad = {f'"s{number}"'.encode() for number in numbers}
    return lambda request: reply if any(one in request.body for one in bad) else None


def _posts(kelet: OtlpReceiver) -> int:
    return len([request for request in kelet.requests if request.path.endswith("/signal")])


async def test_five_a_second_at_most(kelet: OtlpReceiver, make: Make) -> None:
    """Kelet's limits are not known: a burst may be refused."""
    made = make()
    assert await made.send(*range(11)) == [True] * 11
    assert _arrived(kelet) == made.kept.accepted == [f"s{number}" for number in range(11)]
    assert sum(made.clock.waits) == pytest.approx(2.0)


@pytest.mark.parametrize("seconds", [17, 90])
async def test_retry_after_is_obeyed(seconds: int, kelet: OtlpReceiver, make: Make) -> None:
    """A signal sent sooner prolongs the limit."""
    kelet.script = faults.in_turn(None, faults.status(429, retry_after=seconds), None)
    made = make()
    await made.send(1, 2)
    assert _arrived(kelet) == ["s1", "s2"]
    assert sum(made.clock.waits) >= seconds


PASSING = {
    "503": faults.status(503), "500": faults.status(500), "429": faults.status(429), "408": faults.status(408),
    "502": faults.status(502), "dropped": faults.drop(),
}  # fmt: skip


@pytest.mark.parametrize("reply", PASSING.values(), ids=PASSING.keys())
async def test_fault_that_passes(reply: Reply, kelet: OtlpReceiver, make: Make) -> None:
    """After an error that passes a signal is missing, twice there, or dead-lettered."""
    kelet.script = faults.in_turn(None, reply, None)
    made = make()
    assert await made.send(1, 2, 3) == [True] * 3
    assert (_arrived(kelet), made.kept.rejected) == (["s1", "s2", "s3"], [])


@pytest.mark.parametrize("reply", [faults.status(503), faults.status(429)])
async def test_outage_outlasts_patience(reply: Reply, kelet: OtlpReceiver, make: Make) -> None:
    """A run that waits for ever is not seen; one that marks the signal loses it."""
    kelet.script = faults.always(reply)
    made = make(patience=20.0)
    with pytest.raises(TransientError):
        await made.send(1)
    assert (made.kept.accepted, made.kept.rejected) == ([], [])


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_rejected_signal_is_dead_lettered_alone(status: int, kelet: OtlpReceiver, make: Make) -> None:
    """One bad signal holds up others, or is forgotten."""
    kelet.script = _bad(2, 4, reply=faults.status(status))
    made = make()
    assert await made.send(1, 2, 3, 4) == [True] * 4
    assert _arrived(kelet) == made.kept.accepted == ["s1", "s3"]
    assert made.kept.rejected == [("s2", status), ("s4", status)]


async def test_what_was_rejected_is_posted_once_in_a_run(kelet: OtlpReceiver, make: Make) -> None:
    """A run comes by a score twice: twice four rejections would be eight in a row."""
    kelet.script = faults.always(faults.status(422))
    made = make()
    assert await made.send(1, 2, 3, 4, 1, 2, 3, 4) == [True] * 8
    assert _posts(kelet) == 4
    assert len(made.kept.rejected) == 4


async def test_eight_rejections_in_a_row_pause_and_mark_nothing(kelet: OtlpReceiver, make: Make) -> None:
    """Something is wrong with all of them."""
    kelet.script = faults.always(faults.status(400))
    made = make()
    with pytest.raises(SourcePaused, match="8 signals"):
        await made.send(*range(12))
    assert (_posts(kelet), made.kept.rejected) == (8, [])


async def test_rejections_in_a_row_count_over_runs(kelet: OtlpReceiver, make: Make) -> None:
    """Seven a run would empty a project of its scores into dead letters."""
    kelet.script = faults.always(faults.status(400))
    made = make(rejected=6)
    with pytest.raises(SourcePaused):
        await made.send(1, 2, 3)
    kelet.script = _bad(3, reply=faults.status(400))
    made = make(rejected=6)
    await made.send(1, 2, 3)
    assert (made.delivery.rejected_in_a_row, made.kept.rejected) == (1, [("s3", 400)])


@pytest.mark.parametrize("status", [401, 403])
async def test_rejected_key_pauses_the_source(status: int, kelet: OtlpReceiver, make: Make) -> None:
    """Each score would become a dead letter."""
    kelet.script = faults.always(faults.status(status))
    made = make()
    with pytest.raises(CredentialsRejected):
        await made.send(1, 2)
    assert (_posts(kelet), made.kept.rejected) == (1, [])


@pytest.mark.parametrize("status", [405, 415])
async def test_what_pauses_signals_alone_names_their_setting(status: int, kelet: OtlpReceiver, make: Make) -> None:
    """An operator is sent to settings of other targets, which say nothing of Kelet's signals."""
    kelet.script = faults.always(faults.status(status))
    with pytest.raises(SourcePaused, match=r"of its signal endpoint\. Try: check KELET_API_URL, or SYNC_SCORES=false"):
        await make().send(1)


async def test_unknown_project_closes_its_lane_alone(kelet: OtlpReceiver, make: Make) -> None:
    """Signals of other projects wait, or those of the unknown one are asked for one by one."""
    kelet.script = lambda request: faults.status(404) if "/other/" in request.path else None
    made = make()
    assert await made.send(1, 2, project="other") == [False, False]
    assert await made.send(3) == [True]
    assert (_posts(kelet), made.kept.accepted, made.kept.rejected) == (2, ["s3"], [])
    with pytest.raises(SourcePaused, match="other"):
        made.delivery.check()


NO_ACKNOWLEDGEMENT = {
    "a page": Reply(200, {"Content-Type": "text/html"}, b"<html>sign in</html>"),
    "an error": Reply(200, {"Content-Type": "application/json"}, b'{"error": "no"}'),
    "a redirect": Reply(302, {"Location": "https://elsewhere.example/"}, b""),
    "a text": Reply(200, {"Content-Type": "text/plain"}, b"Welcome to nginx"),
    "418": faults.status(418),
}


@pytest.mark.parametrize("reply", NO_ACKNOWLEDGEMENT.values(), ids=NO_ACKNOWLEDGEMENT.keys())
async def test_no_acknowledgement_pauses_and_marks_nothing(reply: Reply, kelet: OtlpReceiver, make: Make) -> None:
    """What a proxy answers is no receipt."""
    kelet.script = faults.always(reply)
    made = make()
    with pytest.raises(SourcePaused):
        await made.send(1)
    assert (made.kept.accepted, made.kept.rejected) == ([], [])


@pytest.mark.parametrize("reply", [Reply(204, {}, b""), Reply(200, {}, b""), Reply(202, {}, b"queued")])
async def test_short_acknowledgements_count(reply: Reply, kelet: OtlpReceiver, make: Make) -> None:
    """A signal that was taken is sent for ever."""
    kelet.script = faults.always(reply)
    made = make()
    assert await made.send(1) == [True]
    assert made.kept.accepted == ["s1"]


async def test_signal_at_which_kelet_fails_holds_up_no_other(kelet: OtlpReceiver, make: Make) -> None:
    """It is tried in several runs and set aside then, once others are accepted."""
    kelet.script = _bad(2, reply=faults.status(500))
    kept = Kept()
    for run in range(1, MAX_FAILED_RUNS + 1):
        made = make(kept=kept)
        assert await made.send(2, 2, 10 + run) == [False, False, True]
        assert kept.runs == {"s2": run}
        if run < MAX_FAILED_RUNS:
            assert kept.rejected == []
            with pytest.raises(TransientError, match=r"accepts others\. They are retried, and"):
                made.delivery.check()
    made.delivery.check()
    assert kept.rejected == [("s2", 500)]


async def test_kelet_that_fails_at_all_blames_none(kelet: OtlpReceiver, make: Make) -> None:
    """An outage of days would make a dead letter of each score."""
    kelet.script = faults.always(faults.status(500))
    kept = Kept(runs={f"s{number}": MAX_FAILED_RUNS for number in range(20)})
    made = make(kept=kept, patience=None)
    with pytest.raises(TransientError):
        await made.send(*range(20))
    assert kept.rejected == []


async def test_nothing_goes_that_could_not_be_noted(kelet: OtlpReceiver, make: Make) -> None:
    """It would be sent again in each cycle while the disk is full."""
    made = make(kept=Kept(full=True))
    with pytest.raises(StateError):
        await made.send(1)
    assert _posts(kelet) == 0


async def test_stop_is_noticed_between_signals(kelet: OtlpReceiver, make: Make) -> None:
    """A backlog of thousands goes on for minutes after Ctrl-C."""
    made = make()
    made.clock.stop()
    with pytest.raises(Stopped):
        await made.send(1, 2)
    assert _posts(kelet) == 0


async def test_as_many_failures_in_a_row_are_an_outage(kelet: OtlpReceiver, make: Make) -> None:
    """In an outage signal after signal would be counted as failed, until each is a suspect."""
    kelet.script = faults.always(faults.status(500))
    made = make(patience=None)
    with pytest.raises(TransientError):
        await made.send(*range(20))
    assert len(made.kept.runs) == 7
    assert _posts(kelet) == 2 * 8


async def test_a_wait_that_spans_were_asked_for_holds_for_signals(kelet: OtlpReceiver, make: Make) -> None:
    """Kelet asks for a minute of peace, and the next signal goes out at once."""
    made = make(patience=None)
    made.delivery.backoff._not_before = made.clock.monotonic() + 60.0
    await made.send(1)
    assert sum(made.clock.waits) == pytest.approx(60.0)


async def test_a_rejection_is_a_sign_of_life(kelet: OtlpReceiver, make: Make) -> None:
    """Errors before a rejection and after it would add up to an outage that outlasts the patience."""
    down, no = faults.status(503), faults.status(422)
    kelet.script = faults.in_turn(down, no, down, faults.no_such_project(), down, None)
    made = make(patience=None)
    assert await made.send(1) == [True]
    assert made.delivery.backoff.elapsed == 0.0
    assert await made.send(2, project="other") == [False]
    assert made.delivery.backoff.elapsed == 0.0
    assert await made.send(3) == [True]
    assert [wait for wait in made.clock.waits if wait > 0.3] == [0.5] * 3


async def test_a_later_state_that_is_taken_ends_the_doubt_of_the_earlier(kelet: OtlpReceiver, make: Make) -> None:
    """A score that was corrected and taken would leave a dead letter, or take those of others with it."""
    kelet.script = faults.in_turn(faults.status(422), faults.status(422), None)
    made = make()
    earlier = EncodedSignal("s1", b"earlier", 1, "trace", PROJECT, _signal(1).body)
    assert await made.delivery.send(earlier)
    assert await made.delivery.send(_signal(2))
    assert await made.delivery.send(_signal(1))
    made.delivery.finish()
    assert (made.kept.accepted, made.kept.rejected) == (["s1"], [("s2", 422)])
