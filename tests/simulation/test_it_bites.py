"""The simulation notices a worker that breaks its promises: each break below is found by one of a few seeds."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sync_worker.corrected import CorrectedClock, Reading
from sync_worker.intervals import Interval
from sync_worker.langfuse import buckets, langfuse_client, observation_parser, v2
from sync_worker.langfuse.reader import Page
from sync_worker.langfuse.v2 import V2Reader
from sync_worker.ledger import Ledger, ScoreNote, SentObservation, TraceNote, claims, copies, daily_spans, file, ledger
from sync_worker.ledger.place import Place
from sync_worker.otlp import posting, target_client
from sync_worker.otlp.signal_delivery import SignalDelivery
from sync_worker.pipeline import daily_limit, notes, readiness
from sync_worker.pipeline.attribution import Attributor, ScoreWait, Verdict
from sync_worker.pipeline.convert import Converter
from sync_worker.pipeline.daily_limit import DailyLimit
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.filter import Filter
from sync_worker.pipeline.lanes import Lanes
from sync_worker.pipeline.pause_check import Pauses
from sync_worker.pipeline.prepare import Preparer
from sync_worker.pipeline.redact import Redaction
from sync_worker.pipeline.trace import Trace, TracePart
from sync_worker.records import Observation, Score
from sync_worker.runs import backfill, interval, live, pending, score_sync, stored_protection
from sync_worker.runs.bucket_counts import BucketCounts, Compare
from sync_worker.runs.interval import IntervalWork
from sync_worker.runs.lookback import LookbackScans
from sync_worker.runs.pending import PendingTraces
from sync_worker.runs.score_sync import ScoreSync
from sync_worker.runs.second_read import SecondReading
from sync_worker.runs.verify import Verification
from sync_worker.settings.rotation import Reread
from sync_worker.signals.content import content_of
from sync_worker.signals.signal_model import Attribution, EncodedSignal
from sync_worker.spans.span_model import EncodedSpan
from sync_worker.sync import engine, scheduler
from tests.simulation.plan import draw
from tests.simulation.run import simulate

SEEDS = range(40)
ODD_SEEDS = range(60)

Break = Callable[[pytest.MonkeyPatch], None]


def _covers_before_it_sends(patch: pytest.MonkeyPatch) -> None:
    usual = IntervalWork.walk

    async def walk(self: IntervalWork) -> AsyncIterator[Page]:
        pages = [page async for page in usual(self)]
        self._session.ledger.commit_interval(self._session.source_id, self._role, self._interval, [], [])
        for page in pages:
            yield page

    patch.setattr(IntervalWork, "walk", walk)


def _skips_late_scans(patch: pytest.MonkeyPatch) -> None:
    async def run(self: LookbackScans, *_: Any) -> None:
        return None

    patch.setattr(LookbackScans, "run", run)


def _forgets_pending_traces(patch: pytest.MonkeyPatch) -> None:
    usual = Ledger.commit_interval

    def commit_interval(
        self: Ledger,
        source_id: int,
        role: str,
        interval: Interval,
        notes: Sequence[TraceNote],
        letters: Sequence[Any],
        rules: str = "",
        regular: Sequence[str] = (),
    ) -> None:
        usual(self, source_id, role, interval, [note for note in notes if not note.pending], letters, rules, regular)

    patch.setattr(Ledger, "commit_interval", commit_interval)


def _forgets_what_it_sent(patch: pytest.MonkeyPatch) -> None:
    for name in ("completed_observations", "completed_among", "sent_observations"):
        patch.setattr(Ledger, name, lambda *_: dict[tuple[str, str], SentObservation]())


def _leaves_out_the_last_millisecond(patch: pytest.MonkeyPatch) -> None:
    usual = V2Reader.interval

    def read(self: V2Reader, interval: Interval, **options: Any) -> Any:
        return usual(self, Interval(interval.start, interval.end - 1), **options)

    patch.setattr(V2Reader, "interval", read)


def _notes_before_it_sends(patch: pytest.MonkeyPatch) -> None:
    usual = Converter.convert

    def convert(self: Converter, part: TracePart) -> list[EncodedSpan]:
        spans = usual(self, part)
        self.session.ledger.commit_result(self.session.source_id, spans, [])
        return spans

    patch.setattr(Converter, "convert", convert)


def _never_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(notes, "pending_observations", lambda *_: list[Observation]())


def _never_looks_after_pending_traces(patch: pytest.MonkeyPatch) -> None:
    async def send_ready(self: PendingTraces, lanes: Lanes) -> None:
        del lanes

    patch.setattr(PendingTraces, "send_ready", send_ready)


def _reaches_out_of_its_intervals(patch: pytest.MonkeyPatch) -> None:
    usual = Interval.contains
    patch.setattr(Interval, "contains", lambda self, moment: usual(self, moment) or usual(self, moment + 60_000))


def _drops_the_last_batch(patch: pytest.MonkeyPatch) -> None:
    usual = Ledger.commit_result

    def commit_result(self: Ledger, source_id: int, accepted: Sequence[EncodedSpan], letters: Sequence[Any]) -> None:
        usual(self, source_id, accepted[:-1] if len(accepted) > 1 else accepted, letters)

    patch.setattr(Ledger, "commit_result", commit_result)


def _loses_the_session(patch: pytest.MonkeyPatch) -> None:
    async def look_up(self: Preparer, traces: Sequence[Trace]) -> None:
        del traces

    patch.setattr(Preparer, "_look_up_roots", look_up)


def _takes_any_success_for_kelets(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(target_client, "why_not_acknowledged", lambda *_: None)


def _sends_what_a_backfill_sends(patch: pytest.MonkeyPatch) -> None:
    """Break both: the claims of intervals, and those of traces, either of which keeps two runs apart."""
    patch.setattr(claims, "_of_live_runs", lambda *_: list[Interval]())
    patch.setattr(ledger, "claim_traces", lambda *_: set[str]())


def _believes_its_own_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CorrectedClock, "read", lambda self: Reading(self._machine.now_ms(), certain=True))


def _sends_before_the_store_has_merged(patch: pytest.MonkeyPatch) -> None:
    async def run(self: SecondReading) -> None:
        return None

    patch.setattr(SecondReading, "run", run)
    for module in (readiness, pending, interval):
        patch.setattr(module, "awaits_merge", lambda *_: False)


def _takes_a_page_for_as_odd_as_a_row_of_it(patch: pytest.MonkeyPatch) -> None:
    usual = observation_parser.parse_all

    def parse_all(items: Any, parse: Any, **options: Any) -> Any:
        read, unreadable = usual(items, parse, **options)
        return ([] if unreadable else read), unreadable

    patch.setattr(v2, "parse_all", parse_all)


def _never_sends_less_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(posting, "_TRIES", 10**9)


def _has_one_bucket(patch: pytest.MonkeyPatch) -> None:
    usual = buckets.bucket_of
    for module in (buckets, langfuse_client):
        patch.setattr(module, "bucket_of", lambda _: usual("/api/public/v2/observations"))


def _never_reads_a_key_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engine, "reread", lambda source: Reread(source, (), complete=True))


def _takes_an_old_file_for_the_newest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(copies, "check_latest", lambda _: None)


def _writes_into_a_file_without_a_name(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Place, "check", lambda _: None)
    patch.setattr(file, "_check_log", lambda _: None)


def _takes_all_sources_for_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "source_by_key", lambda self, *_: next(iter(self.sources()), None))


def _verifies_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Verification, "_compare", lambda *_: None)


def _counts_nothing_again(patch: pytest.MonkeyPatch) -> None:
    async def list_changed(self: BucketCounts, _: Interval, compare: Compare) -> None:
        del compare

    patch.setattr(BucketCounts, "list_changed", list_changed)


def _schedules_by_the_machines_clock(patch: pytest.MonkeyPatch) -> None:
    def now(self: scheduler.MonotonicScheduler) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    patch.setattr(scheduler.MonotonicScheduler, "_now", now)


def _sends_an_error_alone(patch: pytest.MonkeyPatch) -> None:
    async def send(_: Pipeline) -> None:
        return None

    patch.setattr(live, "send_whole_traces", send)
    patch.setattr(backfill, "send_whole_traces", send)


def _decides_by_each_row(patch: pytest.MonkeyPatch) -> None:
    usual = Filter._decide

    def decide(self: Filter, job: Any, trace: Trace) -> tuple[str | None, bool]:
        note = trace.note
        trace.note = None if note is None else replace(note, left_out_by=None)
        decided = usual(self, job, trace)
        trace.note = note
        return decided

    patch.setattr(Filter, "_decide", decide)


def _sends_signals_before_their_spans(patch: pytest.MonkeyPatch) -> None:
    usual = Attributor.known

    def known(self: Attributor, trace_ids: Iterable[str]) -> dict[str, Verdict]:
        ids = list(trace_ids)
        found = usual(self, ids)
        return {
            trace_id: Attribution("simulated")
            if isinstance(verdict := found.get(trace_id), ScoreWait | None)
            else verdict
            for trace_id in ids
        }

    patch.setattr(Attributor, "known", known)


def _takes_updated_at_for_the_content(patch: pytest.MonkeyPatch) -> None:
    usual = content_of
    patch.setattr(score_sync, "content_of", lambda score: usual(replace(score, comment=str(score.updated_ms))))


def _notes_signals_before_it_sends_them(patch: pytest.MonkeyPatch) -> None:
    usual = SignalDelivery.send

    async def send(self: SignalDelivery, signal: EncodedSignal) -> bool:
        self.sink.accept(signal, [])
        return await usual(self, signal)

    patch.setattr(SignalDelivery, "send", send)


def _sends_a_signal_in_each_cycle(patch: pytest.MonkeyPatch) -> None:
    usual = ScoreSync._triage

    def triage(self: ScoreSync, score: Score, before: ScoreNote | None, now: int) -> ScoreNote:
        note = usual(self, score, before, now)
        return replace(note, state="waiting") if note.state == "sent" else note

    patch.setattr(ScoreSync, "_triage", triage)


def _counts_the_spans_of_a_day_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(daily_spans, "today", lambda _: 0)
    patch.setattr(daily_limit, "today", lambda _: 0)


def _ends_a_day_too_early(patch: pytest.MonkeyPatch) -> None:
    usual = DailyLimit._used
    patch.setattr(DailyLimit, "_used", lambda self: usual(self) + self._limit // 2)


def _forgets_what_others_send(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(daily_limit, "spans_of_others", lambda *_: 0)


def _keeps_the_context_as_listed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Redaction, "context_of", lambda _, trace: trace.plain)


def _makes_a_key_of_pseudonyms_each_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stored_protection, "_stored_key", lambda _: secrets.token_hex())


def _sends_scores_as_given(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ScoreSync, "_redact", lambda _, signal: signal)


def _ignores_a_pause(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pauses, "_active", lambda *_: [])


BREAKS: Mapping[str, tuple[Break, str]] = {
    "counts an interval as covered before it is sent": (_covers_before_it_sends, "covered"),
    "makes no lookback scans": (_skips_late_scans, "LOST"),
    "forgets pending traces": (_forgets_pending_traces, "covered"),
    "does not ask what was sent": (_forgets_what_it_sent, "sent again"),
    "leaves out the last millisecond of an interval": (_leaves_out_the_last_millisecond, "covered"),
    "notes spans before it sends them": (_notes_before_it_sends, "noted as accepted"),
    "sends rows that have not ended": (_never_waits, "too early"),
    "keeps traces pending for ever": (_never_looks_after_pending_traces, "pending at the end"),
    "takes rows from outside of its intervals": (_reaches_out_of_its_intervals, ""),
    "notes all but the last span of a batch": (_drops_the_last_batch, "sent again"),
    "looks up no roots": (_loses_the_session, "without the session"),
}


#: The same, of what shows only in odd surroundings.
ODD_BREAKS: Mapping[str, tuple[Break, str, str]] = {
    "takes a web page for Kelet's word": (_takes_any_success_for_kelets, "LOST", "not kelet"),
    "sends what a backfill sends": (_sends_what_a_backfill_sends, "sent again", "backfill"),
    "believes its own clock": (_believes_its_own_clock, "", "clocks"),
    "sends before Langfuse's store has merged": (_sends_before_the_store_has_merged, "", "unmerged"),
    "takes a page for as odd as a row of it": (_takes_a_page_for_as_odd_as_a_row_of_it, "", "odd rows"),
    "never sends less at once": (_never_sends_less_at_once, "", "gateway"),
    "has one limit for all that it asks": (_has_one_bucket, "", "buckets"),
    "never reads a key again": (_never_reads_a_key_again, "", "rotation"),
    "takes an old state file for the newest": (_takes_an_old_file_for_the_newest, "an old state file", "restore"),
    "writes into a file without a name": (_writes_into_a_file_without_a_name, "", "gone"),
    "takes all sources for one": (_takes_all_sources_for_one, "", "sources"),
    "verifies nothing": (_verifies_nothing, "verify found", ""),
    "leaves a trace out but for its error": (_sends_an_error_alone, "", "filters"),
    "decides anew on what comes late": (_decides_by_each_row, "", "filters"),
    "counts nothing again": (_counts_nothing_again, "LOST", "v1"),
    "schedules by the machine's clock": (_schedules_by_the_machines_clock, "LOST", "run,clocks"),
    "sends signals before their spans": (_sends_signals_before_their_spans, "before the spans", "scores"),
    "takes `updatedAt` for the content of a score": (_takes_updated_at_for_the_content, "LOST the signal", "scores"),
    "notes signals before it sends them": (_notes_signals_before_it_sends_them, "noted as accepted", "scores"),
    "sends a signal in each cycle": (_sends_a_signal_in_each_cycle, "was sent again", "scores"),
    "ignores a pause": (_ignores_a_pause, "although everything is paused", "pauses"),
    "keeps the context of a trace as listed": (_keeps_the_context_as_listed, "is in the state file", "redaction"),
    "makes a key of pseudonyms each time": (_makes_a_key_of_pseudonyms_each_time, "and others", "redaction"),
    "sends scores as they were given": (_sends_scores_as_given, "was sent to", "redaction,scores"),
    "counts a day's spans for ever": (_counts_the_spans_of_a_day_for_ever, "LOST", "limit"),
    "ends a day too early": (_ends_a_day_too_early, "a day ended after", "limit"),
    "forgets what others send on a day": (_forgets_what_others_send, "spans were sent on a day", "limit,backfill"),
}


#: The seed that found a break lately: it is tried first, and the others only if it finds nothing any more.
FOUND_BY: Mapping[str, int] = {
    "counts an interval as covered before it is sent": 2,
    "makes no lookback scans": 0,
    "forgets pending traces": 2,
    "does not ask what was sent": 2,
    "leaves out the last millisecond of an interval": 2,
    "notes spans before it sends them": 2,
    "sends rows that have not ended": 0,
    "keeps traces pending for ever": 2,
    "takes rows from outside of its intervals": 36,
    "notes all but the last span of a batch": 2,
    "looks up no roots": 18,
    "takes a web page for Kelet's word": 7,
    "sends what a backfill sends": 13,
    "believes its own clock": 6,
    "sends before Langfuse's store has merged": 42,
    "takes a page for as odd as a row of it": 26,
    "never sends less at once": 58,
    "has one limit for all that it asks": 40,
    "never reads a key again": 7,
    "takes an old state file for the newest": 40,
    "writes into a file without a name": 40,
    "takes all sources for one": 7,
    "verifies nothing": 7,
    "leaves a trace out but for its error": 37,
    "decides anew on what comes late": 37,
    "counts nothing again": 0,
    "schedules by the machine's clock": 40,
    "sends signals before their spans": 6,
    "takes `updatedAt` for the content of a score": 40,
    "notes signals before it sends them": 7,
    "sends a signal in each cycle": 7,
    "ignores a pause": 3,
    "keeps the context of a trace as listed": 0,
    "makes a key of pseudonyms each time": 0,
    "sends scores as they were given": 0,
    "counts a day's spans for ever": 0,
    "ends a day too early": 17,
    "forgets what others send on a day": 27,
}


def _seeds(name: str, seeds: Iterable[int]) -> list[int]:
    return sorted(seeds, key=lambda seed: seed != FOUND_BY.get(name))


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation passes whatever the worker does, at least when it breaks in this way."""
    break_it, reported = BREAKS[name]
    break_it(monkeypatch)
    for seed in _seeds(name, SEEDS):
        if any(reported in finding for finding in simulate(seed, until=reported).wrong):
            return
    pytest.fail(f"a worker that {name} went unnoticed in {len(SEEDS)} seeds")


# What breaks in the middle may leave a file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ODD_BREAKS)
def test_an_odd_break_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation plays odd surroundings, and passes whatever the worker makes of them."""
    break_it, reported, world = ODD_BREAKS[name]
    break_it(monkeypatch)
    # Without end to its patience, a worker that nobody answers any more waits until the simulation gives up.
    for seed in _seeds(name, (seed for seed in ODD_SEEDS if draw(seed).patience is not None)):
        worlds = frozenset(filter(None, world.split(",")))
        if any(reported in finding for finding in simulate(seed, worlds, until=reported).wrong):
            return
    pytest.fail(f"a worker that {name} went unnoticed in {len(ODD_SEEDS)} seeds")
