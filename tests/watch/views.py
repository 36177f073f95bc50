"""Views of the status page, made up: one source or many, in order or not, with names that nobody would choose."""

from __future__ import annotations

import math
from typing import Any

from sync_worker.intervals import Interval
from sync_worker.ledger.history import SLOT_MS, SLOTS, Slot
from sync_worker.ledger.pauses import Pause
from sync_worker.ledger.stored_records import DeadLetterGroup, Pending
from sync_worker.runs.arrival_delay import ArrivalDelay
from sync_worker.watch.page.view import BackfillView, LastCycle, ScoresView, SourceView, View
from sync_worker.watch.quotas import RequestQuota

NOW = 1_795_694_400_000  # 2026-11-26T12:00Z
HOUR, DAY = 3_600_000, 86_400_000
_FIRST = NOW // SLOT_MS - SLOTS + 1

#: Names that would break out of where they are put, hide, or never end.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egnol dna desrever\u202c",
    "two\nlines\tand\x00more",
    "x" * 10_000,
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "&amp;&#60;</title></style>",
    "",
)


def slots(*, outage_hours: float = 0.0, is_over: bool = True, dead: int = 0, busy: float = 12.0) -> list[Slot]:
    """Return a day in which spans arrive, more of them at some time; for a while, in its middle or last, none did."""
    found = []
    first = SLOTS // 2 if is_over else SLOTS - int(outage_hours * 12)
    outage = range(first, first + int(outage_hours * 12))
    for at in range(-1, SLOTS):
        if at in outage:
            continue
        number = _FIRST + at
        spans = round(busy * 5 * (1 + math.sin(at / SLOTS * 6.3 - 1.6)) * (1 + (at * 7919 % 13) / 13))
        caught_up = len(outage) and at == outage.stop
        found.append(Slot(
            number, (number + 1) * SLOT_MS - 45_000 - (at * 104_729 % 40) * 1_000,
            spans * 8 if caught_up else spans, spans // 20, dead if at == SLOTS - 40 else 0,
        ))  # fmt: skip
    return found


def source(name: str = "shop", **changes: Any) -> SourceView:
    """Return a source in order, with all that it may have."""
    made = {
        "name": name, "target": "kelet", "project": "support_agent", "interval_ms": 60_000, "max_open_ms": 1_800_000,
        "max_dead_letters": 50_000, "langfuse_project": "Support", "sync_start_ms": NOW - 6 * DAY,
        "watermark_ms": NOW - 52_000, "live": [Interval(NOW - 6 * DAY, NOW - 52_000)],
        "backfilled": [Interval(NOW - 30 * DAY, NOW - 6 * DAY)],
        "backfill": BackfillView(Interval(NOW - 30 * DAY, NOW - 6 * DAY), NOW - 3 * DAY, 24 * DAY, 0, runs=False),
        "cycle": LastCycle("ok", NOW - 20_000),
        "delay": ArrivalDelay([120, 9_000, 700, 40, 12, 3, 1, 0, 0, 0, 0, 0]),
        "pending": Pending(14, NOW - 8 * 60_000), "filtered": 1_204,
        "quotas": [RequestQuota("public-api", 1_000, 800, 655, 60)],
        "scores": ScoresView({"sent": 812, "waiting: pending": 9, "filtered": 31, "experiment": 4}, NOW - 20_000),
        "slots": slots(),
    }  # fmt: skip
    return SourceView(**(made | changes))  # type: ignore[arg-type]


def broken(name: str = "web", dead: int = 50_000, **changes: Any) -> SourceView:
    """Return a source with everything wrong that can be at once."""
    gaps = [Interval(NOW - 3 * DAY + at * 4 * HOUR, NOW - 3 * DAY + at * 4 * HOUR + 600_000) for at in range(9)]
    made = {
        "watermark_ms": NOW - 3 * HOUR - 720_000,
        "gaps": gaps,
        "live": [Interval(NOW - 6 * DAY, NOW - 3 * HOUR - 720_000)],
        "backfill": BackfillView(Interval(NOW - 90 * DAY, NOW - 6 * DAY), NOW - HOUR, 84 * DAY, 31 * DAY, runs=True),
        "cycle": LastCycle("transient", NOW - 3 * HOUR), "pending": Pending(8_412, NOW - 9 * HOUR),
        "closed": ["billing_agent"], "slots": slots(outage_hours=3.2, is_over=False, dead=dead, busy=90.0),
        "dead_letters": [
            DeadLetterGroup("rejected", 422, dead - 3_321, NOW - 5 * HOUR, NOW - 3 * HOUR),
            DeadLetterGroup("unreadable", None, 3_000, NOW - 20 * HOUR, NOW - 4 * HOUR),
            DeadLetterGroup("partial", None, 200, NOW - 20 * HOUR, NOW - 4 * HOUR),
            DeadLetterGroup("redaction", None, 100, NOW - 20 * HOUR, NOW - 4 * HOUR),
            DeadLetterGroup("score", 400, 21, NOW - 20 * HOUR, NOW - 4 * HOUR),
        ] if dead else [],
        "quotas": [RequestQuota("public-api", 30, 24, 0, 60), RequestQuota("public-api-metrics", 100, 80, 80, 86_400)],
        "scores": ScoresView({"sent": 10, "waiting: failing": 3, "waiting: not_found": 41}, NOW - 4 * HOUR),
    }  # fmt: skip
    return source(name, **(made | changes))


def view(*sources: SourceView, **changes: object) -> View:
    """Return a view of these sources."""
    made = {
        "now_ms": NOW, "sources": sources, "size_bytes": 41 * 2**20, "free_bytes": 18 * 2**30,
        "total_bytes": 40 * 2**30, "live_runs": True, "backfill_runs": False,
    }  # fmt: skip
    return View(**(made | changes))  # type: ignore[arg-type]


def many() -> View:
    """Return twenty sources: most in order, some not, three with names that nobody would choose."""
    fine = [source(f"team-{number:02}", slots=slots(busy=2.0 + number)) for number in range(11)]
    refused = [
        source(f"refused-{number}", cycle=LastCycle("credentials", NOW - 2 * HOUR),
               watermark_ms=NOW - 2 * HOUR)
        for number in range(2)
    ]  # fmt: skip
    new = SourceView("new", "phoenix", "default", 60_000, 1_800_000, 50_000)
    paused = source("paused", pauses=[Pause("paused", None, NOW - 5 * HOUR, None, "a <migration>")])
    return view(broken(), paused, *fine, *refused, new, *(source(name) for name in HOSTILE[:4]), tick_age=1.0)
