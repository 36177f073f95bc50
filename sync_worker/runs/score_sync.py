"""Sends scores as signals: what of them is new, where each belongs, and what waits.

A score waits until its trace's spans were accepted. Only its id and a hash of its content are kept until then: it is
read again, many in a request, when its trace is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sync_worker.configured import ScoreOverride
from sync_worker.intervals import Interval
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.langfuse.score_reader import ConfigNotServed, ScorePage, ScoreReader, traces_of_session
from sync_worker.ledger import ScoreNote
from sync_worker.ledger.score_notes import WAITING
from sync_worker.ledger.state_keys import SCORES_FORGOTTEN_BEFORE
from sync_worker.ledger.stored_records import ReadScores
from sync_worker.otlp.signal_delivery import SignalDelivery
from sync_worker.pipeline.attribution import Attributor, Filtered, ScoreWait, Verdict
from sync_worker.pipeline.plan import SCANS_PER_WINDOW
from sync_worker.pipeline.session import Session
from sync_worker.records import Score, ScoreConfig
from sync_worker.redaction.protection import RedactionFailed
from sync_worker.runs.score_configs import ScoreConfigs
from sync_worker.selection import left_out_still
from sync_worker.signals.content import content_of
from sync_worker.signals.mapping import to_signal
from sync_worker.signals.score_names import Selection, override_for
from sync_worker.signals.signal_model import Attribution, EncodedSignal, Signal

if TYPE_CHECKING:
    from sync_worker.signals.evaluation import Event

#: Waiting scores that are looked at in one cycle, and those that are read again in one request.
_AT_ONCE = 1_000
#: The same where all are looked at.
_MOST_AT_ONCE = 20_000
_EVER_MS = 2**62
_READ_AT_ONCE = 100
#: Sessions that are looked up in one cycle: each takes a request.
_SESSIONS_AT_ONCE = 10
_TRACES_OF_SESSION = 20
#: Waits for the next look, in milliseconds, by reason, and the longest; each look-up at Langfuse doubles it.
_SOON_MS = 30_000
_LOOK_UP_MS = {"not_synced": 60_000, "no_trace": 600_000, "not_found": 60_000, "no_config": 60_000}
_LONGEST_MS = 6 * 3_600_000
#: The key of the metadata of a signal under which the metadata of its score is.
_OWN_METADATA = "langfuse_metadata"
#: Keys of the metadata of a signal whose values are ids: two must not become one.
_IDENTIFIERS = frozenset(
    {"langfuse_score_id", "langfuse_trace_id", "langfuse_observation_id", "langfuse_author_id", "langfuse_queue_id"}
)


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """What the settings say of scores. `deepest_ms` is the longest lookback window of scores."""

    wanted: tuple[str, ...]
    overrides: tuple[ScoreOverride, ...]
    send_edits: bool
    with_authors: bool
    deepest_ms: int

    @property
    def selection(self) -> Selection:
        """Which scores are sent."""
        return Selection(self.wanted, tuple((one.match, one.skip) for one in self.overrides))

    def takes(self, name: str) -> bool:
        """Whether scores of this name are sent."""
        return self.selection.takes(name)


@dataclass(slots=True)
class ScoreSync:
    """Processes the scores of one source. `project_id` is Langfuse's."""

    session: Session
    client: LangfuseClient
    reader: ScoreReader
    delivery: SignalDelivery
    attributor: Attributor
    configs: ScoreConfigs
    settings: ScoreSettings
    project_id: str
    all_due: bool = False
    _sessions_left: int = _SESSIONS_AT_ONCE
    _looked_up: dict[str, Verdict] = field(default_factory=dict)
    #: Before which date notes may be forgotten, Unix ms, and what was read of scores and by which names.
    _read: tuple[int, list[tuple[ReadScores, Selection]]] | None = None

    async def take(self, page: ScorePage) -> None:
        """Process scores that were listed: note what is new or changed, and send what can be. Raises as the parts.

        What waits for a later look is left alone, except in a backfill, which has just sent traces.
        """
        session = self.session
        session.report.scores_read += len(page.scores)
        session.report.scores_unreadable += page.unreadable
        written = sorted(page.scores, key=lambda score: score.updated_ms or 0)  # of one that repeats, the newest
        scores = {score.id: score for score in written if self.settings.takes(score.name)}
        known = session.ledger.scores(session.source_id, scores)
        scores = {one: score for one, score in scores.items() if one in known or not self._was_taken(score)}
        now = session.clock.now_ms()
        notes = {score_id: self._triage(score, known.get(score_id), now) for score_id, score in scores.items()}
        session.ledger.store_scores(
            session.source_id, [note for score_id, note in notes.items() if note != known.get(score_id)]
        )
        due = [note for note in notes.values() if note.state == WAITING and (self.all_due or note.check_ms <= now)]
        await self._send(due, scores)

    async def take_waiting(self) -> None:
        """Look at scores that wait and are due. Raises as the parts."""
        session = self.session
        now = session.clock.now_ms()
        until, most = (_EVER_MS, _MOST_AT_ONCE) if self.all_due else (now, _AT_ONCE)
        due = session.ledger.scores_waiting(session.source_id, until, most)
        if not due:
            return
        verdicts = await self._verdicts(due)
        self._note_others(due, verdicts)
        ready = [note for note in due if isinstance(verdicts[note.score_id], Attribution)]
        for start in range(0, len(ready), _READ_AT_ONCE):
            await self.send_again([note.score_id for note in ready[start : start + _READ_AT_ONCE]])

    def revive(self, interval: Interval) -> None:
        """Have scores of an interval wait again whose trace was not there, or was left out by rules of then.

        A trace that is forgotten is looked up, unless the rule that left it out is still set.
        """
        session = self.session
        notes = session.ledger.scores_within(session.source_id, interval)
        now = session.clock.now_ms()
        filtered = [note for note in notes if note.state == "filtered" and note.trace_id is not None]
        known = self.attributor.known({str(note.trace_id) for note in filtered})
        let_in = {note.score_id for note in filtered if self._is_let_in(note, known)}
        given_up = [note for note in notes if note.state in {"no_trace", "gone"} or note.score_id in let_in]
        again = [replace(note, state=WAITING, reason=None, check_ms=0, tries=0, seen_ms=now) for note in given_up]
        session.ledger.store_scores(session.source_id, again)

    async def send_again(self, ids: Sequence[str]) -> None:
        """Read scores by their ids and process them; those that are gone are noted as deleted."""
        found: set[str] = set()
        async for page in self.reader.by_id(ids):
            found |= {score.id for score in page.scores}
            await self.take(page)
        self.note_deleted([score_id for score_id in ids if score_id not in found])

    async def check_deleted(self, interval: Interval, listed: set[str]) -> None:
        """Find scores of an interval that was listed completely and that are not in Langfuse any more."""
        session = self.session
        missing = [
            note.score_id
            for note in session.ledger.scores_within(session.source_id, interval)
            if note.score_id not in listed and note.state != "deleted"
        ]
        if missing:
            await self.send_again(missing)

    def note_deleted(self, ids: Sequence[str]) -> None:
        """Note scores as deleted; one that was never sent is forgotten."""
        session = self.session
        notes = session.ledger.scores(session.source_id, ids)
        never_sent = [note.score_id for note in notes.values() if note.sent_content is None]
        session.ledger.drop_scores(session.source_id, never_sent, ids)
        gone = [note for note in notes.values() if note.sent_content is not None and note.state != "deleted"]
        session.ledger.store_scores(session.source_id, [replace(note, state="deleted", reason=None) for note in gone])
        session.report.scores_deleted += len(gone)

    def _was_taken(self, score: Score) -> bool:
        """Whether a score of which there is no note was taken before, and is forgotten since."""
        session = self.session
        if self._read is None:
            before = session.state.get(SCORES_FORGOTTEN_BEFORE, fresh=True) or 0
            stored = session.ledger.read_scores(session.source_id)
            self._read = before, [(read, Selection.from_text(read.selection)) for read in stored]
        before, reads = self._read
        since = 0 if score.created_ms is None else score.created_ms - score.timestamp_ms
        return score.timestamp_ms < before and any(
            read.interval.contains(score.timestamp_ms)
            and selection.takes(score.name)
            and (not read.window_ms or since < read.window_ms)
            for read, selection in reads
        )

    def _triage(self, score: Score, before: ScoreNote | None, now: int) -> ScoreNote:
        """Return the note of a score that was listed."""
        content = content_of(score)
        note = ScoreNote(score.id, content, score.timestamp_ms, score.trace_id, score.session_id, WAITING, now)
        if score.experiment_id is not None:
            self.session.report.scores_of_experiments += before is None
            return replace(note, state="experiment", seen_ms=now if before is None else before.seen_ms)
        if before is None:
            return note
        note = replace(
            note, sent_ms=before.sent_ms, sent_content=before.sent_content, project=before.project, seen_ms=now
        )
        if before.sent_content == content:
            return replace(note, state="sent", seen_ms=before.seen_ms)
        if before.sent_content is not None and not self.settings.send_edits:
            return replace(note, state="ignored", seen_ms=before.seen_ms)
        if before.content != content:
            return note
        if before.state in {"gone", "no_trace", "filtered"}:
            if self._may_go(note.trace_id, before.state):
                return note
            if before.state == "filtered" or before.check_ms > now:
                return replace(before, timestamp_ms=note.timestamp_ms)
            return replace(note, seen_ms=before.seen_ms, reason=before.state)  # its trace may have come late
        if before.state != "deleted":  # it waits, or is a dead letter
            return replace(before, timestamp_ms=note.timestamp_ms)
        return note

    def _is_let_in(self, note: ScoreNote, known: Mapping[str, Verdict]) -> bool:
        """Whether a rule left a score out, and its trace was sent since, or may have been and is forgotten."""
        verdict = known.get(note.trace_id or "")
        if verdict is None:
            return not left_out_still(self.session.policy.rules, note.reason)
        return isinstance(verdict, Attribution)

    def _may_go(self, trace_id: str | None, state: str) -> bool:
        """Whether a score that was given up, or left out, may be sent now, as far as the ledger alone knows."""
        if trace_id is None:
            return False
        verdict = self.attributor.known([trace_id]).get(trace_id)
        if verdict is None and state != "filtered":  # its root was not seen: it is looked up
            return bool(self.session.ledger.delivered_traces(self.session.source_id, [trace_id]))
        return isinstance(verdict, Attribution)

    async def _send(self, notes: Sequence[ScoreNote], scores: Mapping[str, Score]) -> None:
        """Send scores that wait, oldest first; note why others go on waiting."""
        if not notes:
            return
        session = self.session
        verdicts = await self._verdicts(notes)
        self._note_others(notes, verdicts)
        ready = [note for note in notes if isinstance(verdicts[note.score_id], Attribution)]
        own = session.ledger.own_scores(session.source_id, ready)
        for note in sorted(ready, key=lambda note: (note.timestamp_ms, note.score_id)):
            verdict = verdicts[note.score_id]
            if note.score_id in own and isinstance(verdict, Attribution):
                try:
                    body = await self.body_of(scores[note.score_id], verdict, note.sent_content)
                except RedactionFailed:  # nothing of it leaves; it is tried again, since rules may change
                    session.report.notes["scores that cannot be redacted"] += 1
                    self._postpone(note)
                    continue
                except ConfigNotServed:
                    session.report.notes["scores whose config Langfuse does not serve"] += 1
                    self._postpone(note, "no_config")
                    continue
                encoded = EncodedSignal(
                    note.score_id, note.content, note.timestamp_ms, note.trace_id, verdict.project, body
                )
                if session.delivery.is_closed(verdict.project) or not await self.delivery.send(encoded):
                    self._postpone(note)

    async def body_of(self, score: Score, attribution: Attribution, supersedes: bytes | None = None) -> bytes:
        """Return the body of the request for a score: a signal, or a log event for a target that takes none.

        Raises RedactionFailed, ConfigNotServed, and as the client where a config is asked for.
        """
        preset = self.delivery.client.target.preset
        if preset.takes_signals:
            return (await self.signal_of(score, attribution, supersedes)).body()
        from sync_worker.signals.evaluation import to_request  # noqa: PLC0415 - Kelet takes no log events

        resource = {"service.name": attribution.project}
        if preset.project_attribute is not None:
            resource[preset.project_attribute] = attribution.project
        return to_request(await self.event_of(score, attribution, supersedes), resource)

    async def event_of(self, score: Score, attribution: Attribution, supersedes: bytes | None = None) -> Event:
        """Return a score as the log event that is sent. Raises as `body_of`."""
        from sync_worker.signals.evaluation import to_event  # noqa: PLC0415 - Kelet takes no log events

        config, override = await self.config_of(score), override_for(score.name, self.settings.overrides)
        return to_event(
            score, self.project_id, self._shown(score, attribution), config, override,
            text=self.session.protection.text, identifier=self.session.protection.identifier, supersedes=supersedes,
        )  # fmt: skip

    async def signal_of(self, score: Score, attribution: Attribution, supersedes: bytes | None = None) -> Signal:
        """Return a score as the signal that is sent. Raises as `body_of`."""
        config, override = await self.config_of(score), override_for(score.name, self.settings.overrides)
        return self._redact(
            to_signal(
                score, self.project_id, self._shown(score, attribution), config, override,
                with_authors=self.settings.with_authors, supersedes=supersedes,
            )
        )  # fmt: skip

    async def config_of(self, score: Score) -> ScoreConfig | None:
        """Return the config of a score where it names one that there is. Raises as the client does."""
        return None if score.config_id is None else await self.configs.of(score.config_id)

    def _shown(self, score: Score, attribution: Attribution) -> Attribution:
        shown = None if score.trace_id is None else self.session.protection.identifier(score.trace_id)
        return replace(attribution, shown_trace_id=shown)

    def _redact(self, signal: Signal) -> Signal:
        """Return a signal without what is left out or redacted; its session id comes from a redacted context.

        Raises RedactionFailed.
        """
        protection = self.session.protection
        if not protection.digest:
            return signal
        kept = {**signal.metadata, _OWN_METADATA: protection.metadata(signal.metadata.get(_OWN_METADATA))}
        metadata = {
            key: protection.identifier(value) if key in _IDENTIFIERS and isinstance(value, str)
            else protection.value(value, key)
            for key, value in kept.items() if value is not None
        }  # fmt: skip
        return replace(
            signal,
            value=None if signal.value is None else protection.text(signal.value),
            trigger_name=protection.identifier(signal.trigger_name),
            metadata=metadata,
        )

    def _postpone(self, note: ScoreNote, reason: str | None = None) -> None:
        """Look again later at a score that was not delivered: its lane is closed, or Kelet fails at it.

        With a `reason` less often each time.
        """
        found = self.session.ledger.scores(self.session.source_id, [note.score_id])
        now = self.session.clock.now_ms()
        later: list[ScoreNote] = []
        for one in found.values():
            tries = one.tries + 1 if reason is not None and reason == one.reason else one.tries
            wait = _SOON_MS if reason is None else min(_LONGEST_MS, _LOOK_UP_MS[reason] << min(tries, 12))
            check_ms = max(one.check_ms, now + wait)  # at one that Kelet failed at, later already
            later.append(replace(one, reason=reason or one.reason or "pending", tries=tries, check_ms=check_ms))
        self.session.ledger.store_scores(self.session.source_id, later)

    async def _verdicts(self, notes: Sequence[ScoreNote]) -> dict[str, Verdict]:
        """Return where each score belongs, or why it waits, by its id."""
        sessions = await self._traces_of_sessions([note for note in notes if note.trace_id is None])
        traces = {note.trace_id: note.timestamp_ms for note in notes if note.trace_id is not None}
        for note in notes:
            if note.trace_id is None and note.session_id is not None:
                traces |= dict.fromkeys(sessions.get(note.session_id, ()), note.timestamp_ms)
        found = self.attributor.known(traces)
        unknown = {
            trace_id: time
            for trace_id, time in traces.items()
            if trace_id not in found and trace_id not in self._looked_up
        }
        if unknown:
            self._looked_up |= await self.attributor.look_up(unknown)
        found |= {trace_id: self._looked_up[trace_id] for trace_id in traces if trace_id not in found}
        return {note.score_id: _verdict_of(note, found, sessions) for note in notes}

    async def _traces_of_sessions(self, notes: Sequence[ScoreNote]) -> dict[str, list[str]]:
        """Return traces of the sessions that scores are on, newest first; those not remembered are looked up."""
        session = self.session
        wanted = list(dict.fromkeys(note.session_id for note in notes if note.session_id is not None))
        shown = {session.protection.identifier(one) if session.protection.digest else one: one for one in wanted}
        known = session.ledger.traces_of_sessions(session.source_id, shown, _TRACES_OF_SESSION)
        found = {shown[session_id]: traces for session_id, traces in known.items()}
        for session_id in wanted:
            if session_id in found or self._sessions_left <= 0:
                continue
            self._sessions_left -= 1
            session.report.lookback_requests += 1
            listed = await traces_of_session(
                self.client, session.reader.api, session_id, session.clock.now_ms() + 86_400_000
            )
            found[session_id] = listed[:_TRACES_OF_SESSION]
        return found

    def _note_others(self, notes: Sequence[ScoreNote], verdicts: Mapping[str, Verdict]) -> None:
        """Note what of these cannot be sent: what is left out for good, and when to look again at what waits."""
        session, now = self.session, self.session.clock.now_ms()
        noted: list[ScoreNote] = []
        for note in notes:
            verdict = verdicts[note.score_id]
            if isinstance(verdict, Filtered):
                session.report.scores_filtered += 1
                noted.append(replace(note, state="filtered", reason=verdict.rule))
            elif isinstance(verdict, ScoreWait):
                noted.append(self._waiting(note, verdict.reason, now))
        session.ledger.store_scores(session.source_id, noted)

    def _waiting(self, note: ScoreNote, reason: str, now: int) -> ScoreNote:
        """Return the note of a score that goes on waiting, or that has waited long enough."""
        report, certain = self.session.report, self.session.clock.certain_ms()
        waited = certain - note.seen_ms
        was_given_up = note.reason in {"gone", "no_trace"}
        if reason == "not_found" and waited >= self.session.readiness_limits.max_open:
            report.scores_gone += not was_given_up
            return self._given_up(note, "gone", now)
        # While the sync itself is behind, after an outage, a trace that it has not come to yet is not given up.
        until = min(certain, self.attributor.synced_to_ms) if reason == "not_synced" else certain
        if reason != "pending" and until - max(note.seen_ms, note.timestamp_ms) >= self.settings.deepest_ms:
            report.scores_without_trace += not was_given_up
            return self._given_up(note, "no_trace", now)
        first = _LOOK_UP_MS.get(reason)
        tries = 0 if first is None or reason != note.reason else note.tries + 1
        wait = _SOON_MS if first is None else min(_LONGEST_MS, first << min(tries, 12))
        return replace(note, reason=reason, tries=tries, check_ms=now + wait)

    def _given_up(self, note: ScoreNote, state: str, now: int) -> ScoreNote:
        """Return the note of a score that waits no longer.

        While scans of the longest window list it, each of them looks its trace up again.
        """
        wait = min(_LONGEST_MS, self.settings.deepest_ms // SCANS_PER_WINDOW)
        return replace(note, state=state, reason=None, check_ms=now + wait)


def _verdict_of(note: ScoreNote, traces: Mapping[str, Verdict], sessions: Mapping[str, Sequence[str]]) -> Verdict:
    """Return the verdict on a score: that on its trace, or of a session the best that is known of its traces."""
    if note.trace_id is not None:
        return traces[note.trace_id]
    found = [traces[trace_id] for trace_id in sessions.get(note.session_id or "", ())]
    for verdict in found:
        if isinstance(verdict, Attribution) and verdict.session_id is not None:
            return verdict
    waits = [verdict for verdict in found if isinstance(verdict, ScoreWait)]
    order = ("pending", "not_synced", "no_trace", "not_found")
    if waits:
        return min(waits, key=lambda wait: order.index(wait.reason))
    return next((verdict for verdict in found if isinstance(verdict, Filtered)), ScoreWait("not_found"))
