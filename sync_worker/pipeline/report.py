"""The report of a run: the body of `--json` and the closing line."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sync_worker.times import iso_time
from sync_worker.wording import counted

#: Counts that are numbers of the run's end, or of the whole source, and so no sums over its processes.
_NO_SUMS = frozenset({"traces_pending", "scores_waiting"})


@dataclass(slots=True)
class SourceReport:
    """Counts of one source in one run."""

    source: str
    target: str = "kelet"  # its name
    intervals: int = 0  # intervals completed
    observations_read: int = 0
    spans_sent: int = 0
    spans_changed: int = 0  # of those sent, sent before in another state
    observations_unchanged: int = 0  # read again, sent before
    traces_sent: int = 0
    traces_pending: int = 0  # at the end of the run
    traces_vanished: int = 0  # pending, then gone at the source
    traces_given_up: int = 0  # sent, without a root that is no longer looked up
    traces_filtered: int = 0  # left out by a rule, counted when that was decided
    observations_filtered: int = 0  # of traces that are left out
    dead_letters: int = 0
    scores_read: int = 0
    scores_unreadable: int = 0  # of the answers, left out
    signals_sent: int = 0
    signals_changed: int = 0  # of those sent, edits of scores that were sent before
    scores_filtered: int = 0  # their trace is left out by a rule
    scores_of_experiments: int = 0  # left out
    scores_gone: int = 0  # their trace is not in Langfuse
    scores_without_trace: int = 0  # given up: the sync does not come to where their trace starts
    scores_deleted: int = 0  # in Langfuse, after they were sent
    scores_waiting: int = 0  # at the end of the run, for the spans of their trace
    langfuse_requests: int = 0
    lookback_requests: int = 0  # of these; lookups of roots not counted
    kelet_requests: int = 0  # to the target
    bytes_sent: int = 0  # to the target, on the wire
    complete_to_ms: int | None = None  # watermark, Unix ms
    late_unseen_from_ms: int | None = None  # of a backfill: late-arriving observations from here, Unix ms,
    late_unseen_to_ms: int | None = None  # to here are found by no run
    error: str | None = None  # what ended the source's part of the run, if anything did
    notes: Counter[str] = field(default_factory=Counter)  # oddities of the data, by kind
    filtered: Counter[str] = field(default_factory=Counter)  # traces left out, by rule
    not_read: list[str] = field(default_factory=list)  # environments that Langfuse was not asked for: no count

    def as_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        values = asdict(self)
        values["notes"] = {key: count for key, count in sorted(self.notes.items()) if count}
        values["filtered"] = dict(sorted(self.filtered.items()))
        return values

    def add(self, job: SourceReport) -> None:
        """Add the counts of a job, a process that did a part of the run; what is no sum is the run's own to report."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(job, name))
        self.notes.update(job.notes)
        self.filtered.update(job.filtered)
        self.not_read = self.not_read or job.not_read

    def hints(self) -> list[str]:
        """Return lines for people about what this run leaves open, and how to complete it."""
        if self.late_unseen_from_ms is None or self.late_unseen_to_ms is None:
            return []
        start, end = iso_time(self.late_unseen_from_ms), iso_time(self.late_unseen_to_ms)
        return [
            (
                f"{self.source}: late-arriving observations in {start} to {end} are not found: no lookback "
                f"scan reaches there. Try, later: verify --from {start} --to {end}; --repair --resend sends them"
            )
        ]

    def line(self) -> str:
        """Return the counts as one line for people."""
        parts = [f"{counted(self.spans_sent, 'span')} sent in {counted(self.kelet_requests, 'request')}"]
        if self.spans_changed:
            parts.append(f"{self.spans_changed:,} of them changed since they were sent")
        filtered = counted(self.observations_filtered, "observation")
        for count, noun, words in (
            (self.observations_unchanged, "observation", "unchanged"),
            (self.traces_pending, "trace", "pending"),
            (self.traces_vanished, "trace", "gone at the source"),
            (self.traces_given_up, "open trace", "no longer looked up for a root"),
            (self.traces_filtered, "trace", f"filtered ({filtered})"),
            (0 if self.traces_filtered else self.observations_filtered, "observation", "of filtered traces"),
            (self.dead_letters, "dead letter", ""),
            (self.signals_sent, "signal", "sent"),
            (self.scores_waiting, "score", "waiting"),
            (self.scores_filtered + self.scores_of_experiments, "score", "left out"),
            (self.scores_gone + self.scores_without_trace, "score", "without a trace"),
            (self.scores_deleted, "sent score", "deleted in Langfuse"),
        ):
            if count:
                parts.append(f"{counted(count, noun)} {words}".rstrip())
        read, requests = counted(self.observations_read, "observation"), counted(self.langfuse_requests, "request")
        parts.append(f"{read} read in {requests}")
        if self.not_read:
            parts.append(f"not read: environment {', '.join(self.not_read)}")
        return f"{self._label}: " + ", ".join(parts)

    @property
    def _label(self) -> str:
        """The source, with its target where that is not the usual one and not in its name."""
        is_named = self.target == "kelet" or self.source.endswith(f"/{self.target}")
        return self.source if is_named else f"{self.source} ({self.target})"


#: Counts whose sum over the processes of a run is that of the run.
_SUMS = tuple(one.name for one in fields(SourceReport) if one.type == "int" and one.name not in _NO_SUMS)
