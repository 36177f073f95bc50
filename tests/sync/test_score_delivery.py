"""Signals on their way to Kelet: what it rejects or fails at, and what each response is taken for."""

from __future__ import annotations

from typing import Any

import pytest

from sync_worker.demo.serving import Reply
from sync_worker.errors import ExitCode
from tests.support.faults import drop, status
from tests.sync.conftest import MakeWorld
from tests.sync.scored import answer_signals, once, score_on, scored_world, signals_of, trace_with_session


def test_a_rejected_signal_is_dead_lettered_and_retried(make_world: MakeWorld) -> None:
    """One that Kelet does not take holds up no other."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1, 1.0), score_on(rows[0], 2, 2.0))
    world.kelet.script = answer_signals(status(422))
    report, code = world.once()
    assert (report.error, code, report.dead_letters, len(world.kelet.signals)) == (None, ExitCode.DEAD_LETTERS, 1, 1)
    code, listed = world.program_json("dead-letters", "list")
    (letter,) = listed["dead_letters"]
    assert (letter["kind"], letter["score_id"], letter["status"]) == ("score", "score-1", 422)
    code, result = world.program_json("dead-letters", "retry", "--all")
    assert (code, result["sent"], result["left"]) == (0, 1, 0)
    assert len(signals_of(world, 1)) == 1


def test_an_accepted_signal_stays_accepted_though_there_is_no_room_for_dead_letters(make_world: MakeWorld) -> None:
    """Undone with what was rejected before it and does not fit, it arrives twice; what fits is stored."""
    rows = trace_with_session()
    world = scored_world(make_world, rows, SYNC_MAX_DEAD_LETTERS="1")
    world.langfuse.scores.put(*(score_on(rows[0], number, number) for number in range(3)))
    world.kelet.script = answer_signals(status(422), status(422))
    report, code = world.once()
    assert "SYNC_MAX_DEAD_LETTERS" in (report.error or "")
    assert (report.signals_sent, report.dead_letters, code) == (1, 1, ExitCode.PAUSED)
    world.clock.advance(120)
    world.once()
    assert [len(signals_of(world, number)) for number in range(3)] == [0, 1, 1]


def test_eight_rejections_in_a_row_are_no_poison(make_world: MakeWorld) -> None:
    """Something is wrong with all of them: none is marked."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(*(score_on(rows[0], number, number) for number in range(12)))
    world.kelet.script = answer_signals(*[status(400)] * 12)
    report, code = world.once()
    assert (code, report.dead_letters) == (ExitCode.PAUSED, 0)
    assert len(world.kelet.signals) == 0
    world.kelet.script = None
    world.clock.advance(60)
    once(world)
    assert len(world.kelet.signals) == 12


@pytest.mark.parametrize("reply", [status(503), status(429, retry_after=2), status(408), status(500)])
def test_an_outage_is_waited_out(make_world: MakeWorld, reply: Reply) -> None:
    """Each signal arrives once it is over."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    world.kelet.script = answer_signals(reply)
    once(world)
    assert len(world.kelet.signals) == 1


def test_an_unknown_project_closes_its_lane_alone(make_world: MakeWorld, tmp_path: Any) -> None:
    """Signals of other projects go on; those of the unknown one wait."""
    one, other = trace_with_session(environment="prod"), trace_with_session(10, environment="dev", session="session-2")
    world = scored_world(make_world, [*one, *other])
    tmp_path.joinpath("sync.toml").write_text(
        '[[sources]]\nname = "one"\n[[sources.routes]]\nproject = "elsewhere"\nenvironment = "dev"\n'
    )
    world.langfuse.scores.put(score_on(other[0], 1, 1.0), score_on(one[0], 2, 2.0))
    world.kelet.script = lambda request: status(404) if "/elsewhere/" in request.path else None
    _, code = world.once()
    assert (code, len(world.kelet.signals)) == (ExitCode.PAUSED, 1)
    world.kelet.script = None
    world.clock.advance(60)
    once(world)
    assert sorted(signal.project for signal in world.kelet.signals) == ["elsewhere", "support_test"]


def test_a_web_page_is_no_acknowledgement(make_world: MakeWorld) -> None:
    """A proxy that answers 200 with a page has taken nothing."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    page = Reply(200, {"Content-Type": "text/html"}, b"<html>sign in</html>")
    world.kelet.script = answer_signals(page)
    _, code = world.once()
    assert code == ExitCode.PAUSED
    world.clock.advance(60)
    once(world)
    assert len(world.kelet.signals) == 1


def test_five_a_second_at_most(make_world: MakeWorld) -> None:
    """Kelet's limits are not known."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(*(score_on(rows[0], number, number) for number in range(50)))
    before = world.clock.monotonic()
    once(world)
    assert len(world.kelet.signals) == 50
    assert world.clock.monotonic() - before >= 9.8


def test_a_lost_answer_repeats_one_signal_at_most(make_world: MakeWorld) -> None:
    """What may have been taken is sent again: nothing is lost, and nothing else is repeated."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(*(score_on(rows[0], number, number) for number in range(5)))
    world.kelet.script = answer_signals(None, None, Reply(drop=True, accept=True))
    once(world)
    assert len(world.kelet.signals) == 6
    assert {signal.content["metadata"]["langfuse_score_id"] for signal in world.kelet.signals} == {
        f"score-{number}" for number in range(5)
    }


def test_a_score_that_kelet_fails_at_holds_up_no_other(make_world: MakeWorld) -> None:
    """It is tried again in later cycles, and dead-lettered after some of them."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1, 1.0), score_on(rows[0], 2, 2.0))
    world.kelet.script = lambda request: status(500) if b'"score-1"' in request.body else None
    report, code = world.once()
    assert (code, len(signals_of(world, 2))) == (ExitCode.TRANSIENT, 1)
    assert "and accepts others. They are retried, and dead-lettered after 5 runs" in str(report.error)
    assert "1 score waiting, " in report.line()  # not for a trace: that was sent
    for number in range(3, 12):
        world.langfuse.scores.put(score_on(rows[0], number, float(number)))
        world.clock.advance(3600)
        report, code = world.once()
        if code != ExitCode.TRANSIENT:
            break
    assert (code, report.dead_letters) == (ExitCode.DEAD_LETTERS, 1)


def test_a_dropped_connection_before_the_request_loses_nothing(make_world: MakeWorld) -> None:
    """Nothing is marked without an answer."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    world.kelet.script = answer_signals(drop())
    once(world)
    assert len(world.kelet.signals) == 1


def test_a_score_that_kelet_fails_at_is_left_alone_for_longer_each_time(make_world: MakeWorld) -> None:
    """It is posted in every cycle, at a server that fails at it."""
    rows = trace_with_session()
    world = scored_world(make_world, rows)
    world.langfuse.scores.put(score_on(rows[0], 1))
    world.kelet.script = lambda request: status(500) if request.path.endswith("/signal") else None
    failing = []
    for _ in range(8):
        before = len(world.kelet.requests)
        world.once()
        failing.append(any(request.path.endswith("/signal") for request in world.kelet.requests[before:]))
        world.clock.advance(60)
    assert failing[:3] == [True, False, True]
    assert failing[3:].count(True) == 1
    assert not failing[3]
