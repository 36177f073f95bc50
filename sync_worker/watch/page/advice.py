"""What is wrong with a source by what the state file says, and what to type. The runbooks have the long form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sync_worker.ledger.pauses import Pause
from sync_worker.sync.engine import PAUSED_ON_PURPOSE
from sync_worker.times import iso_time
from sync_worker.watch.page.html import shortened
from sync_worker.watch.page.view import SourceView, View
from sync_worker.watch.page.words import duration, size
from sync_worker.wording import counted

Level = Literal["bad", "warn", "note", "ok"]
#: By urgency.
LEVELS: Sequence[Level] = ("bad", "warn", "note", "ok")

#: As the alerts: behind, without a good cycle, a clock that is wrong, an event loop that hangs; scores not listed.
_BEHIND_MS, _NO_GOOD_MS, _SKEW, _HANGS, _NOT_LISTED_MS = 900_000, 1_800_000, 60.0, 120.0, 3_600_000
_LITTLE_ROOM, _LITTLE_SHARE = 256 * 2**20, 0.02
#: A pending trace that is older than SYNC_MAX_OPEN by this is no longer only waiting for its end.
_LONG_PENDING_MS = 3_600_000
_PLAIN = re.compile(r"[\w./-]{1,60}", re.ASCII)
#: A backfill is complete from here on: its end may have been now.
DONE = 0.999

#: What dead letters of a kind are, and what to do with them.
KINDS = {
    "rejected": ("the target rejected the span alone", "sync-worker dead-letters retry --all"),
    "partial": (
        "the target accepted a request but rejected some of its spans without naming them; a retry cannot find these",
        "sync-worker dead-letters list",
    ),
    "unreadable": (
        "Langfuse did not serve it, or it could not be read or converted; retried automatically",
        "sync-worker dead-letters list",
    ),
    "redaction": (
        "it could not be redacted, so nothing of it was sent; other rules may allow a retry",
        "sync-worker dead-letters retry --all",
    ),
    "score": ("the target rejected the signal of a score", "sync-worker dead-letters retry --all"),
}


@dataclass(frozen=True, slots=True)
class Advice:
    """Something to know, or to do: what is wrong, in general and of this source. `runbook`: of docs/monitoring.md."""

    level: Level
    subject: str
    detail: str
    text: str
    command: str | None = None
    runbook: str | None = None

    @property
    def title(self) -> str:
        """What is wrong, in one line."""
        return f"{self.subject}: {self.detail}" if self.detail else self.subject


#: What ends a cycle without its work done.
_ENDED = {
    "credentials": Advice(
        "bad",
        "A key was rejected",
        "",
        "By Langfuse or the target: `check` shows which. Nothing is marked as sent. A new key in a file is used "
        "without a restart.",
        "sync-worker check",
        "SyncWorkerCredentialsRefused",
    ),
    "settings": Advice(
        "bad",
        "Settings or state file cannot be used",
        "",
        "The last cycle ended with such an error. Nothing is marked as sent; the log has the reason.",
        "sync-worker check",
        "SyncWorkerNoSuccessfulCycle",
    ),
    "error": Advice(
        "bad",
        "The last cycle ended with an unexpected error",
        "",
        "Nothing counts as sent without a response, and the next cycle starts over. The log has the reason.",
        "sync-worker check",
        "SyncWorkerNoSuccessfulCycle",
    ),
}


def level_of(found: Iterable[Advice]) -> Level:
    """Return the most urgent level."""
    return min((one.level for one in found), key=LEVELS.index, default="ok")


def is_behind(source: SourceView, now_ms: int) -> bool:
    """Whether a source is further behind than its interval explains."""
    lag = source.lag_ms(now_ms)
    return lag is not None and lag > max(_BEHIND_MS, 3 * source.interval_ms)


def of_worker(view: View) -> list[Advice]:
    """Return what concerns the worker as a whole."""
    found = []
    if view.tick_age >= _HANGS:
        found.append(Advice(
            "bad", "The worker hangs", f"its event loop has not run for {duration(view.tick_age)}",
            "Restart it; nothing is lost.", "systemctl restart sync-worker-run", "SyncWorkerHangs",
        ))  # fmt: skip
    if view.free_bytes < _LITTLE_ROOM or view.free_bytes < view.total_bytes * _LITTLE_SHARE:
        found.append(Advice(
            "bad", "The disk of the state file is nearly full", f"{size(view.free_bytes)} left",
            "Without room for a commit nothing is sent, but nothing is lost. Free some space.", "df -h",
            "SyncWorkerDiskFull",
        ))  # fmt: skip
    found += [
        Advice(
            "warn", "Waiting", f"for {shortened(reason)}, {duration(left)} more",
            "It is retried without limit, and nothing is lost. `check` tests both sides.", "sync-worker check",
            "SyncWorkerNoSuccessfulCycle",
        )
        for reason, left in view.waits
    ]  # fmt: skip
    skew = max(view.offsets.values(), key=abs, default=0.0)
    if abs(skew) > _SKEW:
        found.append(Advice(
            "warn", "The clock of this machine is wrong", f"{duration(abs(skew))} {'ahead' if skew > 0 else 'behind'}",
            "Beyond five minutes the sync uses the servers' time.", "timedatectl", "SyncWorkerClockSkew",
        ))  # fmt: skip
    return found


def of_source(source: SourceView, now_ms: int) -> list[Advice]:
    """Return what is wrong with a source, most urgent first; what is only to know comes last."""
    found = [_of_pause(pause, now_ms) for pause in source.pauses]
    if source.limit_reached is not None:
        found.append(Advice(
            "warn", "The daily limit is reached", f"SYNC_MAX_SPANS_PER_DAY={source.limit_reached}",
            "Nothing is lost: it continues at 00:00 UTC, or after a restart with a higher limit.",
            "sync-worker once --dry-run", "SyncWorkerDailyLimit",
        ))  # fmt: skip
    elif not source.is_paused:
        found += _of_cycles(source, now_ms)
    found += [*_of_missing(source), *_of_waiting(source, now_ms)]
    return sorted(found, key=lambda one: LEVELS.index(one.level))


def _of_pause(pause: Pause, now_ms: int) -> Advice:
    until = "" if pause.until_ms is None else f", for {duration((pause.until_ms - now_ms) / 1000)} more"
    reason = "" if pause.reason is None else f" Reason: {shortened(pause.reason)}"
    subject = "Paused by an operator" if pause.project is None else "A Kelet project is paused by an operator"
    return Advice(
        "warn", subject, f"for {duration((now_ms - pause.since_ms) / 1000)}{until}",
        f"Nothing is lost; the sync catches up afterwards. `status` shows all pauses.{reason}", _resume(pause),
        "SyncWorkerPausedByOperator",
    )  # fmt: skip


def _resume(pause: Pause) -> str:
    """Return the command that ends a pause; names that a shell would not take as they are have to be looked up."""
    words = ["sync-worker", "resume", *([pause.source] if pause.source else [])]
    words += [] if pause.project is None else ["--project", pause.project]
    return " ".join(words) if all(_PLAIN.fullmatch(word) for word in words) else "sync-worker status"


def _of_cycles(source: SourceView, now_ms: int) -> Iterator[Advice]:
    cycle = source.cycle
    ended = None if cycle is None else _ENDED.get(cycle.outcome)
    no_good_ms = None if cycle is None else now_ms - (cycle.good_ms or 0)
    if ended is not None:
        yield ended
    elif cycle is not None and cycle.outcome == "paused":
        yield _paused(source)
    elif cycle is None or cycle.outcome == PAUSED_ON_PURPOSE:
        pass  # reported with the pause
    elif no_good_ms is not None and no_good_ms > max(_NO_GOOD_MS, 3 * source.interval_ms):
        since = "none yet" if cycle.good_ms is None else f"the last one was {duration(no_good_ms / 1000)} ago"
        yield Advice(
            "warn", "No successful cycle", since,
            "An outage of Langfuse or the target is retried without limit: then there is nothing to do, and nothing is "
            "lost. `check` tests both.", "sync-worker check", "SyncWorkerNoSuccessfulCycle",
        )  # fmt: skip
    if is_behind(source, now_ms):
        by = f"by {duration((source.lag_ms(now_ms) or 0) / 1000)}"
        if any(one.remaining == 0 for one in source.quotas):
            yield Advice(
                "warn", "Behind, with all requests to Langfuse used up", by,
                "`plan` shows what an hour costs. Raise SYNC_BUDGET_SHARE or SYNC_REQUESTS_PER_MINUTE, sync less, or "
                "wait for a backfill to end.", "sync-worker plan --from 1h --to now", "SyncWorkerBudgetExhausted",
            )  # fmt: skip
        else:
            yield Advice(
                "warn", "Behind", by,
                "After an outage it catches up by itself, and the lag falls. If it does not, `check` tests both sides.",
                "sync-worker check", "SyncWorkerLagging",
            )  # fmt: skip
    if source.watermark_ms is None and ended is None:
        yield Advice("note", "The first cycle has not ended", "", "It begins SYNC_START before the first run.")


def _paused(source: SourceView) -> Advice:
    if source.max_dead_letters is not None and source.dead >= source.max_dead_letters > 0:
        return Advice(
            "bad", "Paused", "it has as many dead letters as SYNC_MAX_DEAD_LETTERS allows",
            "Retry or drop them, or raise the setting. Nothing is lost.", "sync-worker dead-letters list",
            "SyncWorkerPaused",
        )  # fmt: skip
    if source.closed:
        return Advice(
            "bad", "Paused", f"Kelet does not know {counted(len(source.closed), 'project')} that traces go to",
            "Their traces are pending, others continue. Create the project, or correct KELET_PROJECT or the route.",
            "sync-worker check", "SyncWorkerPaused",
        )  # fmt: skip
    return Advice(
        "bad", "Paused", "a server rejects requests for a reason that a retry does not fix",
        "The log has the reason and what to try. Nothing is marked as sent.", "sync-worker check", "SyncWorkerPaused",
    )  # fmt: skip


def _of_missing(source: SourceView) -> Iterator[Advice]:
    if source.gaps:
        length = sum(gap.length for gap in source.gaps)
        yield Advice(
            "warn", "Gaps in what is synced", f"{len(source.gaps):,}, together {duration(length / 1000)}",
            "The next cycle reads them. If they remain, cycles are failing.", "sync-worker verify", "SyncWorkerGap",
        )  # fmt: skip
    if source.dead:
        yield Advice(
            "warn", "Dead letters", f"{source.dead:,}",
            "Spans or scores that could not be synced. They are kept with their reasons; everything else continues.",
            "sync-worker dead-letters list", "SyncWorkerDeadLetters",
        )  # fmt: skip


def _of_waiting(source: SourceView, now_ms: int) -> Iterator[Advice]:
    oldest = source.pending.oldest_ms
    if oldest is not None and now_ms - oldest > source.max_open_ms + _LONG_PENDING_MS:
        why = " Kelet does not know the project of some." if source.closed else ""
        yield Advice(
            "warn", "Traces are pending for longer than SYNC_MAX_OPEN",
            f"the oldest for {duration((now_ms - oldest) / 1000)}",
            f"Their content is read when they can be sent; `explain` shows what a trace waits for.{why}",
            "sync-worker status",
        )  # fmt: skip
    scores = source.scores
    if scores is not None and scores.counts.get("waiting: failing"):
        yield Advice(
            "warn", "The target fails at signals", f"{scores.counts['waiting: failing']:,} wait",
            "They are retried, and become dead letters after five runs.", "sync-worker scores test",
            "SyncWorkerSignalsFailing",
        )  # fmt: skip
    if scores is not None and scores.listed_ms is not None and now_ms - scores.listed_ms > _NOT_LISTED_MS:
        yield Advice(
            "warn", "Scores are not listed", f"for {duration((now_ms - scores.listed_ms) / 1000)}",
            "Langfuse may have no scores API, or the keys may not read scores; the log has the reason.",
            "sync-worker check", "SyncWorkerScoresNotRead",
        )  # fmt: skip
    backfill = source.backfill
    if backfill is not None and not backfill.runs and backfill.share < DONE:
        start, end = iso_time(backfill.interval.start), iso_time(backfill.interval.end)
        yield Advice(
            "note", "A backfill is not complete", f"{backfill.share:.0%}", "The same command resumes it.",
            f"sync-worker backfill --from {start} --to {end}",
        )  # fmt: skip
