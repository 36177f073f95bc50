"""`pause` and `resume`, from outside of the process: what is held back, for how long, and that nothing is lost."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from sync_worker.errors import ExitCode, StateError
from sync_worker.ledger import open_ledger
from sync_worker.ledger.pauses import Pause, delete_pauses, store_pauses
from sync_worker.pipeline.report import SourceReport
from sync_worker.settings import Source
from sync_worker.sync.engine import Engine
from tests.support import faults
from tests.support.rows import Row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}


def _rows(traces: int = 30, **changes: str) -> list[Row]:
    return [row for number in range(traces) for row in trace(3, start=float(number), seconds=5.0, **changes)]


def test_a_paused_source_asks_and_sends_nothing(make_world: MakeWorld) -> None:
    """A paused source is read or sent by a command, counts as synced, or misses something after `resume`."""
    rows = _rows()
    made = make_world(rows, **LONG_AGO)
    code, out, err = made.program("pause", "default", "--for", "2h", "--reason", "the bill of November")
    assert (code, out) == (0, ""), err
    assert "default is paused until 20" in err
    assert "sync-worker resume default" in err
    trace_id = rows[0]["traceId"]
    code, _, err = made.program("once")
    assert code == ExitCode.PAUSED
    assert "default is paused since " in err
    assert "(the bill of November). Nothing is lost. Try: `sync-worker resume default`" in err
    code, _, err = made.program("backfill", "--from", "2026-11-20T00:00:00Z", "--to", "2026-11-21T00:00:00Z")
    assert (code, len(err.splitlines())) == (ExitCode.PAUSED, 1)
    assert err.startswith("sync-worker: default is paused since ")
    assert made.langfuse.requests == []
    assert made.program("send", trace_id)[0] == ExitCode.PAUSED
    assert made.kelet.requests == []

    code, status = made.program_json("status")
    (pause,) = status["pauses"]
    assert (pause["source"], pause["project"], pause["reason"]) == ("default", None, "the bill of November")
    assert pause["until"] > pause["since"]
    assert "paused      default since " in made.program("status")[1]
    code, result = made.program_json("resume", "default")
    assert (code, len(result["resumed"]), result["pauses"]) == (0, 1, [])
    assert made.program("once")[0] == 0
    assert made.arrived() == identities(rows)
    assert "was not paused" in made.program("resume", "default")[2]


def test_a_running_worker_obeys_between_two_requests(make_world: MakeWorld) -> None:
    """A worker in a long cycle sends on after `pause`, floods its log while paused, or does not come back."""
    rows = _rows(60)
    made = make_world(rows, **LONG_AGO, SYNC_MAX_BATCH_SPANS="8", SYNC_INTERVAL="100ms")
    made.kelet.script = faults.always(faults.slow(0.05))
    with made.start("run") as worker:
        made.await_spans(8)
        assert made.program("pause", "default")[0] == 0
        requests = len(made.kelet.requests)
        time.sleep(1.0)  # ten cycles
        arrived = len(made.kelet.spans)
        assert arrived < len(rows)
        assert len(made.kelet.requests) <= requests + 4
        made.kelet.script = None
        assert made.program("resume", "default")[0] == 0
        made.await_spans(len(rows))
        while made.program_json("status")[1]["last_run"]["exit_code"] == ExitCode.PAUSED:
            assert worker.poll() is None
        worker.terminate()
        _, err = worker.communicate(timeout=60)
    assert worker.returncode == 0, err
    assert made.arrived() == identities(rows)
    assert err.count("is paused since") <= 2
    assert err.count("default: resumed") == 1


def test_a_pause_ends_with_its_time(make_world: MakeWorld) -> None:
    """A pause with `--for` holds on after its time, or its time cannot be read."""
    made = make_world(_rows(2), **LONG_AGO)
    assert made.program("pause", "default", "--for", "1s")[0] == 0
    assert made.program("once")[0] == ExitCode.PAUSED
    time.sleep(1.0)
    assert made.program("once")[0] == 0
    assert made.program_json("status")[1]["pauses"] == []
    for length in ("soon", "0s"):
        code, _, err = made.program("pause", "default", "--for", length)
        assert (code, "Try: --for 2h" in err) == (ExitCode.USAGE, True)


@pytest.mark.parametrize("days", [0.5, 3])
def test_a_pause_of_days_ends_though_nothing_was_asked_since(make_world: MakeWorld, days: float) -> None:
    """The last time that is certain is that of its beginning, so that runs of a scheduler stay paused for ever."""
    first, later = _rows(1), trace(2, start=3590.0)
    made = make_world(first, **LONG_AGO)
    assert made.once()[1] == 0
    made.langfuse.rows.add(*later)
    now, asked = made.clock.now_ms(), made.langfuse_requests()
    with closing(open_ledger(made.state, made.clock)) as ledger:
        store_pauses(ledger, [Pause("default", None, now, now + round(days * 86_400_000))])
    for _ in range(round(days * 2)):
        assert (made.once()[1], made.langfuse_requests()) == (ExitCode.PAUSED, asked)
        made.clock.advance(43_200)
    made.clock.advance(1)
    assert made.once()[1] == 0
    assert made.arrived() == identities([*first, *later])


def test_a_paused_project_waits_and_others_go_on(make_world: MakeWorld) -> None:
    """Another project is held back too, the traces of the paused one are lost, read in every cycle, or go elsewhere."""
    shop, main = _rows(5, environment="shop"), _rows(5)
    made = make_world([*shop, *main], **LONG_AGO)
    made.configure_route()
    assert made.program("pause", "--project", "shop", "--reason", "it is being moved")[0] == 0
    code, result = made.program_json("once")
    assert (code, result["sources"][0]["traces_pending"]) == (ExitCode.PAUSED, 5)
    assert "'shop' is paused since" in result["sources"][0]["error"]
    assert made.arrived() == identities(main)
    made.langfuse.requests.clear()
    code, result = made.program_json("once")
    assert (code, result["sources"][0]["observations_read"]) == (ExitCode.PAUSED, 0)
    assert made.arrived() == identities(main)

    assert made.program("pause", "one", "--project", "main")[0] == 0
    made.langfuse.requests.clear()
    assert made.program("once")[0] == ExitCode.PAUSED
    assert made.langfuse.requests == []  # nothing of it could be sent, so nothing is read
    assert made.program("resume", "one", "--project", "main")[0] == 0
    assert made.program("resume", "--project", "shop")[0] == 0
    assert made.program("once")[0] == 0
    assert made.arrived() == identities([*shop, *main])
    assert {span.project for span in made.kelet.spans} == {"main", "shop"}


def test_a_pause_does_not_hide_that_the_state_file_is_gone(make_world: MakeWorld) -> None:
    """The pause stands in a file that nobody can find any more: `resume` says that it ended, and nothing is synced."""
    made = make_world(_rows(1), **LONG_AGO)
    path = made.settings().state_path

    async def work(engine: Engine, source: Source) -> tuple[SourceReport, int]:
        store_pauses(engine.ledger, [Pause("default", None, made.clock.now_ms(), None)])
        assert (await engine.live(source))[1] == ExitCode.PAUSED
        path.rename(path.with_name("moved"))
        return await engine.live(source)

    with pytest.raises(StateError, match="gone"):
        made.live(work)


def test_what_was_paused_goes_with_the_next_cycle(make_world: MakeWorld) -> None:
    """After `resume` a project is treated as one that Kelet does not know, and its traces wait once more."""
    shop = [trace(3, start=float(number), seconds=5.0, environment="shop") for number in range(5)]
    made = make_world([row for rows in shop for row in rows], **LONG_AGO)
    made.configure_route()
    pause = Pause(None, "shop", made.clock.now_ms())
    with closing(open_ledger(made.state, made.clock)) as ledger:
        store_pauses(ledger, [pause])
        assert made.once()[1] == made.once()[1] == ExitCode.PAUSED
        delete_pauses(ledger, [pause])
    made.clock.advance(60)
    assert made.once()[1] == 0
    assert made.arrived() == identities(row for rows in shop for row in rows)
    assert len(made.kelet.trace_requests) == 1  # none to find out whether the project is there


def test_a_pause_hides_nothing_else(make_world: MakeWorld) -> None:
    """Metrics of a source look the same whether a pause holds a project of it or something else stops another one."""
    made = make_world([*_rows(2, environment="shop"), *_rows(2)], **LONG_AGO)
    made.configure_route()

    def metrics() -> str:
        assert made.program("once", "--metrics-file", "m.prom")[0] == ExitCode.PAUSED
        return (made.folder / "m.prom").read_text()

    assert made.program("pause", "--project", "shop")[0] == 0
    made.kelet.script = faults.when(faults.has_span(lambda span: span.project == "main"), faults.no_such_project())
    found = metrics()
    assert 'sync_worker_last_cycle_outcome{outcome="paused",source="one"} 1.0' in found
    assert 'sync_worker_paused{kelet_project="",' not in found
    made.kelet.script = None
    found = metrics()
    assert 'sync_worker_last_cycle_outcome{outcome="paused",source="one"} 0.0' in found
    assert 'sync_worker_last_cycle_outcome{outcome="paused_on_purpose",source="one"} 1.0' in found
    assert made.program("pause", "one", "--project", "main")[0] == 0
    assert 'sync_worker_paused{kelet_project="",outcome="operator",source="one"} 1.0' in metrics()


def test_names_that_are_wrong(make_world: MakeWorld) -> None:
    """A mistyped source or project is paused, and nothing is held back."""
    made = make_world([])
    for arguments, hint in (
        (("pause",), "Try: `sync-worker pause default`"),
        (("pause", "defualt"), "Try: one of default"),
        (("pause", "--project", "suport_test"), "Try: support_test"),
        (("pause", "default", "--reason", "x" * 501), "at most 500"),
    ):
        code, _, err = made.program(*arguments)
        assert (code, hint in err) == (ExitCode.USAGE, True), err


def test_a_backfill_obeys_too(make_world: MakeWorld) -> None:
    """A backfill that is under way sends on, or loses what it had not sent yet."""
    rows = _rows(60)
    made = make_world(rows, SYNC_MAX_BATCH_SPANS="8")
    gate = threading.Event()
    made.kelet.script = faults.held(gate, after=lambda: len(made.kelet.spans) >= 16)
    command = ("backfill", "--from", "2026-11-20T00:00:00Z", "--to", "2026-11-21T00:00:00Z")
    with made.start(*command) as backfill:
        made.await_spans(16)
        assert made.program("pause", "default")[0] == 0
        gate.set()
        assert backfill.wait(timeout=60) == ExitCode.PAUSED
    assert len(made.kelet.spans) < len(rows)
    assert made.program("resume", "default")[0] == 0
    assert made.program(*command)[0] == 0
    assert made.arrived() == identities(rows)


def test_dead_letters_that_are_paused_could_have_been_read(make_world: MakeWorld) -> None:
    """The result says that Langfuse had nothing of them, and somebody drops them."""
    rows = _rows(1)
    made = make_world(rows, **LONG_AGO)
    made.kelet.script = faults.refuse_span("agent")
    assert made.program("once")[0] == ExitCode.DEAD_LETTERS
    made.kelet.script = None
    assert made.program("pause", "--project", "support_test")[0] == 0
    code, _, err = made.program("dead-letters", "retry", "--all")
    assert (code, err.splitlines()[-1]) == (ExitCode.PAUSED, "0 sent, 0 rejected again, 1 left as they were")
    assert made.program("resume", "--project", "support_test")[0] == 0
    assert made.program("dead-letters", "retry", "--all")[0] == 0
    assert made.arrived() == identities(rows)
