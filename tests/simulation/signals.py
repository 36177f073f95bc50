"""What must hold of signals: each content once, with the session and project of its trace's spans, after them."""

from __future__ import annotations

from collections.abc import Sequence

from sync_worker.demo.rowstore import to_ms
from sync_worker.ledger import Ledger, SourceState
from sync_worker.spans.ids import otlp_trace_id
from tests.simulation.kelet import Kelet
from tests.simulation.moments import Moments, readable
from tests.simulation.plan import Plan
from tests.simulation.scores import ScoreStory
from tests.simulation.signal_book import SignalArrival
from tests.simulation.weather import Weather


class SignalChecks:
    """Listens to the worker's ledger and to Kelet."""

    def __init__(
        self, plan: Plan, stories: Sequence[ScoreStory], weather: Weather, kelet: Kelet, moments: Moments
    ) -> None:
        self._plan = plan
        self._stories = stories
        self._weather = weather
        self._kelet = kelet
        self._moments = moments
        self._wrong: list[str] = []

    def _is_listed(self, date: int, sync_start: int | None) -> bool:
        """Whether scores of a date are listed: by the first cycles, or by a backfill."""
        begun = self._moments.true_ms() if sync_start is None else sync_start + self._plan.look_back
        start, end = self._plan.interval if self._plan.backfill else (0, 0)
        return date >= begun - max(self._plan.score_horizons) or start <= date < end

    def listen(self, ledger: Ledger, role: str) -> None:
        """Hear what one process commits."""
        commit_score = ledger.commit_score

        def commit(source_id: int, score_id: str, content: bytes, project: str) -> None:
            label = (score_id, content.hex())
            if not any(arrival.label == label for arrival in self._kelet.signals.arrivals):
                self._wrong.append(f"the signal of {score_id} was noted as accepted and has not arrived")
            failed = self._weather.disk_failed
            try:
                commit_score(source_id, score_id, content, project)
            finally:
                if not self._weather.dead and self._weather.disk_failed > failed:
                    self._kelet.signals.lose(role)
            self._kelet.signals.settle(label)
            self._moments.note(f"{role} noted the signal of {score_id}")

        setattr(ledger, "commit_score", commit)  # noqa: B010

    def died(self, processes: int) -> None:
        """Hear of a death: a process has one signal in flight."""
        lost = self._kelet.signals.lose()
        if lost > max(1, processes) * self._plan.sources:
            self._wrong.append(f"{lost} signals were in flight when the machine died")

    def final(self, ledger: Ledger) -> list[str]:
        """Return what is wrong with signals when all is quiet."""
        wrong = [*self._wrong, *self._kelet.signals.wrong]
        sources = {int(source.project_id.rpartition("-")[2]): source for source in ledger.sources()}
        known = {story.id: story for story in self._stories}
        for arrival in self._kelet.signals.arrivals:
            wrong += self._looks_right(arrival, known[arrival.label[0]])
        for story in self._stories:
            if story.trace.source in sources:
                wrong += self._has_arrived(story, ledger, sources[story.trace.source])
        return wrong

    def _looks_right(self, arrival: SignalArrival, story: ScoreStory) -> list[str]:
        reported = f"the signal {arrival.words}"
        if story.subject == "experiment":
            return [f"{reported} is of an experiment"]
        if arrival.path != "/api/projects/simulated/signal":
            return [f"{reported} went to {arrival.path}"]
        if any(row.odd for row in story.trace.rows):
            return []
        spans = [span for span in self._kelet.book.arrivals if span.trace_id == self._trace_id(story)]
        before = [span for span in spans if span.batch.moment <= arrival.moment]
        sessions = {span.session for span in spans}
        session = arrival.content.get("session_id", "")
        if session == str(story.trace.id):  # spans without a session have the trace's id as that of the conversation
            session = ""
        names = {version.name for row in story.trace.rows for version in row.versions}
        # Which spans a partial success rejected, no one says: the worker takes all of them for accepted.
        if not before and not names & self._kelet.book.rejected and story.subject != "session":
            return [f"{reported} came before the spans of its trace"]
        if story.subject == "session":
            return [] if session == story.trace.session else [f"{reported} has the session {session!r}"]
        if arrival.content.get("trace_id") != self._trace_id(story):
            return [f"{reported} is of another trace"]
        if session in sessions or not before:
            return []
        last = max(span.batch.moment for span in before)
        if session == story.trace.session and last < arrival.moment - self._plan.deepest:
            return []  # what its spans had may be forgotten: Langfuse is asked
        return [f"{reported} has the session {session!r}, its spans {sorted(sessions)}"]

    def _has_arrived(self, story: ScoreStory, ledger: Ledger, source: SourceState) -> list[str]:
        last = story.latest(self._moments.true_ms())
        if last is None or story.subject == "experiment" or story.trace.deleted is not None:
            return []
        if any(row.odd or row.unservable for row in story.trace.rows) or not self._is_delivered(story):
            return []
        note = ledger.traces(source.id, [str(story.trace.id)]).get(str(story.trace.id))
        if note is not None and note.pending:
            return []
        if any(arrival.words == last.words for arrival in self._kelet.signals.arrivals):
            return []
        if not self._is_listed(to_ms(last.content["timestamp"]), source.sync_start_ms):
            return []
        states = ledger.scores(source.id, [story.id])
        return [f"LOST the signal {last.words}, shown {readable(last.shown)}, of {story.trace.id}: {states}"]

    def _is_delivered(self, story: ScoreStory) -> bool:
        """Whether the worker has noted a span of the trace as accepted; of a session, one that has it."""
        spans = (span for span in self._kelet.book.arrivals if span.trace_id == self._trace_id(story))
        return any(
            span.label in self._kelet.book.settled
            and (story.subject != "session" or span.session == story.trace.session)
            for span in spans
        )

    def _trace_id(self, story: ScoreStory) -> str:
        return otlp_trace_id(f"h1-proj-{story.trace.source}", str(story.trace.id))
