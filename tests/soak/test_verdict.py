"""The soak's verdict finds what it is there for; the soak itself is run by `scripts/soak`, and never by the tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.spans.ids import otlp_trace_id
from tests.soak.plan import KINDS, LANGFUSE, Weather
from tests.soak.processes import Life
from tests.soak.project import Project
from tests.soak.scores import Scores
from tests.soak.servers import Arrival, Batch, Book, SignalArrival
from tests.soak.verdict import Letters, Verdict, _ids, compare, compare_scores, explain_doubles

BEGIN = 1_795_348_800.0


@pytest.fixture
def project() -> Iterator[Project]:
    server = RecordedLangfuse()
    made = Project("a", server, seed=1, rate=0.5, deepest=480.0)
    for second in range(0, 600, 5):
        made.advance(BEGIN + second)
    made.calm()
    yield made
    server.stop()


def _book(project: Project, batch: Batch) -> Book:
    """Return what a Kelet holds to which every state was sent in turn."""
    book = Book(batches=[batch])
    for story in project.known:
        trace_id, span_id = _ids(project, story)
        for state in story.states:
            name, is_open = str(state["name"]), state["endTime"] is None
            start_ms = int(story.start * 1000)
            book.arrivals.append(Arrival(name, f"of {name}", is_open, trace_id, span_id, start_ms, batch))
    return book


def _life(**changes: float) -> Life:
    process = mock.create_autospec(subprocess.Popen, instance=True)
    life = Life("run", ("run",), process, BEGIN, Path("out"), Path("err"))
    for name, value in changes.items():
        setattr(life, name, value)
    return life


def _compared(project: Project, book: Book, letters: Letters | None = None) -> Verdict:
    verdict = Verdict()
    compare(project, book, letters or Letters(), verdict, is_old=False)
    return verdict


def test_all_is_well(project: Project) -> None:
    """The comparison finds fault with a project of which everything arrived, so no finding says anything."""
    verdict = _compared(project, _book(project, Batch("run", BEGIN, "")))
    assert verdict.rows == verdict.arrived > 500
    assert verdict.findings == []


def test_lost_stale_and_mixed_rows_are_found(project: Project) -> None:
    """A row that never came, came only in an older state, or with another state's content, goes unnoticed."""
    changed = next(story for story in project.known if len({state["name"] for state in story.states}) > 1)
    lost = next(story for story in project.known if len(story.states) == 1 and not story.trace.deleted)
    book = _book(project, Batch("run", BEGIN, ""))
    newest, older = changed.states[-1]["name"], changed.states[0]["name"]
    kept = [arrival for arrival in book.arrivals if arrival.name not in (newest, lost.states[0]["name"])]
    (stale,) = _compared(project, Book(kept)).stale
    assert stale.startswith(f"STALE {newest} ")
    (gone,) = _compared(project, Book(kept)).lost
    assert gone.startswith(f"LOST {lost.states[0]['name']} ")
    assert _compared(project, Book(kept), Letters(frozenset({lost.id}))).lost == []
    last = next(arrival for arrival in book.arrivals if arrival.name == newest)
    mixed = Arrival(*(newest, f"of {older}", last.incomplete, last.trace_id, last.span_id, last.start_ms, last.batch))
    (found,) = _compared(project, Book([*book.arrivals, mixed])).stale
    assert found.startswith(f"MIXED {newest} ")


def test_lost_and_misplaced_signals_are_found(project: Project) -> None:
    """A signal that never came, or came to another session than the spans of its trace, goes unnoticed."""
    scores = Scores(project, seed=1)
    for second in range(0, 900, 5):
        scores.advance(BEGIN + second)
    batch = Batch("run", BEGIN, "")
    book = _book(project, batch)
    book.arrivals = [replace(one, session="its session") for one in book.arrivals]
    reported = [
        story
        for story in scores.stories
        if story.subject["kind"] in {"trace", "observation"}
        and story.words
        and any(row.states for row in story.trace.rows)
        if not (story.deleted or story.trace.deleted or any(row.odd for row in story.trace.rows))
    ]
    project_id = project.server.project_id
    book.signals = [
        SignalArrival(story.id, word, word, "its session", otlp_trace_id(project_id, str(story.trace.id)), batch)
        for story in reported
        for word in story.words
    ]

    def found(signals: list[SignalArrival], letters: Letters | None = None) -> Verdict:
        verdict = Verdict()
        compare_scores(scores, replace(book, signals=signals), letters or Letters(), verdict)
        return verdict

    assert (found(book.signals).findings, len(book.signals) > 50) == ([], True)
    last = next(one for one in book.signals if one.words == reported[0].words[-1])
    rest = [one for one in book.signals if one is not last]
    assert [word.split()[1] for word in found(rest).lost] == [last.words]
    assert found(rest, Letters(scores=frozenset({last.score_id}))).lost == []
    assert len(found([*rest, replace(last, session="another")]).wrong) == 1
    verdict = Verdict()
    explain_doubles(Book([], [batch], signals=[last, last]), [_life()], verdict)
    assert len(verdict.unexplained) == 1


@pytest.mark.parametrize(
    ("life", "fault", "explained"),
    [
        ({}, "", False),
        ({}, "dropped after", True),
        ({"killed": BEGIN + 11}, "", True),
        ({"killed": BEGIN + 60}, "", False),
        ({"termed": BEGIN + 10}, "", False),
        ({"termed": BEGIN}, "", True),
    ],
)
def test_what_came_twice_needs_a_reason(life: dict[str, float], fault: str, explained: bool) -> None:
    """A span that was sent again after its answer came counts as bad luck, or bad luck as a fault of the worker."""
    lost = Batch("run", BEGIN + 10, fault, answered=BEGIN + 10.1)
    again = Batch("run", BEGIN + 70, "", answered=BEGIN + 70.1)
    arrivals = [Arrival("a1.1", "of a1.1", False, "1", "2", 0, batch) for batch in (lost, again)]
    verdict = Verdict()
    explain_doubles(Book(arrivals, [lost, again]), [_life(**life)], verdict)
    assert (sum(verdict.doubles.values()), len(verdict.unexplained)) == ((1, 0) if explained else (0, 1))


def test_a_seed_draws_the_same_again() -> None:
    """A seed that found something cannot be run again: its faults are others each time, or hardly any."""
    spells = [Weather(7, 1500).spells for _ in range(2)]
    assert spells[0] == spells[1]
    kinds = {spell.kind for spell in spells[0] if spell.side == LANGFUSE}
    assert len(kinds) > len(KINDS[LANGFUSE]) / 2
    weather = Weather(7, 1500)
    assert any(weather.fault(LANGFUSE, second) for second in range(1500))
