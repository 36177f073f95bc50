"""One Kelet project that is not there, or one span that Kelet cannot bear, and all else that goes on beside it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sync_worker.demo.receiver import TraceRequest
from sync_worker.demo.serving import Reply
from sync_worker.errors import ExitCode
from sync_worker.ledger import open_ledger
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, Row, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

STAGING: dict[str, Any] = {"environment": "staging"}


def _configure(made: World, *routes: tuple[str, str], default: str = "main") -> None:
    """Write settings with routes, each a project and the environment that goes there."""
    for name in ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        made.environ.pop(name, None)
    server = made.langfuse
    tables = "".join(f'[[sources.routes]]\nproject = "{to}"\nenvironment = "{where}"\n' for to, where in routes)
    (made.folder / "sync.toml").write_text(
        f"""
[[sources]]
name = "one"
langfuse_base_url = "{server.url}"
langfuse_public_key = "{server.public_key}"
langfuse_secret_key = "{server.secret_key}"
kelet_project = "{default}"
{tables}"""
    )


def _knows(*projects: str) -> Any:
    """Return a script of a Kelet that knows these projects alone."""

    def script(request: TraceRequest) -> Reply | None:
        return None if request.project in projects else faults.no_such_project(request.project)

    return script


def _traces(count: int, start: float = 0.0, **values: Any) -> list[Row]:
    return [one for number in range(count) for one in trace(2, start=start + number, seconds=5.0, **values)]


def _projects(made: World) -> dict[str, set[str]]:
    """Return, by project, the traces that arrived there."""
    found: dict[str, set[str]] = {}
    for span in made.kelet.spans:
        found.setdefault(span.project, set()).add(span.trace_id)
    return found


def _ids(rows: list[Row]) -> set[str]:
    return {one["traceId"] for one in rows}


def _pending(made: World) -> int:
    ledger = open_ledger(made.state, made.clock)
    try:
        return ledger.pending(1).count
    finally:
        ledger.close()


def test_unknown_project_pauses_its_lane_alone(make_world: MakeWorld) -> None:
    """A mistyped project in one route stops the source, loses its traces, or doubles those of others."""
    staging, plain = _traces(10, **STAGING), _traces(10, start=60.0)
    made = make_world([*staging, *plain])
    _configure(made, ("stagign", "staging"))
    made.kelet.script = _knows("main", "staging")
    report, code = made.once()
    assert code == ExitCode.PAUSED
    assert "'stagign'" in (report.error or "")
    assert _projects(made) == {"main": _ids(plain)}
    for cycle in range(8):
        made.langfuse.rows.extend(
            later := [*_traces(2, 3580.0 + 60 * cycle), *_traces(1, 3585.0 + 60 * cycle, **STAGING)]
        )
        plain += [one for one in later if one["environment"] != "staging"]
        staging += [one for one in later if one["environment"] == "staging"]
        made.clock.advance(60)
        before = made.langfuse_requests()
        report, code = made.once()
        assert (code, report.spans_sent) == (ExitCode.PAUSED, 6)
        assert made.langfuse_requests() - before <= 5  # what waits is not fetched again in each cycle
    assert _projects(made) == {"main": _ids(plain)}
    _configure(made, ("staging", "staging"))
    made.clock.advance(60)
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert _projects(made) == {"main": _ids(plain), "staging": _ids(staging)}
    assert made.arrived() == identities([*plain, *staging])
    assert _pending(made) == 0


def test_lane_opens_without_new_traffic(make_world: MakeWorld) -> None:
    """Traces that wait for a project wait on after it was made, until somebody sends something new to it."""
    staging, plain = _traces(400, **STAGING), _traces(1)
    made = make_world([*staging, *plain])
    _configure(made, ("staging", "staging"))
    made.kelet.script = _knows("main")
    made.once()
    reads = []
    for _ in range(12):
        made.clock.advance(60)
        before = made.langfuse_requests()
        report, code = made.once()
        assert (code, "'staging'" in (report.error or "")) == (ExitCode.PAUSED, True)
        reads.append(made.langfuse_requests() - before)
    assert sum(reads) <= 12 * 4
    made.kelet.script = None
    made.clock.advance(360)
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert made.arrived() == identities([*staging, *plain])


def test_traces_older_than_anything_wait_for_their_lane(make_world: MakeWorld) -> None:
    """A lane that is closed for days loses its traces when their time is forgotten."""
    staging = _traces(3, **STAGING)
    made = make_world([*staging, *_traces(1)], SYNC_MAX_OPEN="10m", SYNC_LATE_HORIZONS="10m,1h")
    _configure(made, ("staging", "staging"))
    made.kelet.script = _knows("main")
    for hour in range(8):
        made.clock.advance(3600)
        made.langfuse.rows.extend(_traces(1, 3600.0 * (hour + 1) + 3500))
        made.once()
    made.kelet.script = None
    made.clock.advance(600)
    _, code = made.once()
    assert code == 0
    assert _projects(made)["staging"] == _ids(staging)
    assert set(made.arrived().values()) == {1}


def test_pending_traces_do_not_starve(make_world: MakeWorld) -> None:
    """Traces that end while another lane is closed are not looked at."""
    root, *children = trace(3, start=0.0, seconds=6.0)
    made = make_world([*children, *_traces(2, **STAGING)], after_noon=120)
    _configure(made, ("staging", "staging"))
    made.kelet.script = _knows("main")
    assert made.once()[1] == ExitCode.PAUSED
    made.langfuse.rows.add(root)
    made.langfuse.rows.extend(_traces(1, start=110.0, **STAGING))
    made.clock.advance(60)
    assert made.once()[1] == ExitCode.PAUSED
    assert made.arrived() == identities([root, *children])


def test_backfill_goes_on_beside_a_closed_lane(make_world: MakeWorld) -> None:
    """A backfill stops at a project that is not there, counts its time as done, or sends others' rows again."""
    staging, plain = _traces(5, -7000.0, **STAGING), _traces(5, -6990.0)
    made = make_world([*staging, *plain, *_traces(2, -100_000.0)], SYNC_START="10m")
    _configure(made, ("staging", "staging"))
    made.kelet.script = _knows("main")
    now = made.clock.now_ms()
    report, code = made.backfill(now - 150_000_000, now)
    assert (code, report.spans_sent) == (ExitCode.PAUSED, 21)
    assert "'staging'" in (report.error or "")
    report, code = made.backfill(now - 150_000_000, now)
    assert (code, report.spans_sent) == (ExitCode.PAUSED, 0)
    made.kelet.script = None
    report, code = made.backfill(now - 150_000_000, now)
    assert (code, report.spans_sent) == (0, 15)
    assert made.arrived() == identities(made.langfuse.rows)


def test_row_without_a_trace_waits_too(make_world: MakeWorld) -> None:
    """A row that belongs to no trace is forgotten when its project is not there."""
    alone = row(trace=None, start=3.0, seconds=1.0, name="alone", type="SPAN", parent="0123456789abcdef", **STAGING)
    made = make_world([alone, *_traces(3)])
    _configure(made, ("staging", "staging"))
    made.kelet.script = _knows("main")
    for _ in range(3):
        assert made.once()[1] == ExitCode.PAUSED
        made.clock.advance(3600)
    made.kelet.script = None
    assert made.once()[1] == 0
    assert set(made.arrived().values()) == {1}
    assert "alone" in {span.name for span in made.kelet.spans}


def _late(first: Row, start: float, **values: Any) -> Row:
    return row(trace=first["traceId"], parent=first["id"], start=start, seconds=1.0, **values)


def test_trace_follows_the_setting_that_decided_it(make_world: MakeWorld) -> None:
    """A project that is renamed in the settings goes on getting later rows of its traces under the old name."""
    staging, plain = trace(1, start=0.0, **STAGING), trace(1, start=1.0)
    made = make_world([*staging, *plain])
    _configure(made, ("staging", "staging"))
    made.once()
    _configure(made, ("staging-2", "staging"), default="main-2")
    made.kelet.script = _knows("main-2", "staging-2")
    made.langfuse.rows.extend([_late(staging[0], 3580.0, **STAGING), _late(plain[0], 3581.0)])
    made.clock.advance(120)
    report, code = made.once()
    assert (report.spans_sent, code) == (2, 0)
    assert {span.project for span in made.kelet.spans[-2:]} == {"main-2", "staging-2"}


def test_route_that_was_removed(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    """Traces of a route that is gone are torn from their project, or wait for ever when that is gone too."""
    staging, plain = trace(1, start=0.0, **STAGING), trace(1, start=1.0)
    made = make_world([*staging, *plain])
    _configure(made, ("staging", "staging"))
    made.once()
    _configure(made)
    made.langfuse.rows.add(_late(staging[0], 3580.0, **STAGING))
    made.clock.advance(120)
    assert made.once()[1] == 0
    assert made.kelet.spans[-1].project == "staging"
    made.kelet.script = _knows("main")
    made.langfuse.rows.extend([_late(staging[0], 3700.0, **STAGING), _late(plain[0], 3701.0)])
    made.clock.advance(120)
    with caplog.at_level(logging.WARNING):
        report, code = made.once()
    assert (report.error, code, report.spans_sent) == (None, 0, 2)
    assert {span.project for span in made.kelet.spans[-2:]} == {"main"}
    (printed,) = [record.getMessage() for record in caplog.records if "no route names" in record.getMessage()]
    assert "'staging'" in printed
    assert "'main'" in printed
    made.langfuse.rows.add(_late(staging[0], 3820.0, **STAGING))
    made.clock.advance(120)
    before = len(made.kelet.requests)
    assert made.once()[1] == 0
    assert len(made.kelet.requests) - before == 1
    assert set(made.arrived().values()) == {1}


def test_what_a_project_took_before_it_was_gone_goes_to_no_other(make_world: MakeWorld) -> None:
    """A trace half of which a project took is sent whole to the source's own once that is gone, or half is lost."""
    root, *children = trace(3, start=0.0, seconds=5.0, **STAGING)
    made = make_world([root, *children], SYNC_MAX_BATCH_SPANS="2")
    _configure(made, ("staging", "staging"))
    made.kelet.script = _knows("main")
    start = moment_ms(NOON)
    assert made.backfill(start, start + 600_000)[1] == ExitCode.PAUSED
    _configure(made)
    taken = faults.in_turn(None, *[faults.no_such_project("staging")] * 10)
    made.kelet.script = lambda request: taken(request) if request.project == "staging" else None
    report, code = made.backfill(start, start + 600_000)
    assert (report.error, code) == (None, 0)
    assert {span.project for span in made.kelet.spans} == {"staging", "main"}
    assert made.arrived() == identities([root, *children])


def test_a_rejected_span_after_which_none_is_accepted_is_kept(make_world: MakeWorld) -> None:
    """Its interval is completed, and the span is neither sent nor a dead letter."""
    made = make_world(trace(0))
    made.kelet.script = faults.always(faults.status(422))
    report, code = made.once()
    assert (report.spans_sent, report.dead_letters, code) == (0, 1, ExitCode.DEAD_LETTERS)


def test_what_was_accepted_counts_though_no_dead_letter_has_room(make_world: MakeWorld) -> None:
    """The report says that less was sent than was, and is not sent again."""
    root, *children = trace(3, start=0.0, seconds=9.0)
    children[0]["name"] = children[1]["name"] = "poison"  # between two that are accepted
    made = make_world([root, *children], SYNC_MAX_DEAD_LETTERS="1")
    made.kelet.script = faults.when(faults.has_span("poison"), faults.status(400))
    report, code = made.once()
    assert code == ExitCode.PAUSED
    assert "dead-letters drop" in (report.error or "")
    assert report.spans_sent == len(made.kelet.spans) == 2


def test_state_of_an_older_version_names_no_setting(make_world: MakeWorld) -> None:
    """Traces of a state file that does not tell where their project came from stop their source at a 404."""
    first = trace(1, start=0.0)
    made = make_world(first)
    _configure(made, default="old")
    made.once()
    ledger = open_ledger(made.state, made.clock)
    with ledger.transaction():
        ledger.connection.execute("UPDATE traces SET origin = NULL")
    ledger.close()
    _configure(made, default="new")
    made.kelet.script = _knows("new")
    made.langfuse.rows.add(_late(first[0], 3580.0))
    made.clock.advance(120)
    report, code = made.once()
    assert (report.error, code, report.spans_sent) == (None, 0, 1)


def test_span_that_always_fails_blocks_nothing(make_world: MakeWorld) -> None:
    """One span at which Kelet answers 500 for ever stops its source, or is given up without proof."""
    rows = _traces(20)
    rows[30]["name"] = "poison"
    made = make_world(rows)
    made.kelet.script = faults.when(faults.has_span("poison"), faults.status(500))
    letters, sent = 0, []
    for cycle in range(4):
        report, code = made.once()
        letters += report.dead_letters
        sent.append(report.spans_sent)
        if cycle < 3:
            made.langfuse.rows.extend(_traces(1, 3580.0 + cycle * 300))
        made.clock.advance(300)
    assert sent == [59, 3, 3, 3]
    assert letters == 1
    assert code in {0, ExitCode.DEAD_LETTERS}
    assert made.arrived() == identities(one for one in made.langfuse.rows if one["name"] != "poison")


def test_lone_span_that_fails_does_not_stop_the_worker(make_world: MakeWorld) -> None:
    """While a span that fails is all there is to send, the cycle never ends, and what comes later is not read."""
    poison = trace(0, start=0.0)
    poison[0]["name"] = "poison"
    made = make_world(poison)
    made.kelet.script = faults.when(faults.has_span("poison"), faults.status(500))
    report, code = made.once(patience=1e9)
    assert code == ExitCode.TRANSIENT
    assert "1 span" in (report.error or "")
    made.langfuse.rows.extend(_traces(2, 3550.0))
    made.clock.advance(120)
    report, _ = made.once(patience=1e9)
    assert report.spans_sent == 6


def test_undelivered_trace_is_not_tried_in_each_cycle(make_world: MakeWorld) -> None:
    """Where traces may be open for less than an hour, its next try is taken for one that a wrong clock has set."""
    poison = trace(0, start=0.0)
    poison[0]["name"] = "poison"
    made = make_world(poison, SYNC_MAX_OPEN="10m")
    made.kelet.script = faults.when(faults.has_span("poison"), faults.status(500))
    tries = []
    for _ in range(5):
        before = len(made.kelet.requests)
        made.once()
        tries.append(len(made.kelet.requests) - before)
        made.clock.advance(300)
    assert tries == [2, 0, 0, 2, 0]  # twice in a cycle, then after a quarter of its age


def test_page_in_place_of_an_answer(make_world: MakeWorld) -> None:
    """A login page in front of Kelet counts as if it had taken the spans."""
    rows = _traces(3)
    made = make_world(rows)
    page = Reply(200, {"Content-Type": "text/html; charset=utf-8"}, b"<!DOCTYPE html><title>Sign in</title>")
    made.kelet.script = faults.always(page)
    report, code = made.once()
    assert (code, report.spans_sent, report.complete_to_ms is not None) == (ExitCode.PAUSED, 0, True)
    assert "KELET_API_URL" in (report.error or "")
    made.kelet.script = None
    assert made.once()[1] == 0
    assert made.arrived() == identities(rows)


def test_size_found_goes_on_in_the_next_run(make_world: MakeWorld) -> None:
    """`once` from cron behind a gateway with a limit begins its search anew each time, and sends nothing for ever."""
    rows = _traces(100)
    made = make_world(rows)
    made.kelet.script = faults.when(lambda request: len(request.body) > 2_000, faults.status(504))
    codes = []
    for _ in range(12):
        _, code = made.once(patience=30.0)
        codes.append(code)
        made.clock.advance(300)
        if code == 0:
            break
    assert codes[-1] == 0
    assert ExitCode.TRANSIENT in codes
    assert made.arrived() == identities(rows)
