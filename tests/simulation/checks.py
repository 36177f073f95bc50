"""What must hold after every commit, every cycle and at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from fractions import Fraction
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sync_worker.demo.rowstore import to_ms
from sync_worker.intervals import Interval, clip
from sync_worker.ledger import DeadLetter, Ledger, TraceNote
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.pauses import Pause
from sync_worker.pipeline.dead_lettering import UNREDACTED
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.verify import Verdict
from sync_worker.selection import SelectionRules
from sync_worker.selection.decision import is_in_sample
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id, source_parent_id
from sync_worker.spans.span_model import EncodedSpan
from tests.simulation.history import FILTERS, PEOPLE, History, RowStory, Version
from tests.simulation.kelet import Arrival, Kelet, label_of
from tests.simulation.langfuse import Langfuse
from tests.simulation.moments import DAY, MINUTE, Moments, readable
from tests.simulation.plan import Plan
from tests.simulation.weather import Weather

MOST_IN_FLIGHT = 4  # requests of one process
LONGEST_REQUEST = 2 * MINUTE
IDLE_REQUESTS = 4  # one more for scores, and one a day to see which project the keys open


class Fate(Enum):
    """What filters make of a trace."""

    GOES = "goes"
    STAYS = "stays"
    BROUGHT = "brought by an error"


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
        self._fates: dict[str, Fate] = {}
        self._filling_since: int | None = None
        self._roles = plan.sources
        self._of_day: Counter[tuple[int, int]] = Counter()  # spans, by the source's id and the day
        self._pseudonyms: dict[str, str] = {}  # by user
        self._sources: dict[int, int] = {}  # number of the source, by its id in the ledger
        self.wrong: list[str] = []
        self.paused: Pause | None = None  # of everything

    # While it runs

    def listen(self, ledger: Ledger, role: str, daily_limit: int) -> None:
        """Hear what one process commits."""
        commit_result, commit_interval = ledger.commit_result, ledger.commit_interval
        book = self._kelet.book

        def answer(source_id: int, accepted: Sequence[EncodedSpan], dead_letters: Sequence[DeadLetter]) -> None:
            labels = frozenset(label_of(Span.FromString(span.span)) for span in accepted)
            failed = self._weather.disk_failed
            self._obeys_the_pause()
            try:
                commit_result(source_id, accepted, dead_letters)
            finally:
                if not self._weather.dead and self._weather.disk_failed > failed:
                    book.lose(role)
            book.settle(labels)
            self._count(ledger, source_id, len(accepted), daily_limit)
            self._moments.note(
                f"{role} noted {sorted(labels)}{f' and {len(dead_letters)} letters' if dead_letters else ''}"
            )

        def completed(
            source_id: int,
            whose: str,
            interval: Interval,
            notes: Iterable[TraceNote],
            letters: Sequence[DeadLetter],
            rules: str = "",
            regular: Iterable[str] = (),
        ) -> None:
            commit_interval(source_id, whose, interval, notes, letters, rules, regular)
            self._moments.note(f"{whose} covered {interval.start}..{interval.end}")
            self._completed(ledger, source_id, whose, interval)

        self._roles = max(self._roles, self._plan.sources * (1 + (role == BACKFILL)))
        setattr(ledger, "commit_result", answer)  # noqa: B010
        setattr(ledger, "commit_interval", completed)  # noqa: B010

    def _count(self, ledger: Ledger, source_id: int, spans: int, limit: int) -> None:
        """Count what was accepted on a day, by the time that the process goes by, and check that it is no more."""
        day = source_id, ledger.clock.now_ms() // DAY
        self._of_day[day] += spans
        if limit and self._of_day[day] > limit and not self._plan.worlds & {"gone", "restore"}:
            self._say(f"{self._of_day[day]} spans were sent on a day, of which {limit} may be")

    def day_is_used(self, ledger: Ledger, reports: Sequence[SourceReport], limit: int) -> None:
        """Check that a day ends with as many spans as it may have, but for those of one trace, which is sent whole."""
        if self._plan.deaths or self._plan.worlds & {"gone", "restore", "clocks", "backfill"} or self._plan.backfill:
            return  # what was in flight, or is of another process, counts too
        day = ledger.clock.now_ms() // DAY
        for source in ledger.sources():
            number = self._number_of(ledger, source.id)
            is_over = any(
                "SYNC_MAX_SPANS_PER_DAY" in (report.error or "") and report.source in {"default", f"source-{number}"}
                for report in reports
            )
            largest = max(len(trace.rows) for trace in self._history.traces if trace.source == number)
            sent = self._of_day[source.id, day]
            if is_over and sent + largest <= limit:
                self._say(f"a day ended after {sent} of {limit} spans, though no trace has more than {largest}")

    def _obeys_the_pause(self) -> None:
        """Check that what Kelet answers now was in flight when everything was paused."""
        # It is in the state file, and ends by what its process takes for the time.
        is_kept = not self._plan.worlds & {"gone", "restore", "clocks"}
        if self.paused is None or not is_kept:
            return
        now = self._moments.true_ms()
        if now > self.paused.since_ms + LONGEST_REQUEST and (
            self.paused.until_ms is None or now < self.paused.until_ms
        ):
            self._say("spans were sent although everything is paused")

    def died(self, lost: int) -> None:
        """Hear of a death: so many requests had been accepted and were not noted."""
        if lost > MOST_IN_FLIGHT * self._roles:
            self._say(f"{lost} requests were in flight when the machine died")

    def backfill_began(self) -> None:
        """Hear of the beginning of a backfill; the first one counts."""
        self._filling_since = self._filling_since or self._moments.true_ms()

    def cycle_done(self) -> None:
        """Look at what a cycle left behind."""
        if self._kelet.book.wrong:
            self.wrong += self._kelet.book.wrong
            self._kelet.book.wrong = []

    def _completed(self, ledger: Ledger, source_id: int, role: str, interval: Interval) -> None:
        """Each row that the walk could see is sent, pending, a dead letter, or rightly left out."""
        if self._plan.has("v1"):
            return  # its walks ask for the same time more than once
        number = self._number_of(ledger, source_id)
        counted = clip(
            ledger.completed_intervals(source_id, role), interval
        )  # a row that waits alone keeps its moment open
        walks = self._langfuse.walks.items()
        around = [
            begun
            for (whose, start, end), begun in walks
            if whose == number and start <= interval.start and interval.end <= end
        ]
        began = max(around, default=None)
        now = self._moments.true_ms()
        if began is None:
            self._say(f"{role} covered {interval} without reading it")
            return
        seen = [
            row
            for row in self._rows
            if row.trace.source == number and not row.odd and any(part.contains(row.start) for part in counted)
            if any(version.seen(began) and version.seen(now) for version in row.versions)
        ]
        traces = {row.key[0] for row in seen}
        done, notes = ledger.completed_observations(source_id, traces), ledger.traces(source_id, traces)
        letters = {letter.observation_id for letter in ledger.dead_letters(source_id)}
        for row in seen:
            note = notes.get(row.key[0])
            pending = note is not None and note.pending
            if self._fate(row) is not Fate.GOES:
                continue
            if not (row.key in done or pending or row.id in letters or row.hidden):
                self._say(f"{role} covered {interval} but not {self._described(row)}")

    # What filters leave out

    def _fate(self, row: RowStory) -> Fate:
        """Return what filters make of a row's trace."""
        if not self._plan.has("filters"):
            return Fate.GOES
        if row.trace.environment != "default":
            return Fate.STAYS
        key = row.key[0]
        if key not in self._fates:
            rules = SelectionRules(sample=Fraction(FILTERS["SYNC_SAMPLE"].rstrip("%")) / 100)
            members = [row] if row.trace.id is None else row.trace.rows
            has_error = any(version.row["level"] == "ERROR" for one in members for version in one.versions)
            self._fates[key] = Fate.GOES if is_in_sample(rules, key) else Fate.BROUGHT if has_error else Fate.STAYS
        return self._fates[key]

    def _is_brought(self, row: RowStory, firsts: int) -> bool:
        """Whether a trace outside of the sample is to arrive: something of it did, or its error was to be read."""
        rows = [row] if row.trace.id is None else row.trace.rows
        names = {version.name for one in rows for version in one.versions}
        if any(arrival.name in names for arrival in self._kelet.book.arrivals):
            return True
        return any(
            version.row["level"] == "ERROR" and self._least(one, firsts) is not None
            for one in rows
            for version in one.versions
            if not (one.odd or one.unservable or one.hidden)
        )

    # At the end

    def final(self, ledger: Ledger, reports: Sequence[SourceReport]) -> None:
        """Look at everything once more when all is quiet."""
        self.cycle_done()
        firsts: dict[int, int] = {}
        for source in ledger.sources():
            letters = ledger.dead_letters(source.id)
            first = source.sync_start_ms
            if first is None:
                self._say(f"{source.project_name} was never synced")
                continue
            number = self._number_of(ledger, source.id)
            firsts[number] = first
            for row in self._rows:
                if row.trace.source == number:
                    self._arrived(row, first, letters)
            # A span that may be to blame for Kelet's errors waits with its trace until others prove it.
            is_doubted = self._history.stuck or self._kelet.book.blocked
            if not is_doubted and (whole := ledger.whole_traces(source.id, 10)):
                self._say(f"traces are still to be sent whole at the end: {whole}")
            if not is_doubted and (pending := ledger.pending(source.id).count):
                self._say(f"{pending} traces are pending at the end")
        if len(firsts) != self._plan.sources:
            self._say(f"{len(firsts)} sources are known, not {self._plan.sources}")
            return
        for arrival in self._kelet.book.arrivals:
            self._looks_right(arrival, firsts)
        plain = (
            self._plan.page_limit == 1000
            and not self._plan.has("v1")
            and not self._plan.small
            and not self._history.stuck
        )
        tried_again = any(letter.kind == "unreadable" for letter in ledger.dead_letters())
        for report in reports:
            # With scores, those that changed are listed, and the trace that some wait for is looked for and read.
            most = IDLE_REQUESTS + 1 + 2 * self._plan.has("scores")
            if plain and not tried_again and report.error is None and report.langfuse_requests > most:
                self._say(f"an idle cycle took {report.langfuse_requests} requests")
        if ledger.query("PRAGMA quick_check")[0][0] != "ok":
            self._say("the state file is damaged")
        files = ledger.path.parent.glob(f"{ledger.path.name}*")
        if self._plan.has("redaction") and any(PEOPLE.encode() in file.read_bytes() for file in files):
            self._say("an address of somebody is in the state file")

    def verified(self, found: Mapping[str, Verdict], missing: Sequence[RowStory]) -> None:
        """Hear what `verify` found where these rows are missing."""
        reported = {key for verdict in found.values() for hour in verdict.hours for key in hour.observations}
        if len(found) != self._plan.sources:
            self._say(f"verify told of {len(found)} sources only")
        right = {row.key for row in missing}
        if reported != right or any(verdict.gaps for verdict in found.values()):
            self._say(f"verify found {sorted(reported)} missing, not {sorted(right)}: {found}")

    def _number_of(self, ledger: Ledger, source_id: int) -> int:
        if source_id not in self._sources:
            self._sources |= {source.id: int(source.project_id.rpartition("-")[2]) for source in ledger.sources()}
        return self._sources[source_id]

    def _arrived(self, row: RowStory, first: int, letters: Sequence[DeadLetter]) -> None:
        if row.hidden or row.trace.deleted is not None:
            return
        least = self._least(row, first)
        if least is None:
            return
        fate = self._fate(row)
        if fate is Fate.STAYS or (fate is Fate.BROUGHT and not self._is_brought(row, first)):
            return
        accepted = [version for version in row.versions if self._was_taken(version)]
        numbers = [_number(version) for version in accepted]
        own = [letter for letter in letters if letter.observation_id == row.id]
        # An odd row may be a dead letter without its id; so is one that a server of the older API does not serve.
        is_nameless = row.odd or (row.unservable and self._plan.has("v1"))
        if is_nameless and (accepted or any(letter.kind == "unreadable" for letter in letters)):
            return
        if row.odd and self._plan.has("redaction") and any(letter.kind == UNREDACTED for letter in own):
            return
        if any(version.name in self._history.stuck | self._kelet.book.blocked for version in row.versions):
            return
        if numbers and max(numbers) >= _number(least):
            if self._is_stale(accepted, row):
                self._say(f"an older state of {self._described(row)} came last")
            return
        if own and (row.unservable or any(version.name in self._history.poison for version in row.versions)):
            return
        # A server that broke off several times over one row, and served others between, has put the blame on it.
        if self._plan.rates and any(letter.kind == "unreadable" for letter in own):
            return
        rejected = self._kelet.book.rejected & {version.name for version in row.versions}
        if rejected and any(letter.kind == "partial" for letter in letters):
            return
        if self._plan.has("v1") and self._is_hidden_by_a_deletion(row):
            return
        self._say(f"LOST {self._described(row)}, accepted: {[version.name for version in accepted]}, letters: {own}")

    def _is_hidden_by_a_deletion(self, row: RowStory) -> bool:
        """Whether others may have been deleted when a late row came: the counts of the older API say nothing then."""
        shown = row.versions[0].shown
        return shown - row.start > min(self._plan.horizons) and any(
            trace.source == row.trace.source
            and trace.deleted is not None
            and abs(trace.deleted - shown) <= self._plan.deepest
            for trace in self._history.traces
        )

    def _was_taken(self, version: Version) -> bool:
        """Whether a state arrived, with the content that belongs to it unless that is odd."""
        if version.story.odd:
            return any(arrival.name == version.name for arrival in self._kelet.book.arrivals)
        return version.label in self._kelet.book.last

    def _is_stale(self, accepted: Sequence[Version], row: RowStory) -> bool:
        """Whether what arrived last of a row is another state than the newest that arrived, or a mixed one."""
        names = {version.name for version in row.versions}
        last = [arrival.label for arrival in self._kelet.book.arrivals if arrival.name in names][-1]
        return not row.odd and last != max(accepted, key=_number).label

    def _least(self, row: RowStory, first: int) -> Version | None:
        """Return the state that must have arrived at least; None when nothing must."""
        if row.start >= first:
            # The older API lists no row for having changed: what counts there is how many rows there are.
            return row.versions[-1] if self._plan.resend and not self._plan.has("v1") else row.versions[0]
        if self._filling_since is None or not Interval(*self._plan.interval).contains(row.start):
            return None
        return row.latest(self._filling_since)

    def _looks_right(self, arrival: Arrival, firsts: Mapping[int, int]) -> None:
        version = self._states.get(arrival.name)
        if version is None:
            self._say(f"{arrival.name} arrived, which was never in Langfuse")
            return
        row = version.story
        if row.odd:
            return
        fate = self._fate(row)
        if fate is Fate.STAYS:
            self._say(f"{self._described(row)} was sent, although filters leave it out")
        first = firsts[row.trace.source]
        trace, observation_id = row.key
        project = f"h1-proj-{row.trace.source}"
        parent = source_parent_id(trace, observation_id, row.parent)
        expected = (
            otlp_trace_id(project, trace),
            otlp_span_id(project, trace, observation_id),
            "" if parent is None else otlp_span_id(project, trace, parent),
            row.start,
        )
        found = (arrival.trace_id, arrival.span_id, arrival.parent_id, arrival.start_ms)
        if found != expected:
            self._say(f"{arrival.name} arrived as {found}, not {expected}")
        self._ends_right(arrival, version)
        self._hides_people(arrival, row)
        if fate is Fate.BROUGHT:
            return  # whole, whenever it starts
        if arrival.batch.role == LIVE and row.start < first:
            self._say(f"{self._described(row)} was sent by the live sync, before its sync start")
        if arrival.batch.role == BACKFILL and not Interval(*self._plan.interval).contains(row.start):
            self._say(f"{self._described(row)} was sent by a backfill of another interval")
        if not arrival.session and self._session_was_known(arrival, row):
            self._say(f"{arrival.name} arrived without the session {row.trace.session}")

    def _hides_people(self, arrival: Arrival, row: RowStory) -> None:
        """Check that one person has one pseudonym, for as long as the key of pseudonyms is kept."""
        if arrival.user and not self._plan.worlds & {"gone", "restore"}:
            known = self._pseudonyms.setdefault(row.trace.user, arrival.user)
            if arrival.user != known:
                self._say(f"{arrival.name} names {row.trace.user} {arrival.user}, and others {known}")

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
        wrong_clocks = self._plan.jumps or self._plan.has("clocks")
        waits = open_row and version.story.trace.id is not None and not wrong_clocks
        if waits and arrival.batch.role == LIVE and arrival.batch.moment - arrival.start_ms < self._plan.max_open:
            self._say(f"{arrival.name}, which had not ended, was sent too early")

    def _session_was_known(self, arrival: Arrival, row: RowStory) -> bool:
        """Whether a row that carries the session was at hand: the trace's only root, or one that went before."""
        batch = arrival.batch
        roots = [story for story in row.trace.rows if _is_root(story.versions[0].row)]
        for bearer in row.trace.rows:
            if not bearer.versions[0].row["sessionId"] or bearer.odd:
                continue
            seen = any(state.seen(batch.cycle) and state.seen(batch.moment) for state in bearer.versions)
            is_asked = self._plan.has("v1") and bearer.is_trace  # of whatever is sent, until it has a session
            if (roots == [bearer] or is_asked) and seen:
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

    def _described(self, row: RowStory) -> str:
        shown = ", ".join(f"{version.name} from {readable(version.shown)}" for version in row.versions)
        return f"row{row.number} ({row.id} of {row.trace.id}, starts {readable(row.start)}; {shown})"

    def _say(self, finding: str) -> None:
        self._moments.note(f"WRONG {finding}")
        self.wrong.append(finding)


def _is_root(row: dict[str, Any]) -> bool:
    return bool(row["isRootObservation"]) or row["parentObservationId"] is None


def _number(version: Version) -> int:
    return int(version.name.rsplit(".", 1)[1])
