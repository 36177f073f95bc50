"""All metrics: name, kind, labels and meaning, in one table. Values come from `ledger_metrics` and `measurements`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sync_worker import measurements
from sync_worker.measurements import Histogram, Labels

#: Before the name of each metric.
PREFIX: Final = "sync_worker_"
#: Values of one label that are shown each by itself; the rest is one, `other`.
MOST_VALUES, OTHER = 50, "other"

Kind = Literal["gauge", "counter", "histogram"]
#: The values of metrics: by name without the prefix, then by labels.
Samples = dict[str, dict[Labels, float | Histogram]]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, named without the prefix. `rest`: how values under the label `other` become one.

    `measured`: it counts from the start of the process, under this name in `measurements`. `of_run`: only `run` has it.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    rest: Literal["sum", "max", "min"] = "sum"
    measured: str = ""
    bounds: tuple[float, ...] = ()
    of_run: bool = False

    @property
    def full_name(self) -> str:
        """The name as it is exported."""
        return PREFIX + self.name


def _gauge(name: str, labels: str, meaning: str, rest: Literal["sum", "max", "min"] = "max") -> Metric:
    return Metric(name, "gauge", tuple(labels.split()), meaning, rest)


def _measured(name: str, kind: Kind, labels: str, meaning: str, measured: str) -> Metric:
    bounds = measurements.BOUNDS.get(measured, ())
    return Metric(name, kind, tuple(labels.split()), meaning, "sum", measured, bounds)


#: Upper bounds of the arrival delay, in seconds, as the state file counts it.
ARRIVAL_BOUNDS: Final = (30.0, 60.0, 120.0, 300.0, 660.0, 1_200.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0, 172_800.0)

METRICS: Final[tuple[Metric, ...]] = (
    _gauge("build_info", "version", "Always 1; the label has the version of the worker."),
    # How it stands, from the state file.
    _gauge(
        "watermark_timestamp_seconds",
        "source",
        "The watermark: up to here the live sync is complete without a gap; none before its first cycle.",
        "min",
    ),
    _gauge("lag_seconds", "source", "Time from the watermark to now."),
    _gauge("gap_seconds", "source", "Length of all gaps between completed intervals of the live sync.", "sum"),
    _gauge("pending_traces", "source", "Number of pending traces.", "sum"),
    _gauge("spans_today", "source", "Spans that were accepted today (UTC).", "sum"),
    _gauge("spans_daily_limit", "source", "SYNC_MAX_SPANS_PER_DAY; none without a limit.", "sum"),
    _gauge(
        "paused",
        "source kelet_project outcome",
        "1 while a source, or one Kelet project of it, is paused by `pause` (`operator`), or while a source is paused"
        " until the next day (`daily_limit`). `kelet_project` is empty if the whole source is paused.",
    ),
    _gauge(
        "oldest_pending_timestamp_seconds", "source", "Since when the oldest pending trace has been pending; none "
                                                      "without pending traces.", "min"
    ),
    _gauge("dead_letters", "source outcome", "Spans and scores in the dead letters, by kind.", "sum"),
    _gauge(
        "scores",
        "source outcome",
        "Remembered scores by state: `sent`, `filtered`, `no_trace` and so on; scores that wait for the spans of "
        "their trace by reason, such as `waiting_pending` or `waiting_failing`. None without SYNC_SCORES.",
        "sum",
    ),
    _gauge(
        "last_score_listing_timestamp_seconds",
        "source",
        "When the newest scores were last listed; none without SYNC_SCORES.",
        "min",
    ),
    _gauge("last_cycle_timestamp_seconds", "source", "When the last cycle ended, successful or not.", "min"),
    _gauge(
        "last_successful_cycle_timestamp_seconds",
        "source",
        "When the last successful cycle ended; dead letters do not make it unsuccessful.",
        "min",
    ),
    _gauge(
        "last_cycle_outcome",
        "source outcome",
        "1 for the outcome of the last cycle, 0 for the others: `ok`, `dead_letters`, `transient`, `settings`, "
        "`credentials`, `paused`, or `paused_on_purpose` if only `pause` or the daily limit ended it.",
    ),
    _gauge(
        "langfuse_request_limit",
        "source endpoint",
        "Limit of requests to Langfuse, as reported by Langfuse or set by SYNC_REQUESTS_PER_MINUTE, by rate limit; "
        "none while no limit is known.",
    ),
    _gauge(
        "langfuse_request_quota",
        "source endpoint",
        "Requests of this limit that all runs on this state file may use: SYNC_BUDGET_SHARE of a reported limit, or "
        "all of a set one.",
    ),
    _gauge(
        "langfuse_requests_remaining",
        "source endpoint",
        "Requests of the quota that are still free; 0 during a wait that Langfuse asked for.",
        "min",
    ),
    _gauge("state_file_bytes", "", "Size of the state file, its write-ahead log included."),
    _gauge("state_file_system_free_bytes", "", "Free space on the state file's file system.", "min"),
    _gauge("state_file_system_size_bytes", "", "Size of that file system."),
    _gauge("live_lease_held", "", "1 while a live sync holds its lease, as `once` and `run` do."),
    _gauge("backfill_lease_held", "", "1 while a backfill holds its lease."),
    Metric(
        "spans_total",
        "counter",
        ("source", "kelet_project", "outcome"),
        "Spans that were `accepted`, by Kelet project, and spans that became dead letters, by their kind; what a "
        "partial success rejected counts as both. Counted by all commands, and kept in the state file.",
    ),
    Metric(
        "signals_total",
        "counter",
        ("source", "kelet_project", "outcome"),
        "Signals that were accepted, by Kelet project: `accepted`, or `edited` where they supersede an earlier one of "
        "their score; and scores that became dead letters, as `rejected`. Counted by all commands, and kept in the "
        "state file.",
    ),
    Metric(
        "arrival_delay_seconds",
        "histogram",
        ("source",),
        "Time from the end of an observation to when it was first seen. It has no sum. Kept in the state file.",
        bounds=ARRIVAL_BOUNDS,
    ),
    # What the process counts.
    _measured("cycles_total", "counter", "source outcome", "Cycles by outcome.", measurements.CYCLES),
    _measured(
        "cycle_duration_seconds", "histogram", "source", "How long cycles took, waits included.",
        measurements.CYCLE_SECONDS,
    ),
    _measured(
        "langfuse_requests_total",
        "counter",
        "source endpoint code",
        "Requests to Langfuse, by endpoint and status; `none` without a response.",
        measurements.LANGFUSE_REQUESTS,
    ),
    _measured(
        "target_requests_total",
        "counter",
        "source kelet_project endpoint code",
        "Requests to Kelet, or another target, with spans (`traces`) or scores (`signals`), by status; `none` without"
        " a response.",
        measurements.TARGET_REQUESTS,
    ),
    _measured(
        "received_bytes_total", "counter", "source", "Bytes of Langfuse's responses, on the wire.",
        measurements.RECEIVED_BYTES,
    ),
    _measured(
        "sent_bytes_total", "counter", "source", "Bytes of requests to the target, on the wire.",
        measurements.SENT_BYTES,
    ),
    _measured(
        "delivery_duration_seconds", "histogram", "source", "Time from a request with spans to its response.",
        measurements.DELIVERY_SECONDS,
    ),
    _measured(
        "request_spans", "histogram", "source", "Number of spans in accepted requests.", measurements.REQUEST_SPANS
    ),
    Metric(
        "clock_offset_seconds",
        "gauge",
        ("source",),
        "How far this machine's clock is ahead of Langfuse's; negative: behind.",
        "max",
        of_run=True,
    ),
    Metric("loop_tick_age_seconds", "gauge", (), "Time since the event loop last ran.", "max", of_run=True),
)  # fmt: skip


def bounded(metric: Metric, samples: dict[Labels, float | Histogram]) -> dict[Labels, float | Histogram]:
    """Return the samples with at most `MOST_VALUES` values of each label, those that come first, and `other`."""
    kept: list[dict[str, None]] = [{} for _ in metric.labels]
    for labels in samples:
        for values, label in zip(kept, labels, strict=True):
            if len(values) < MOST_VALUES:
                values.setdefault(label)
    found: dict[Labels, float | Histogram] = {}
    for labels, value in samples.items():
        shown = tuple(one if one in values else OTHER for values, one in zip(kept, labels, strict=True))
        found[shown] = _together(metric, found[shown], value) if shown in found else value
    return found


def _together(metric: Metric, one: float | Histogram, other: float | Histogram) -> float | Histogram:
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        counts = tuple(first + second for first, second in zip(one.counts, other.counts, strict=True))
        return Histogram(counts, None if one.total is None or other.total is None else one.total + other.total)
    if isinstance(one, Histogram) or isinstance(other, Histogram):
        raise TypeError(f"{metric.name} has values of two kinds")
    return {"sum": one + other, "max": max(one, other), "min": min(one, other)}[metric.rest]
