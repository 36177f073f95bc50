"""Rows that could not be read: what failed by chance passes by itself, what never can be read is tried ever less."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from sync_worker.demo.serving import Reply, Request
from sync_worker.ledger import DeadLetter, open_ledger
from sync_worker.spans.conversion import convert
from tests.support.rows import Row, at, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

MINUTE, HOUR = 60.0, 3600.0


def _breaks_over(made: World, *rows: Row) -> Callable[[Request], Reply | None]:
    """Return a server that answers 500 to pages with the content of these rows."""
    ids = {row["id"] for row in rows}

    def script(request: Request) -> Reply | None:
        if "io" not in request.query.get("fields", "").split(","):
            return None
        reply = made.langfuse.answer(request, None)
        listed = {row["id"] for row in _body(reply)["data"]}
        return Reply(500, {}, b"{}") if listed & ids else None

    return script


def _body(reply: Reply) -> Any:
    """Return the body of an answer, zipped or not."""
    body = gzip.decompress(reply.body) if reply.headers.get("Content-Encoding") == "gzip" else reply.body
    return orjson.loads(body)


def _letters(made: World) -> list[DeadLetter]:
    ledger = open_ledger(made.state, made.clock)
    try:
        return ledger.dead_letters()
    finally:
        ledger.close()


def _cycles(made: World, seconds: float, every: float = 300.0) -> list[int]:
    """Do live cycles for so long; return their exit codes."""
    codes = []
    for _ in range(int(seconds / every)):
        made.clock.advance(every)
        codes.append(made.once(600.0)[1])
    return codes


def test_row_that_was_not_served_by_chance_passes_by_itself(make_world: MakeWorld) -> None:
    """One bad hour of the server leaves holes in traces until a person types `dead-letters retry`."""
    root, child, other = trace(2, start=HOUR, seconds=5.0, session="s-1")
    whole = trace(2, start=HOUR + 10, seconds=5.0)
    made = make_world([root, child, other, *whole], after_noon=HOUR + 120)
    made.langfuse.script = _breaks_over(made, child)
    report, code = made.once(600.0)
    assert (report.dead_letters, code) == (1, 3)
    made.langfuse.script = None
    assert set(_cycles(made, 15 * MINUTE)) == {0}
    assert _letters(made) == []
    assert identities([root, child, other, *whole]) == made.arrived()
    (span,) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert span.attributes["session.id"] == "s-1"
    assert set(_cycles(made, HOUR)) == {0}
    assert identities([root, child, other, *whole]) == made.arrived()


def test_row_that_never_can_be_read_is_tried_ever_less(make_world: MakeWorld) -> None:
    """A row that breaks the server is asked for in each cycle for ever, or tells an exit code of 3 each time."""
    rows = trace(2, start=HOUR, seconds=5.0)
    made = make_world(rows, after_noon=HOUR + 120)
    made.langfuse.script = _breaks_over(made, rows[1])
    assert made.once(600.0)[1] == 3
    (made_first,) = _letters(made)
    assert set(_cycles(made, 26 * HOUR, every=0.5 * HOUR)) == {0}
    (letter,) = _letters(made)
    assert (letter.id, letter.made_ms, letter.tries) == (made_first.id, made_first.made_ms, 3)
    assert letter.next_try_ms is not None
    assert letter.next_try_ms - made.clock.now_ms() > 5 * HOUR * 1000


def test_many_failures_by_chance_pass_in_few_requests(make_world: MakeWorld) -> None:
    """Each dead letter costs a request of its own."""
    rows = [one for number in range(20) for one in trace(1, start=HOUR + number, seconds=0.5)]
    broken = rows[1::2]
    made = make_world(rows, after_noon=HOUR + 120)
    made.langfuse.script = _breaks_over(made, *broken)
    made.once(6000.0)
    made.langfuse.script = None
    assert len(_letters(made)) == 20
    made.clock.advance(11 * MINUTE)
    before = made.langfuse_requests()
    assert made.once()[1] == 0
    assert _letters(made) == []
    assert made.langfuse_requests() - before <= 10
    assert identities(rows) == made.arrived()


def test_many_that_fail_again_do_not_fill_a_cycle(make_world: MakeWorld) -> None:
    """Rows that can never be read take all requests of a cycle when their time has come."""
    rows = [one for number in range(20) for one in trace(1, start=HOUR + number, seconds=0.5)]
    made = make_world(rows, after_noon=HOUR + 120)
    made.langfuse.script = _breaks_over(made, *rows[1::2])
    made.once(6000.0)
    made.clock.advance(11 * MINUTE)
    made.once(6000.0)
    tried = [letter for letter in _letters(made) if letter.tries]
    assert 3 <= len(tried) <= 5


def test_dead_letter_of_a_pending_trace_leaves_it_pending(make_world: MakeWorld) -> None:
    """A row that could be read after all releases its trace, which still waits for its root."""
    root, child, other = trace(2, start=HOUR, seconds=60 * MINUTE)
    for one in (child, other):
        one |= {"startTime": at(HOUR + 10), "endTime": at(HOUR + 20), "updatedAt": at(HOUR + 21)}
    made = make_world([child, other], after_noon=HOUR + 120, SYNC_MAX_OPEN="3h")
    made.langfuse.script = _breaks_over(made, child)
    assert made.once(600.0)[0].traces_pending == 1
    made.langfuse.script = None
    _cycles(made, 40 * MINUTE)
    assert identities([child]) == made.arrived()
    assert made.once()[0].traces_pending == 1
    made.clock.advance(20 * MINUTE)
    made.langfuse.rows.add(root)
    _cycles(made, 30 * MINUTE)
    assert identities([root, child, other]) == made.arrived()


def test_conversion_that_failed_by_chance_passes(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that broke one version of the program stays out after an upgrade to one that can do it."""
    rows = trace(1, start=HOUR, seconds=5.0)
    made = make_world(rows, after_noon=HOUR + 120)

    def breaks(sent: Any, *rest: Any) -> Any:
        if any(row.id == rows[1]["id"] for row in sent):
            raise ValueError("odd")
        return convert(sent, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("sync_worker.spans.conversion.convert", breaks)
        assert made.once()[1] == 3
        assert set(_cycles(made, 2 * HOUR, every=600.0)) == {0}
    assert len(_letters(made)) == 1
    assert set(_cycles(made, 8 * HOUR, every=HOUR)) == {0}
    assert _letters(made) == []
    assert identities(rows) == made.arrived()
