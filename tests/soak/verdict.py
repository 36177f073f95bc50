"""What arrived, against what was there; and each span that came twice, against what can have made it so."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sync_worker.spans.ids import otlp_span_id, otlp_trace_id, source_trace_id
from tests.soak.processes import Life
from tests.soak.project import Project, Story
from tests.soak.scores import Scores
from tests.soak.servers import Arrival, Batch, Book, SignalArrival

_IN_FLIGHT = 4  # requests of a process that may be on their way when it dies
_COMMIT = 10.0  # seconds that a process on a busy machine may take from an answer to its note of it
_GRACE = 9.0  # seconds that a request has left after SIGTERM, less what it takes to be stopped
_READ = 60.0  # seconds after which no answer is waited for


@dataclass(slots=True)
class Verdict:
    """What a comparison came to."""

    rows: int = 0
    arrived: int = 0
    set_aside: int = 0
    signals: int = 0
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    doubles: Counter[str] = field(default_factory=Counter)  # by what explains them
    unexplained: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        """All that must not be."""
        return [*self.lost, *self.stale, *self.wrong, *self.unexplained]


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters of a state file."""

    rows: frozenset[str] = frozenset()
    scores: frozenset[str] = frozenset()
    nameless: int = 0  # unreadable, without an id
    partial: int = 0


def letters_of(state: Path) -> Letters:
    """Read the dead letters of a state file."""
    with closing(sqlite3.connect(f"{state.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
        found = list(connection.execute("SELECT observation_id, score_id, kind FROM dead_letters"))
    return Letters(
        frozenset(observation_id for observation_id, _, _ in found if observation_id),
        frozenset(score_id for _, score_id, _ in found if score_id),
        sum(1 for observation_id, _, kind in found if not observation_id and kind == "unreadable"),
        sum(1 for _, _, kind in found if kind == "partial"),
    )


def compare(project: Project, book: Book, letters: Letters, verdict: Verdict, *, is_old: bool) -> None:
    """Compare each row of a project with what arrived of it."""
    came: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in list(book.arrivals):
        came[arrival.name.rpartition(".")[0]].append(arrival)
    for story in project.known:
        if story.hidden or story.trace.deleted:
            continue
        verdict.rows += 1
        arrivals = came[f"{project.prefix}{story.number}"]
        verdict.arrived += bool(arrivals)
        _compare_row(project, story, arrivals, book, letters, verdict, is_old=is_old)


def _compare_row(
    project: Project, story: Story, arrivals: Sequence[Arrival], book: Book, letters: Letters, verdict: Verdict, *,
    is_old: bool,
) -> None:  # fmt: skip
    newest = story.states[-1]
    reported = f"{newest['name']} ({story.id} of {story.trace.id}, start {datetime.fromtimestamp(story.start, UTC)})"
    is_excused = (
        story.id in letters.rows
        or (story.odd and letters.nameless > 0)
        or (letters.partial > 0 and any(state["name"] in book.rejected for state in story.states))
    )
    if not arrivals:
        if is_excused:
            verdict.set_aside += 1
        else:
            verdict.lost.append(f"LOST {reported}: {len(story.states)} states, none of them arrived")
        return
    ids = _ids(project, story)
    for arrival in arrivals:
        if (arrival.trace_id, arrival.span_id) != ids or abs(arrival.start_ms - story.start * 1000) > 1:
            verdict.wrong.append(f"WRONG IDS {reported}: {arrival.trace_id} {arrival.span_id} {arrival.start_ms}")
            return
    last = arrivals[-1]
    if story.odd or is_excused:
        return
    if last.output != f"of {last.name}":
        verdict.stale.append(f"MIXED {reported}: {last.name} arrived with the output {last.output!r}")
    elif last.name != newest["name"] and not is_old:
        verdict.stale.append(f"STALE {reported}: {[arrival.name for arrival in arrivals]} arrived")
    elif last.incomplete != _is_open(story, last.name):
        verdict.stale.append(f"STALE {reported}: it arrived {'in' if last.incomplete else ''}complete")


def compare_scores(scores: Scores, book: Book, letters: Letters, verdict: Verdict) -> None:
    """Compare each score of a project with what arrived of it, and where its spans arrived."""
    sessions: dict[str, set[str]] = {}
    for arrival in list(book.arrivals):
        sessions.setdefault(arrival.trace_id, set()).add(arrival.session)
    came: dict[str, list[SignalArrival]] = defaultdict(list)
    for signal in list(book.signals):
        came[signal.score_id].append(signal)
    for story in scores.stories:
        if story.trace.deleted or any(row.odd for row in story.trace.rows):
            continue
        trace_id = otlp_trace_id(scores.project.server.project_id, str(story.trace.id))
        signals, kind = came[story.id], story.subject["kind"]
        known = {story.trace.session} if kind == "session" else sessions.get(trace_id, set())
        verdict.signals += len(signals)
        for signal in signals:
            is_right = signal.session in known and signal.trace_id == ("" if kind == "session" else trace_id)
            if kind == "experiment" or not is_right:
                verdict.wrong.append(f"WRONG {signal.words} of a {kind}: {signal.session} {signal.trace_id}, {known}")
        must = kind in {"trace", "observation"} and trace_id in sessions and story.words and not story.deleted
        if must and story.id not in letters.scores and story.words[-1] not in {signal.words for signal in signals}:
            verdict.lost.append(f"LOST {story.words[-1]} of {story.trace.id}: {[signal.words for signal in signals]}")


def _is_open(story: Story, name: str) -> bool:
    state = next(state for state in reversed(story.states) if state["name"] == name)
    return "endTime" in state and state["endTime"] is None and state.get("type") != "EVENT"


def _ids(project: Project, story: Story) -> tuple[str, str]:
    project_id = project.server.project_id
    trace_id = source_trace_id(story.trace.id, story.id)
    return otlp_trace_id(project_id, trace_id), otlp_span_id(project_id, trace_id, story.id)


def explain_doubles(book: Book, lives: Sequence[Life], verdict: Verdict) -> None:
    """Find for each span that came again unchanged what lost the answer to the request before."""
    by_lane: dict[str, list[Life]] = defaultdict(list)
    for each in lives:
        by_lane[each.lane].append(each)
    sent: dict[int, list[Batch]] = defaultdict(list)  # by life, in the order in which they were taken
    owners: dict[int, Life | None] = {}
    for batch in list(book.batches):
        owner = owners[id(batch)] = _owner(batch, by_lane[batch.sender])
        sent[id(owner)].append(batch)
    before: dict[Any, Arrival | SignalArrival] = {}
    arrivals: list[Arrival | SignalArrival] = [*book.arrivals, *book.signals]
    for arrival in arrivals:
        key, reported = _same(arrival)
        earlier = before.get(key)
        before[key] = arrival
        if earlier is None:
            continue
        batch = earlier.batch
        life = owners[id(batch)]
        why = _why(batch, life, sent[id(life)], lives)
        if why:
            verdict.doubles[why] += 1
            continue
        verdict.unexplained.append(
            f"TWICE {reported}: from {batch.sender} at {_described(batch.taken)}, "
            f"answered at {_described(batch.answered)}, then from {arrival.batch.sender} "
            f"at {_described(arrival.batch.taken)} (of {life.stderr.name if life else 'nobody'})"
        )


def _same(arrival: Arrival | SignalArrival) -> tuple[Any, str]:
    """Return what two arrivals of the same have in common, and its name."""
    if isinstance(arrival, SignalArrival):
        return (arrival.score_id, arrival.revision), arrival.words
    return (arrival.name, arrival.output, arrival.incomplete, arrival.span_id), arrival.name


def _owner(batch: Batch, lives: Sequence[Life]) -> Life | None:
    """Return the process that sent a request: the last one that had begun."""
    return next((life for life in reversed(lives) if life.began <= batch.taken), None)


def _why(batch: Batch, life: Life | None, of_life: Sequence[Batch], lives: Sequence[Life]) -> str:
    """Return what may have lost the answer to a request, '' for nothing."""
    if batch.fault:
        return batch.fault
    if life is None:
        return ""
    answered = batch.answered or batch.taken
    if answered - batch.taken > _READ:
        return "answered too late"
    if life.killed and _running(life, answered, life.killed) < _COMMIT and _is_last(batch, of_life, life.killed):
        return "the sender was killed"
    if life.termed and answered - life.termed > _GRACE:
        return "the sender was asked to end"
    if any(begin < answered + _COMMIT and (end or answered) > batch.taken - 1 for begin, end in life.stops):
        return "the sender was stopped"
    others = [other for other in lives if other is not life]
    if any(begin - 1 < answered + 1 and (end or answered) - begin > 25 and (end or answered) > answered
           for other in others for begin, end in other.stops):  # fmt: skip
        return "another process was stopped that may have held the state file"
    return ""


def _is_last(batch: Batch, of_life: Sequence[Batch], killed: float) -> bool:
    """Whether a request is among the last ones of a process that may have been on their way when it was killed."""
    before = [other for other in of_life if other.taken <= killed + 1]
    return batch in before[-_IN_FLIGHT:]


def _running(life: Life, since: float, until: float) -> float:
    """Return for how many seconds a process ran between two moments."""
    stopped = sum(max(0.0, min(end or until, until) - max(begin, since)) for begin, end in life.stops)
    return until - since - stopped


def _described(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S.%f")[:-3] if moment else "never"
