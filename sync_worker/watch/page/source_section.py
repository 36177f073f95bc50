"""The part of the page about one source."""

from __future__ import annotations

from collections.abc import Sequence

from sync_worker.intervals import Interval
from sync_worker.ledger.history import SLOT_MS
from sync_worker.times import iso_time
from sync_worker.watch.page import charts
from sync_worker.watch.page.advice import DONE, KINDS, Advice, Level, level_of
from sync_worker.watch.page.html import Child, Markup, element, join, name, prose
from sync_worker.watch.page.view import BackfillView, ScoresView, SourceView
from sync_worker.watch.page.words import clock_time, duration, moment, rate
from sync_worker.wording import counted

_HOUR_SLOTS = 3_600_000 // SLOT_MS
_MOST_GAPS, _MOST_GROUPS = 6, 12
_DAY_MS = 86_400_000
_ANY_KIND = ("kept with its reason", "sync-worker dead-letters list")

#: What is on a time line.
_KEY = (("live", "live sync"), ("backfilled", "backfilled"), ("gap", "gap"), ("none", "not synced"))
#: Of each level its word, and the mark before it: neither is shown by its colour alone.
LABELS: dict[Level, tuple[str, str]] = {
    "ok": ("✓", "in order"),
    "note": ("i", "to know"),
    "warn": ("▲", "look"),
    "bad": ("✕", "act now"),
}
_SCORE_WORDS = {
    "sent": "sent",
    "waiting: pending": "wait: their trace is pending",
    "waiting: not_synced": "wait: their trace is not synced yet",
    "waiting: no_trace": "wait: their trace is in no completed interval; a backfill brings it",
    "waiting: not_found": "wait: Langfuse does not have their trace yet",
    "waiting: failing": "wait: the target fails at them",
    "waiting: new": "wait for the next cycle",
    "filtered": "left out with their trace, by a rule",
    "ignored": "edited after they were sent (SYNC_SCORE_UPDATES=ignore)",
    "gone": "their trace is not in Langfuse",
    "no_trace": "their trace is in no completed interval; no longer waited for",
    "experiment": "on experiments, left out",
    "rejected": "dead letters",
    "deleted": "deleted in Langfuse after they were sent",
}


def badge(level: Level) -> Markup:
    """Return the label of a level."""
    mark, word = LABELS[level]
    return element("span", element("span", mark, aria_hidden="true"), f" {word}", class_=f"badge {level}")


def advice_item(one: Advice, title: Child = None) -> Markup:
    """Return an advice as an item of a list, with another title where one is given."""
    return element(
        "li",
        element("p", badge(one.level), " ", element("strong", title or one.title)),
        element("p", prose(one.text), class_="small"),
        element("p", element("code", one.command, class_="type")) if one.command else None,
        element("p", f"{one.runbook} in docs/monitoring.md", class_="small soft") if one.runbook else None,
        class_=one.level,
    )


def spans_a_minute(source: SourceView, now_ms: int) -> float:
    """Return how many spans a minute arrived in the last hour."""
    return sum(slot.spans for slot in source.by_slot(now_ms)[-_HOUR_SLOTS:]) / 60


def section(
    number: int, source: SourceView, found: Sequence[Advice], now_ms: int, *, is_open: bool, is_alone: bool
) -> Markup:
    """Return the part of a source, which can be closed; `number` names it within the document.

    Where it is not alone, what to do is shown once for all sources before.
    """
    key, level, lag = f"source-{number}", level_of(found), source.lag_ms(now_ms)
    short = "not started" if lag is None else f"lag {duration(lag / 1000)}"
    return element(
        "details",
        element("summary", element("h3", name(source.name)), badge(level), element("span", short, class_="soft")),
        element(
            "div",
            _way(source),
            _advice(found, is_alone=is_alone),
            _figures(source, now_ms),
            _day(key, source, now_ms) if source.watermark_ms is not None or source.slots else None,
            _times(key, source, now_ms),
            _dead_letters(source),
            element(
                "div",
                _scores(source.scores) if source.scores is not None else None,
                _quotas(source),
                _backfill(source.backfill, now_ms) if source.backfill is not None else None,
                class_="blocks",
            ),
            class_="inside", id=key,
        ),
        class_="source", open=is_open,
    )  # fmt: skip


def _advice(found: Sequence[Advice], *, is_alone: bool) -> Child:
    if not found:
        return None
    if is_alone:
        return element("ul", join(advice_item(one) for one in found), class_="todo")
    lines = (element("li", badge(one.level), " ", one.title) for one in found)
    return element("ul", join(lines), class_="brief small")


def _way(source: SourceView) -> Markup:
    """Return from where to where it goes."""
    start: Child = join(["Langfuse project ", name(source.langfuse_project)]) if source.langfuse_project else "Langfuse"
    return element("p", start, " → ", name(source.target), ", project ", name(source.project), class_="small soft")


def _figures(source: SourceView, now_ms: int) -> Markup:
    lag, cycle, pending = source.lag_ms(now_ms), source.cycle, source.pending
    slots = source.by_slot(now_ms)
    within = source.delay.within(0.99)
    figures: list[tuple[str, str, Child]] = [
        ("Lag", "—" if lag is None else duration(lag / 1000),
         "not started" if source.watermark_ms is None else join(["complete to ", moment(source.watermark_ms)])),
        ("Spans a minute", rate(spans_a_minute(source, now_ms)),
         f"in the last hour; {sum(slot.spans for slot in slots):,} in 24 h"),
        ("Last good cycle", "—" if cycle is None or cycle.good_ms is None
         else f"{duration((now_ms - cycle.good_ms) / 1000)} ago",
         None if cycle is None else f"the last one ended: {cycle.outcome.replace('_', ' ')}"),
        ("Arrival delay", "—" if not source.delay.total else duration(within) if within else "over 2 d",
         "not counted yet" if not source.delay.total else "99 % are seen within this after their end"),
        ("Pending traces", f"{pending.count:,}",
         "all are sent" if pending.oldest_ms is None else join(["the oldest since ", moment(pending.oldest_ms)])),
        ("Dead letters", f"{source.dead:,}", "none" if not source.dead else "below, by reason"),
    ]  # fmt: skip
    if source.scores is not None:
        sent = sum(slot.signals for slot in slots)
        figures.append(("Signals in 24 h", f"{sent:,}", f"{source.scores.waiting:,} wait for their trace"))
    if source.filtered:
        figures.append(("Filtered traces", f"{source.filtered:,}", "left out by rules, and remembered"))
    return element(
        "dl",
        join(
            element("div", element("dt", title), element("dd", value, element("small", more) if more else None))
            for title, value, more in figures
        ),
        class_="figures",
    )


def _day(key: str, source: SourceView, now_ms: int) -> Markup:
    lags = [None if lag is None else lag / 1000 for lag in source.lags(now_ms)]
    slots = source.by_slot(now_ms)
    known = [(lag, at) for at, lag in enumerate(lags) if lag is not None]
    start = slots[0].number * SLOT_MS
    if known:
        most, at = max(known)
        words = f"now {duration(known[-1][0])}, at most {duration(most)} at {clock_time(start + at * SLOT_MS)}"
    else:
        words = "not known yet"
    top = charts.top_of(lags)
    rates = [slot.spans / (SLOT_MS / 60_000) for slot in slots]
    most_rate = max(rates)
    dead = sum(slot.dead_letters for slot in slots)
    spoken = f"at most {rate(most_rate)} a minute, {counted(sum(slot.spans for slot in slots), 'span')}"
    if dead:
        spoken += f"; {counted(dead, 'new dead letter')}, where a dashed line is"
    top_rate = charts.round_up(max(most_rate, 1.0))
    return join([
        element(
            "div",
            _figure("Lag", words, f"{duration(top)}", start,
                    charts.lines(f"{key}-lag", "Lag in the last 24 hours", words, lags, top)),
            _figure("Spans a minute", spoken, rate(top_rate), start,
                    charts.bars(f"{key}-spans", "Spans a minute in the last 24 hours", spoken, rates, top_rate,
                                [bool(slot.dead_letters) for slot in slots])),
            class_="charts",
        ),
        _hours(source, lags, now_ms),
    ])  # fmt: skip


def _figure(title: str, words: str, top: str, start_ms: int, drawing: Markup) -> Markup:
    times = [clock_time(start_ms + step * _DAY_MS // 4) for step in range(4)]
    return element(
        "figure",
        element("figcaption", element("b", title), f", last 24 hours: {words}"),
        element("div", element("span", top), class_="axis", aria_hidden="true"),
        drawing,
        element("div", join(element("span", time) for time in [*times, "now"]), class_="axis", aria_hidden="true"),
    )  # fmt: skip


def _hours(source: SourceView, lags: Sequence[float | None], now_ms: int) -> Markup:
    """Return the day as a table: what the drawings say, for whoever does not see them."""
    slots, rows = source.by_slot(now_ms), list[Markup]()
    for at in range(0, len(slots), _HOUR_SLOTS):
        some = slots[at : at + _HOUR_SLOTS]
        known = [lag for lag in lags[at : at + _HOUR_SLOTS] if lag is not None]
        rows.append(element(
            "tr", element("th", clock_time(some[0].number * SLOT_MS), scope="row"),
            _number(duration(max(known)) if known else "—"), _number(f"{sum(one.spans for one in some):,}"),
            _number(f"{sum(one.signals for one in some):,}"), _number(f"{sum(one.dead_letters for one in some):,}"),
        ))  # fmt: skip
    return element(
        "details",
        element("summary", "The last 24 hours as a table"),
        table("By hour, from the time in the first column on; dead letters are those that were made then",
              ["Hour", "#Highest lag", "#Spans", "#Signals", "#Dead letters"], rows),
        class_="more",
    )  # fmt: skip


def _times(key: str, source: SourceView, now_ms: int) -> Child:
    """Return the time line of what is synced, its gaps in words too."""
    starts = [one.start for one in (*source.live, *source.backfilled)]
    starts += [] if source.sync_start_ms is None else [source.sync_start_ms]
    if not starts:
        return None
    whole = Interval(min(starts), now_ms)
    length = sum(gap.length for gap in source.gaps)
    words = f"{counted(len(source.gaps), 'gap')}" + (f", {duration(length / 1000)} together" if source.gaps else "")
    lag = source.lag_ms(now_ms) or 0
    gaps = [
        element("li", moment(gap.start), " to ", _end(gap), f", {duration(gap.length / 1000)}")
        for gap in source.gaps[:_MOST_GAPS]
    ]
    left = len(source.gaps) - len(gaps)
    backfilled = duration(sum(one.length for one in source.backfilled) / 1000)
    spoken = f"{words}; backfilled: {backfilled}; the last {duration(lag / 1000)} are not read yet."
    return element(
        "figure",
        element("figcaption", element("b", "Synced time"), ", from ", moment(whole.start), f" to now: {words}"),
        charts.timeline(
            f"{key}-times", "What is synced, by time", spoken, whole,
            [("backfilled", source.backfilled), ("live", source.live), ("gap", source.gaps)],
        ),
        element("div", element("span", moment(whole.start)), element("span", "now"), class_="axis", aria_hidden="true"),
        element("ul", join(element("li", charts.swatch(kind), word) for kind, word in _KEY), class_="key",
                aria_hidden="true"),
        element("ul", join(gaps), element("li", f"and {left:,} more") if left else None, class_="plain small gaps")
        if gaps else None,
    )  # fmt: skip


def _end(interval: Interval) -> Markup:
    """Return the end of an interval, without its date where that is the date of the start."""
    start, end = iso_time(interval.start), iso_time(interval.end)
    return moment(interval.end) if start[:10] != end[:10] else element("time", end[11:16], datetime=end)


def _backfill(backfill: BackfillView, now_ms: int) -> Markup:
    elapsed = max(0, now_ms - backfill.began_ms) / 1000
    left = elapsed / backfill.share - elapsed if backfill.share > 0 else None
    if backfill.runs:
        state = f"running for {duration(elapsed)}" + ("" if left is None else f", about {duration(left)} left")
    else:
        state = "complete" if backfill.share >= DONE else "not running; the same command resumes it"
    return element(
        "div",
        element("h4", "Backfill"),
        element("p", moment(backfill.interval.start), " to ", moment(backfill.interval.end),
                f": {int(backfill.share * 100)} %, {state}", class_="small"),
        charts.meter(backfill.share) if backfill.share < 1 else None,
    )  # fmt: skip


def _dead_letters(source: SourceView) -> Child:
    if not source.dead_letters:
        return None
    rows = []
    for group in source.dead_letters[:_MOST_GROUPS]:
        meaning, command = KINDS.get(group.kind, _ANY_KIND)
        status = "" if group.status is None else f", HTTP {group.status}"
        reason = element(
            "th",
            element("strong", f"{group.kind}{status}"), element("br"),
            element("span", meaning, class_="small soft"), element("code", command), scope="row",
        )  # fmt: skip
        last = element("td", moment(group.last_ms), class_="wide")
        rows.append(element("tr", reason, _number(f"{group.spans:,}"), last))
    left = len(source.dead_letters) - len(rows)
    caption = (
        "By kind and answer. The server's message of each may repeat what was sent, so it is not on this page: "
        "`sync-worker dead-letters list` has it."
    )
    return element(
        "div",
        element("h4", "Dead letters"),
        table(caption, ["Reason, and what to type", "#Number", "~Last"], rows),
        element("p", f"and {counted(left, 'more reason')}", class_="small soft") if left else None,
        class_="whole",
    )


def _scores(scores: ScoresView) -> Markup:
    rows = [
        element("tr", element("th", _SCORE_WORDS.get(state, state), scope="row"), _number(f"{number:,}"))
        for state, number in sorted(scores.counts.items(), key=lambda one: -one[1])
        if number
    ]
    listed: Child = "never" if scores.listed_ms is None else moment(scores.listed_ms)
    return element(
        "div",
        element("h4", "Scores as signals"),
        element("p", "The newest were listed last: ", listed, class_="small soft"),
        table("Scores that are remembered, by what became of them", ["State", "#Scores"], rows) if rows else None,
    )


def _quotas(source: SourceView) -> Child:
    if not source.quotas:
        return None
    items = [
        element(
            "li",
            name(one.endpoint),
            f": {one.remaining:,} of {counted(one.quota, 'request')} free now, in any {duration(one.window)} "
            f"(limit {one.limit:,}). Used:",
            charts.meter(1 - one.remaining / max(one.quota, 1)),
        )
        for one in source.quotas
    ]
    return element("div", element("h4", "Requests to Langfuse"), element("ul", join(items), class_="plain small"))


def table(caption: str, columns: Sequence[str], rows: Sequence[Markup]) -> Markup:
    """Return a table that may scroll. A column marked `#` has numbers, one marked `~` is left out on small screens."""
    heads = [
        element(
            "th",
            column.lstrip("#~"),
            scope="col",
            class_=" ".join(kind for mark, kind in (("#", "number"), ("~", "wide")) if mark in column[:2]) or None,
        )
        for column in columns
    ]
    return element(
        "div",
        element("table", element("caption", prose(caption)), element("thead", element("tr", join(heads))),
                element("tbody", join(rows))),
        class_="scroll", tabindex=0, role="region", aria_label=caption.partition(".")[0],
    )  # fmt: skip


def _number(value: str) -> Markup:
    return element("td", value, class_="number")
