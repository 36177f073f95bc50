"""Filters and samples: whole traces go or stay, whatever comes late, and what stays is never read again."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sync_worker.demo.serving import Request
from sync_worker.errors import ExitCode
from sync_worker.ledger import TraceNote, open_ledger
from sync_worker.runs.policy import rules_of
from sync_worker.selection import SelectionRules
from sync_worker.selection.decision import is_in_sample
from sync_worker.settings import load
from sync_worker.times import moment_ms
from tests.ledger.made import letter
from tests.support import faults
from tests.support.rows import DATA, NOON, Row, at, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities, identity

START = moment_ms(NOON)
HOUR = 3600.0
#: A filter that Langfuse can be asked for, and one that it cannot.
EXACT, GLOB = {"SYNC_EXCLUDE_ENVIRONMENTS": "staging"}, {"SYNC_EXCLUDE_ENVIRONMENTS": "sta*"}


def _late(of: Row, start: float, **changes: Any) -> Row:
    return row(trace=of["traceId"], parent=of["id"], start=start, **changes)


def _queries(made: World, since: int = 0) -> list[dict[str, list[str]]]:
    """Return the parameters of requests to Langfuse."""
    return [parse_qs(urlsplit(request.target).query) for request in made.langfuse.requests[since:]]


def _sampled(count: int, *, inside: bool, share: str = "30%") -> list[list[Row]]:
    """Return traces that a sample has, or has not."""
    rules = rules_of(load(environ={"SYNC_SAMPLE": share}, need_sources=False), ())
    found: list[list[Row]] = []
    while len(found) < count:
        one = trace(2, start=60.0 * (len(found) + 1), seconds=5.0)
        if is_in_sample(rules, one[0]["traceId"]) == inside:
            found.append(one)
    return found


def test_evaluators_of_langfuse_are_not_sent(make_world: MakeWorld) -> None:
    """Kelet looks for root causes in judges: Langfuse's evaluators trace into the project that they judge."""
    rows = [json.loads(line) for line in (DATA / "reported" / "evaluators.jsonl").read_text().splitlines()]
    start = moment_ms_of(rows[0])
    made = make_world(rows, after_noon=(start - START) / 1000 + HOUR)
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert made.arrived() == identities(one for one in rows if not one["environment"].startswith("langfuse-"))


def moment_ms_of(one: Row) -> int:
    """Return when a row starts, Unix milliseconds."""
    return moment_ms(datetime.fromisoformat(one["startTime"]))


def test_filter_is_decided_by_the_root(make_world: MakeWorld) -> None:
    """A trace is torn: its children have other fields than its root, or come later than it."""
    out, goes = trace(2, start=0.0, environment="staging"), trace(2, start=60.0)
    for one in out[1:]:
        one["environment"] = "default"
    goes[2]["environment"] = "staging"
    made = make_world([*out, *goes], **GLOB)
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert made.arrived() == identities(goes)
    assert (report.traces_filtered, report.observations_filtered) == (1, 3)
    assert dict(report.filtered) == {"SYNC_EXCLUDE_ENVIRONMENTS=sta*": 1}
    late = [_late(out[0], 3590.0), _late(goes[0], 3591.0, environment="staging")]
    made.langfuse.rows.extend(late)
    made.cycles(600)
    assert made.arrived() == identities([*goes, late[1]])


def test_mixed_trace_is_whole_where_langfuse_leaves_out_an_environment(make_world: MakeWorld) -> None:
    """Langfuse is asked for all but an environment, and a trace loses the spans that it has there."""
    mixed, out = trace(2, start=3500.0, seconds=10.0), trace(2, start=3400.0, environment="staging")
    mixed[2]["environment"] = "staging"
    made = make_world([*mixed, *out], **EXACT)
    report, _ = made.once()
    assert report.not_read == ["staging"]
    assert any("staging" in "".join(query.get("filter", ())) for query in _queries(made))
    assert made.arrived() == identities(mixed[:2])
    made.cycles(300)
    assert made.arrived() == identities(mixed)
    assert made.program_json("verify")[1]["sources"][0]["missing"] == 0


def test_nothing_filtered_is_read_again(make_world: MakeWorld) -> None:
    """Each lookback scan fetches what was filtered, as if it had come late; or the interval is never completed."""
    out = [one for number in range(4) for one in trace(2, start=2000.0 + number, tags=["probe"])]
    made = make_world([*out, *trace(1, start=2100.0)], SYNC_EXCLUDE_TAGS="pro*")
    made.once()
    before = made.langfuse_requests()
    made.clock.advance(60)
    made.cycles(HOUR)
    contents = [query for query in _queries(made, before) if "io" in "".join(query.get("fields", ()))]
    assert [query for query in contents if "filter" in query] == []
    report, _ = made.once()
    assert report.observations_filtered == 0
    assert report.complete_to_ms == made.clock.now_ms() - 30_000


@pytest.mark.parametrize("filters", [EXACT, GLOB])
def test_verify_and_explain_know_what_is_filtered(make_world: MakeWorld, filters: dict[str, str]) -> None:
    """What a rule left out is reported as lost, and nobody can say why a trace is not in Kelet."""
    out, goes = trace(1, start=0.0, environment="staging"), trace(1, start=5.0)
    made = make_world([*out, *goes], **filters)
    made.once()
    code, verified = made.program_json("verify", "--from", "2026-11-20T12:00:00Z", "--to", "2026-11-20T12:10:00Z")
    assert (code, verified["sources"][0]["missing"]) == (0, 0)
    _, reported = made.program_json("explain", out[0]["traceId"])
    (name,) = filters.values()
    assert reported["sources"][0]["filtered_by"] == f"SYNC_EXCLUDE_ENVIRONMENTS={name}"
    assert name in reported["sources"][0]["why"]
    _, status = made.program_json("status")
    filtered = {} if filters is EXACT else {f"SYNC_EXCLUDE_ENVIRONMENTS={name}": 1}
    assert status["sources"][0]["filtered"] == filtered


def test_sample_takes_whole_traces(make_world: MakeWorld) -> None:
    """A sample is drawn anew by span, or by run."""
    inside, outside = _sampled(3, inside=True), _sampled(3, inside=False)
    made = make_world([one for of in (*inside, *outside) for one in of], SYNC_SAMPLE="30%")
    made.once()
    assert made.arrived() == identities(one for of in inside for one in of)
    late = [_late(of[0], 3590.0) for of in (*inside, *outside)]
    made.langfuse.rows.extend(late)
    made.cycles(600)
    assert made.arrived() == identities([*(one for of in inside for one in of), *late[:3]])


@pytest.mark.parametrize("wished", [True, False])
def test_late_error_brings_the_whole_trace(make_world: MakeWorld, *, wished: bool) -> None:
    """An error that comes late into a trace outside of the sample arrives alone, or never."""
    (out,) = _sampled(1, inside=False)
    made = make_world(out, SYNC_SAMPLE="30%", SYNC_SAMPLE_ERRORS=str(wished).lower())
    made.once()
    assert not made.arrived()
    error = _late(out[0], 3400.0, level="ERROR")
    made.langfuse.rows.add(error)
    made.cycles(600)
    assert made.arrived() == (identities([*out, error]) if wished else identities([]))
    plain = _late(out[0], 3500.0)
    made.langfuse.rows.add(plain)
    made.cycles(1800, every=300)
    assert made.arrived() == (identities([*out, error, plain]) if wished else identities([]))


def test_update_to_an_error_brings_the_whole_trace(make_world: MakeWorld) -> None:
    """A span that fails after it was seen leaves its trace outside of the sample."""
    (out,) = _sampled(1, inside=False)
    made = make_world(out, SYNC_SAMPLE="30%", SYNC_SAMPLE_ERRORS="true")
    made.once()
    changed = out[1] | {"level": "ERROR", "updatedAt": "2026-11-20T13:00:10.000Z"}
    made.langfuse.rows.replace(changed)
    made.cycles(1800, every=300)
    assert made.arrived() == identities(out)


def test_error_from_before_the_sync_start_comes_with_its_trace(make_world: MakeWorld) -> None:
    """A trace that a backfill left out is brought by a late error, without what starts before the sync start."""
    (out,) = _sampled(1, inside=False)
    settings = {"SYNC_SAMPLE": "30%", "SYNC_SAMPLE_ERRORS": "true", "SYNC_START": "2026-11-20T12:30:00Z"}
    made = make_world(out, **settings)
    made.once()
    made.backfill(START, START + 1_800_000)
    assert not made.arrived()
    error = _late(out[0], 3400.0, level="ERROR")
    made.langfuse.rows.add(error)
    made.cycles(600)
    assert made.arrived() == identities([*out, error])


def test_backfill_under_other_rules_sends_what_the_old_ones_left_out(make_world: MakeWorld) -> None:
    """A filter that is taken away leaves its traces out for ever, or sends the others a second time."""
    out = [one for number in range(3) for one in trace(2, start=number * 60.0, environment="staging")]
    goes = [one for number in range(3) for one in trace(2, start=number * 60.0 + 5)]
    made = make_world([*out, *goes], **GLOB)
    made.once()
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    made.cycles(600)
    assert made.arrived() == identities(goes)
    made.backfill(START, START + 600_000)
    assert made.arrived() == identities([*out, *goes])
    before = made.langfuse_requests()
    made.backfill(START, START + 600_000)
    assert made.langfuse_requests() - before <= 1
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "default"
    made.backfill(START, START + 600_000)
    assert made.arrived() == identities([*out, *goes])


def test_backfill_under_other_rules_knows_what_was_forgotten(make_world: MakeWorld) -> None:
    """When the records of an old interval are gone, a backfill under other rules sends all of it again."""
    out = [one for number in range(3) for one in trace(2, start=number * 60.0, environment="staging")]
    goes = [one for number in range(3) for one in trace(2, start=number * 60.0 + 5)]
    short = {"SYNC_LATE_HORIZONS": "10m", "SYNC_MAX_OPEN": "5m", "SYNC_SETTLE": "1s"}
    made = make_world([*out, *goes], **short, **GLOB)
    made.once()
    made.cycles(2 * HOUR, every=600)
    ledger = open_ledger(made.state, made.clock)
    assert not ledger.traces(1, [one["traceId"] for one in (*out, *goes)])
    ledger.close()
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    report, _ = made.backfill(START, START + 600_000)
    assert made.arrived() == identities([*out, *goes])
    assert (report.spans_sent, report.observations_unchanged) == (len(out), len(goes))
    code, verified = made.program_json("verify", "--from", "2026-11-20T12:00:00Z", "--to", "2026-11-20T12:10:00Z")
    assert (code, verified["sources"][0]["missing"]) == (0, 0)


def test_backfill_under_other_rules_that_leave_out_the_same(make_world: MakeWorld) -> None:
    """A backfill over what was left out and forgotten ends with an unexpected error, in each rerun too."""
    out, other = trace(2, environment="staging"), trace(2, start=60.0, environment="test")
    made = make_world([*out, *other], **SHORT, SYNC_EXCLUDE_ENVIRONMENTS="staging*,test*")
    made.once()
    made.cycles(2 * HOUR, every=600)
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "staging*"
    report, code = made.backfill(START, START + 600_000)
    assert (report.error, code) == (None, 0)
    assert made.arrived() == identities(other)
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    assert made.backfill(START, START + 600_000)[1] == 0
    assert made.arrived() == identities([*out, *other])
    code, verified = made.program_json("verify", "--from", "2026-11-20T12:00:00Z", "--to", "2026-11-20T12:10:00Z")
    assert (code, verified["sources"][0]["missing"]) == (0, 0)


def test_what_is_late_of_a_trace_that_is_left_out_belongs_to_the_rules_that_leave_it_out(make_world: MakeWorld) -> None:
    """Once something of it came late under other rules, it counts as left out by these, and no backfill brings it."""
    out = trace(2, environment="staging")
    made = make_world(out, **GLOB)
    made.once()
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    late = _late(out[0], 3000.0)
    made.langfuse.rows.add(late)
    made.cycles(1200)
    assert not made.arrived()
    assert made.backfill(START, START + 3_600_000)[1] == 0
    assert made.arrived() == identities([*out, late])


#: The state file forgets a trace within half an hour.
SHORT = {"SYNC_LATE_HORIZONS": "10m", "SYNC_MAX_OPEN": "5m", "SYNC_SETTLE": "1s"}


def _forget(made: World) -> None:
    """Let all be forgotten that may be."""
    made.cycles(2 * HOUR, every=600)


def _backfill(made: World) -> None:
    """Do a backfill over all that there is."""
    report, code = made.backfill(START - 3_600_000, made.clock.now_ms())
    assert (report.error, code) == (None, 0)


@pytest.mark.parametrize(("then", "now"), [("sta*", "none"), ("none", "sta*")])
def test_a_trace_that_is_pending_while_the_rules_change(make_world: MakeWorld, then: str, now: str) -> None:
    """Its time was read under rules that would have decided otherwise: a backfill sends it twice, or never."""
    rows = trace(2, start=3595.0, seconds=3.0, environment="staging")
    ended = rows[0]["endTime"]
    rows[0]["endTime"] = None
    made = make_world(rows, **SHORT, SYNC_EXCLUDE_ENVIRONMENTS=then)
    assert made.once()[0].traces_pending == 1
    made.clock.advance(60)
    made.langfuse.rows.replace(rows[0] | {"endTime": ended})
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = now
    made.once()
    assert made.arrived() == (identities(rows) if now == "none" else {})
    _forget(made)
    for rules in ("test", "none", "test"):
        made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = rules
        _backfill(made)
        assert made.arrived() == identities(rows)


def test_a_trace_that_was_sent_by_hand_is_not_sent_again(make_world: MakeWorld) -> None:
    """It is forgotten, and a backfill under other rules takes it for left out."""
    rows = trace(2, start=3500.0, environment="staging")
    made = make_world(rows, **SHORT, **GLOB)
    made.once()
    (result,) = made.send(rows[0]["traceId"])
    assert result.sent == 3
    _forget(made)
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    _backfill(made)
    assert made.arrived() == identities(rows)


@pytest.mark.parametrize(("then", "now"), [("sta*", "none"), ("none", "sta*"), ("none", "staging")])
def test_an_interval_that_is_read_under_one_rule_and_completed_under_another(
    make_world: MakeWorld, then: str, now: str
) -> None:
    """A run that fails on the way has sent, or left out, what the rules of the next one decide otherwise."""
    rows, other = trace(2, start=10.0, environment="staging"), trace(2, start=0.0)
    made = make_world([*rows, *other], **SHORT, SYNC_EXCLUDE_ENVIRONMENTS=then, SYNC_MAX_BATCH_SPANS="3")
    failing = identity(other[0])[0]
    made.kelet.script = faults.when(lambda request: request.spans[0].trace_id == failing, faults.status(403))
    assert made.once()[1] == ExitCode.CREDENTIALS
    made.kelet.script = None
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = now
    made.once()
    _forget(made)
    for rules in ("test", "none"):
        made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = rules
        _backfill(made)
        assert made.arrived() == identities([*rows, *other])


@pytest.mark.parametrize(("then", "now"), [("none", "sta*"), ("sta*,sta?ing", "none")])
def test_a_dead_letter_follows_its_trace_that_is_forgotten(make_world: MakeWorld, then: str, now: str) -> None:
    """Retried under rules of today, it is removed and not sent, or sent though the rest of its trace is left out."""
    rows = trace(2, environment="staging")
    made = make_world(rows, **SHORT, SYNC_EXCLUDE_ENVIRONMENTS=then)
    made.kelet.script = faults.refuse_span("llm-1")
    made.once()
    _forget(made)
    made.kelet.script = None
    if then != "none":  # of what was left out, one that could not be read
        with closing(open_ledger(made.state, made.clock)) as ledger:
            start = moment_ms(datetime.fromisoformat(rows[1]["startTime"]))
            ledger.commit_result(1, [], [letter(rows[1]["traceId"], rows[1]["id"], kind="unreadable", start_ms=start)])
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = now
    code, result = made.program_json("dead-letters", "retry", "--all")
    assert (code, result["sent"]) == (0, int(then == "none"))
    assert made.arrived() == (identities(rows) if then == "none" else {})


def test_a_backfill_that_breaks_is_not_forgotten_before_it_resumes(make_world: MakeWorld) -> None:
    """What it sent of history is forgotten while the interval is open, and its rerun sends that again."""
    rows = [one for number in range(6) for one in trace(2, start=number * 60.0, environment="staging")]
    made = make_world(rows, **SHORT, **GLOB, SYNC_MAX_BATCH_SPANS="3")
    made.once()
    _forget(made)
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    last = identity(rows[0])[0]
    made.kelet.script = faults.when(lambda request: request.spans[0].trace_id == last, faults.status(403))
    whole = START - 3_600_000, made.clock.now_ms()
    assert made.backfill(*whole)[1] == ExitCode.CREDENTIALS
    assert 0 < made.arrived().total() < len(rows)
    made.kelet.script = None
    _forget(made)
    for _ in range(2):
        report, code = made.backfill(*whole)
        assert (report.error, code) == (None, 0)
        assert made.arrived() == identities(rows)
        _forget(made)
    with closing(open_ledger(made.state, made.clock)) as ledger:
        assert ledger.query("SELECT count(*) FROM traces") == [(0,)]  # nor remembered for ever


def test_what_a_backfill_brought_is_not_brought_again_after_one_under_stricter_rules(make_world: MakeWorld) -> None:
    """The stricter rules take the place of those under which it was sent, and a third one takes it for left out."""
    rows = trace(2, environment="staging")
    made = make_world(rows, **SHORT, **GLOB)
    made.once()
    _forget(made)
    for rules in ("test", "sta*,test", "none", "sta*", "test"):
        made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = rules
        _backfill(made)
        assert made.arrived() == identities(rows)


def test_backfill_sends_a_trace_whole_that_reaches_out_of_it(make_world: MakeWorld) -> None:
    """A trace across the end of a backfill is torn: what starts after it stays left out."""
    out = trace(3, start=0.0, seconds=1200.0, environment="staging")
    made = make_world(out, **GLOB)
    made.once()
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    made.backfill(START, START + 600_000)
    assert made.arrived() == identities(out)


def test_what_comes_late_of_a_trace_that_is_left_out_is_done_though_it_is_open(make_world: MakeWorld) -> None:
    """An observation that has not ended keeps a trace pending that is never sent: it is fetched again and again."""
    out = trace(2, start=0.0, environment="staging")
    made = make_world(out, **GLOB)
    made.once()
    made.langfuse.rows.add(_late(out[0], 3590.0, seconds=None))
    made.clock.advance(60)
    report, _ = made.once()
    assert (report.observations_filtered, report.traces_pending) == (1, 0)
    made.cycles(600)
    assert not made.arrived()


def test_backfill_reads_nothing_twice_to_send_what_other_rules_left_out(make_world: MakeWorld) -> None:
    """Each trace that lies in the backfill, and so is at hand, costs a look-up and is read again."""
    out = [one for number in range(3) for one in trace(2, start=number * 60.0, environment="staging")]
    made = make_world(out, **GLOB)
    made.once()
    made.environ["SYNC_EXCLUDE_ENVIRONMENTS"] = "none"
    before = made.langfuse_requests()
    report, _ = made.backfill(START, START + 600_000)
    assert (report.spans_sent, made.langfuse_requests() - before) == (9, 1)
    assert made.arrived() == identities(out)


def test_backfill_under_the_same_rules_decides_nothing_again(make_world: MakeWorld) -> None:
    """A trace that was left out is torn by what a backfill reads of it from before the sync start."""
    root, *children = trace(2, start=0.0)
    root["tags"] = ["vip"]
    for one in children:
        one["startTime"], one["endTime"] = at(1800.0), at(1801.0)
    made = make_world(children, SYNC_INCLUDE_TAGS="vip", SYNC_START="2026-11-20T12:15:00Z")
    report, _ = made.once()
    assert report.traces_filtered == 1
    made.langfuse.rows.add(root)
    report, code = made.backfill(START, START + 600_000)
    assert (report.observations_filtered, code) == (1, 0)
    made.cycles(600)
    assert not made.arrived()


def test_a_trace_that_another_run_began_to_send_hides_no_other_that_is_left_out(make_world: MakeWorld) -> None:
    """What is left out beside it is not counted, or what the other run sends counts as left out."""
    out = [trace(2, start=number * 60.0, environment="staging")[1:] for number in range(3)]  # roots are looked up
    made = make_world([row for rows in out for row in rows], **GLOB)
    made.backfill(START - 1, START)  # opens the source
    begun: list[str] = []

    def script(request: Request) -> None:
        if not begun and "isRootObservation" in request.query.get("filter", ""):
            begun.append(str(out[-1][0]["traceId"]))
            beside = open_ledger(made.state, made.clock)
            note = TraceNote(begun[0], pending=False, earliest_ms=START, newest_ms=START, project="elsewhere")
            beside.begin_sending(1, [note])
            beside.close()

    made.langfuse.script = script
    report, _ = made.once()
    assert begun
    assert (report.traces_filtered, report.observations_filtered) == (2, 4)


def test_send_overrules_filters(make_world: MakeWorld) -> None:
    """A support case is filtered away; or what comes late of it is."""
    out = trace(2, start=0.0, environment="staging")
    made = make_world(out, **GLOB)
    made.once()
    (result,) = made.send(out[0]["traceId"])
    assert (result.sent, result.filter_overruled) == (3, "SYNC_EXCLUDE_ENVIRONMENTS=sta*")
    late = _late(out[0], 3500.0)
    made.langfuse.rows.add(late)
    made.cycles(600)
    assert made.arrived() == identities([*out, late])


def test_rules_of_a_source(tmp_path: Path) -> None:
    """One source's filters hold for all, or its list replaces nothing."""
    (tmp_path / "sync.toml").write_text(
        'sync_exclude_users = ["robot-*"]\n'
        + "".join(
            f'[[sources]]\nname = "{name}"\nlangfuse_public_key = "pk-lf-{name}"\nlangfuse_secret_key = "sk-lf-x"\n'
            f'kelet_project = "p"\n{more}'
            for name, more in (("a", 'sync_exclude_environments = ["x", "y*"]\nsync_sample = "10%"\n'), ("b", ""))
        )
    )
    settings = load(environ={"KELET_API_KEY": "k"}, directory=tmp_path)
    first, second = (rules_of(settings.of(source), source.routes) for source in settings.sources)
    assert first != second
    assert settings.of(settings.sources[0]).exclude_environments == ("x", "y*")
    assert settings.of(settings.sources[1]).exclude_environments == ("langfuse-*",)
    for rules in (first, second):
        assert SelectionRules.from_text(rules.as_text()) == rules
