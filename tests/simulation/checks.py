"""What must hold after every commit, every cycle and at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sync_worker.demo.rowstore import to_ms
from sync_worker.ledger import DeadLetter, Ledger, TraceNote
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id, source_parent_id
from sync_worker.spans.model import EncodedSpan
from sync_worker.sync.report import SourceReport
from sync_worker.windows import Window
from tests.simulation.history import History, RowStory, Version
from tests.simulation.kelet import Arrival, Kelet
from tests.simulation.langfuse import Langfuse
from tests.simulation.moments import Moments, readable
from tests.simulation.plan import Plan
from tests.simulation.weather import Weather

PROJECT = "h1-proj-a"
MOST_IN_FLIGHT = 4  # requests of one process
IDLE_REQUESTS = 4  # and one a day to see which project the keys open


class Checks:
    """Listens to the worker's ledger and to both servers; `wrong` is what was found."""

    def __init__(
        self, plan: Plan, history: History, weather: Weather, langfuse: Langfuse, kelet: Kelet, moments: Moments
    ) -> None:
        self._plan = plan
        self._history = history
        self._weather = weather
        self._langfuse = langfuse
        self._kelet = kelet
        self._moments = moments
        self._rows = history.rows
        self._states = {version.name: version for row in self._rows for version in row.versions}
        self._filling_since: int | None = None
        self._roles = 1
        self.wrong: list[str] = []

    # While it runs

    def listen(self, ledger: Ledger, role: str) -> None:
        """Hear what one process commits."""
        commit_answer, commit_window = ledger.commit_answer, ledger.commit_window
        book = self._kelet.book

        def answer(source_id: int, accepted: Sequence[EncodedSpan], dead_letters: Sequence[DeadLetter]) -> None:
            names = frozenset(Span.FromString(span.span).name for span in accepted)
            failed = self._weather.disk_failed
            try:
                commit_answer(source_id, accepted, dead_letters)
            finally:
                if not self._weather.dead and self._weather.disk_failed > failed:
                    book.lose(role)
            book.settle(names)
            self._moments.note(
                f"{role} noted {sorted(names)}{f' and {len(dead_letters)} letters' if dead_letters else ''}"
            )

        def covered(
            source_id: int, whose: str, window: Window, notes: Iterable[TraceNote], letters: Sequence[DeadLetter]
        ) -> None:
            commit_window(source_id, whose, window, notes, letters)
            self._moments.note(f"{whose} covered {window.start}..{window.end}")
            self._covered(ledger, source_id, whose, window)

        self._roles = max(self._roles, 1 + (role == BACKFILL))
        setattr(ledger, "commit_answer", answer)  # noqa: B010
        setattr(ledger, "commit_window", covered)  # noqa: B010

    def died(self, lost: int) -> None:
        """Hear of a death: so many requests had been accepted and were not noted."""
        if lost > MOST_IN_FLIGHT * self._roles:
            self._say(f"{lost} requests were in flight when the machine died")

    def backfill_began(self) -> None:
        """Hear of the beginning of a backfill; the first one counts."""
        self._filling_since = self._filling_since or self._moments.true_ms()

    def cycle_done(self, ledger: Ledger) -> None:
        """Look at what a cycle left behind."""
        if self._kelet.book.wrong:
            self.wrong += self._kelet.book.wrong
            self._kelet.book.wrong = []

    def _covered(self, ledger: Ledger, source_id: int, role: str, window: Window) -> None:
        """Each row that the walk could see is sent, parked, a dead letter, or rightly left out."""
        walks = self._langfuse.walks.items()
        around = [begun for (start, end), begun in walks if start <= window.start and window.end <= end]
        began = max(around, default=None)
        now = self._moments.true_ms()
        if began is None:
            self._say(f"{role} covered {window} without reading it")
            return
        seen = [
            row for row in self._rows
            if window.holds(row.start) and any(version.seen(began) and version.seen(now) for version in row.versions)
        ]  # fmt: skip
        traces = {row.key[0] for row in seen}
        done, notes = ledger.done_rows(source_id, traces), ledger.traces(source_id, traces)
        letters = {letter.row_id for letter in ledger.dead_letters(source_id)}
        for row in seen:
            note = notes.get(row.key[0])
            parked = note is not None and note.parked
            if not (row.key in done or parked or row.id in letters or row.hidden):
                self._say(f"{role} covered {window} but not {self._told(row)}")

    # At the end

    def final(self, ledger: Ledger, report: SourceReport | None) -> None:
        """Look at everything once more when all is quiet."""
        self.cycle_done(ledger)
        source = ledger.sources()[0]
        letters = ledger.dead_letters(source.id)
        first = source.first_edge_ms
        assert first is not None
        for row in self._rows:
            self._arrived(row, first, letters)
        for arrival in self._kelet.book.arrivals:
            self._looks_right(arrival, first)
        if parked := ledger.parked(source.id).count:
            self._say(f"{parked} traces are parked at the end")
        plain = self._plan.page_limit == 1000 and not self._plan.small
        if plain and report is not None and report.langfuse_requests > IDLE_REQUESTS + 1:
            self._say(f"an idle cycle took {report.langfuse_requests} requests")
        if ledger.query("PRAGMA quick_check")[0][0] != "ok":
            self._say("the state file is damaged")

    def _arrived(self, row: RowStory, first: int, letters: Sequence[DeadLetter]) -> None:
        if row.hidden or row.trace.deleted is not None:
            return
        least = self._least(row, first)
        if least is None:
            return
        accepted = [version for version in row.versions if version.name in self._kelet.book.last]
        numbers = [_number(version) for version in accepted]
        own = [letter for letter in letters if letter.row_id == row.id]
        if numbers and max(numbers) >= _number(least):
            if self._is_stale(accepted, row):
                self._say(f"an older state of {self._told(row)} came last")
            return
        if own and (row.unservable or any(version.name in self._history.poison for version in row.versions)):
            return
        # A server that broke off several times over one row, and served others between, has put the blame on it.
        if self._plan.rates and any(letter.kind == "unreadable" for letter in own):
            return
        rejected = self._kelet.book.rejected & {version.name for version in row.versions}
        if rejected and any(letter.kind == "partial" for letter in letters):
            return
        self._say(f"LOST {self._told(row)}, accepted: {[version.name for version in accepted]}, letters: {own}")

    def _is_stale(self, accepted: Sequence[Version], row: RowStory) -> bool:
        order = {arrival.name: number for number, arrival in enumerate(self._kelet.book.arrivals)}
        latest = max(accepted, key=_number)
        return max(accepted, key=lambda version: order[version.name]).name != latest.name

    def _least(self, row: RowStory, first: int) -> Version | None:
        """Return the state that must have arrived at least; None when nothing must."""
        if row.start >= first:
            return row.versions[-1] if self._plan.resend else row.versions[0]
        if self._filling_since is None or not Window(*self._plan.stretch).holds(row.start):
            return None
        return row.latest(self._filling_since)

    def _looks_right(self, arrival: Arrival, first: int) -> None:
        version = self._states.get(arrival.name)
        if version is None:
            self._say(f"{arrival.name} arrived, which was never in Langfuse")
            return
        row = version.story
        trace, row_id = row.key
        parent = source_parent_id(trace, row_id, row.parent)
        expected = (
            otlp_trace_id(PROJECT, trace),
            otlp_span_id(PROJECT, trace, row_id),
            "" if parent is None else otlp_span_id(PROJECT, trace, parent),
            row.start,
        )
        found = (arrival.trace_id, arrival.span_id, arrival.parent_id, arrival.start_ms)
        if found != expected:
            self._say(f"{arrival.name} arrived as {found}, not {expected}")
        self._ends_right(arrival, version)
        if arrival.batch.role == LIVE and row.start < first:
            self._say(f"{self._told(row)} was sent by the live sync, before its first edge")
        if arrival.batch.role == BACKFILL and not Window(*self._plan.stretch).holds(row.start):
            self._say(f"{self._told(row)} was sent by a backfill of another stretch")
        if not arrival.session and self._session_was_known(arrival, row):
            self._say(f"{arrival.name} arrived without the session {row.trace.session}")

    def _ends_right(self, arrival: Arrival, version: Version) -> None:
        end = version.row["endTime"]
        if end is not None:
            if arrival.end_ms != max(to_ms(end), arrival.start_ms) or arrival.incomplete:
                self._say(f"{arrival.name} arrived with another end")
            return
        made_up = version.story.id == f"t-{version.story.trace.id}"
        open_row = version.row["type"] != "EVENT" and not made_up
        if arrival.incomplete != open_row:
            self._say(f"{arrival.name} arrived {'without a' if open_row else 'with the'} mark of an incomplete row")
        waits = open_row and version.story.trace.id is not None and not self._plan.jumps
        if waits and arrival.batch.role == LIVE and arrival.batch.moment - arrival.start_ms < self._plan.max_open:
            self._say(f"{arrival.name}, which had not ended, was sent too early")

    def _session_was_known(self, arrival: Arrival, row: RowStory) -> bool:
        """Whether a row that carries the session was at hand: the trace's only root, or one that went before."""
        batch = arrival.batch
        roots = [story for story in row.trace.rows if _is_root(story.versions[0].row)]
        for bearer in row.trace.rows:
            if not bearer.versions[0].row["sessionId"]:
                continue
            seen = any(state.seen(batch.cycle) and state.seen(batch.moment) for state in bearer.versions)
            if roots == [bearer] and seen:
                return True
            for version in bearer.versions:
                for other in self._kelet.book.arrivals:
                    if other.name == version.name and (
                        other.batch is batch
                        or other.batch.moment < batch.cycle
                        or (other.batch.role == batch.role == LIVE and other.batch.moment < batch.moment)
                    ):
                        return True
        return False

    def _told(self, row: RowStory) -> str:
        shown = ", ".join(f"{version.name} from {readable(version.shown)}" for version in row.versions)
        return f"row{row.number} ({row.id} of {row.trace.id}, starts {readable(row.start)}; {shown})"

    def _say(self, finding: str) -> None:
        self._moments.note(f"WRONG {finding}")
        self.wrong.append(finding)


def _is_root(row: dict[str, Any]) -> bool:
    return bool(row["isRootObservation"]) or row["parentObservationId"] is None


def _number(version: Version) -> int:
    return int(version.name.rsplit(".", 1)[1])
