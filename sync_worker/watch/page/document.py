"""The whole status page: the operator's three questions, then each source; and the page where nothing can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sync_worker import __version__
from sync_worker.watch.page import charts
from sync_worker.watch.page.advice import LEVELS, Advice, Level, is_behind, level_of, of_source, of_worker
from sync_worker.watch.page.html import Child, Markup, element, join, name
from sync_worker.watch.page.source_section import LABELS, advice_item, badge, section, spans_a_minute, table
from sync_worker.watch.page.style import POLICY, STYLE
from sync_worker.watch.page.view import SourceView, View
from sync_worker.watch.page.words import duration, moment, rate, size
from sync_worker.wording import counted

TITLE = "Langfuse to Kelet sync"
#: Headers of the page: nothing is loaded from anywhere, no script runs.
HEADERS = (("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer"))
CONTENT_TYPE = "text/html; charset=utf-8"

#: Sources of which nothing is closed; of more, those are open that something is wrong with, up to as many.
_OPEN = 4
_MOST_ADVICE, _MOST_NAMES = 12, 4
#: The refresh that may be asked for, in seconds.
_FASTEST, _SLOWEST = 10, 3_600


_Found = Sequence[tuple[SourceView, Sequence[Advice]]]


@dataclass(frozen=True, slots=True)
class _Thing:
    """An advice, and the sources that it concerns by their numbers; none: the worker."""

    advice: Advice
    sources: list[tuple[int, SourceView]] = field(default_factory=list)


def document(view: View, refresh: str = "") -> bytes:
    """Return the page as HTML. `refresh`: seconds after which it reloads itself, as text from the address."""
    found = [(source, of_source(source, view.now_ms)) for source in view.sources]
    things = _things(of_worker(view), found)
    return _page(
        _head_line(view),
        element(
            "main",
            element(
                "section", _is_behind(view), _is_missing(view), _what_to_do(things), class_="answers",
                aria_label="Summary",
            ),
            _to_do(things, len(found)),
            _overview(view, found) if len(found) > 1 else None,
            element("h2", "Each source" if len(found) > 1 else "The source"),
            join(_sections(view, found)),
            id="content",
        ),
        _foot(view),
        refresh=refresh,
    )  # fmt: skip


def unreadable(problem: str) -> bytes:
    """Return the page that says why the state file cannot be read."""
    return _page(
        element("header", element("h1", TITLE)),
        element(
            "main",
            element(
                "div", element("h2", "The state cannot be read now"), element("p", problem),
                element("p", "The worker may go on all the same: this page reads beside it, and waits two seconds at "
                        "most. Load it again in a moment; if this stays, ask on the machine:"),
                element("p", element("code", "sync-worker status", class_="type")), class_="card",
            ),
            id="content",
        ),
    )  # fmt: skip


def _page(*body: Child, refresh: str = "") -> bytes:
    seconds = int(refresh) if refresh.isascii() and refresh.isdigit() and len(refresh) < 6 else 0
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="refresh", content=seconds) if _FASTEST <= seconds <= _SLOWEST else None,
        element("title", TITLE),
        element("style", Markup(STYLE)),
    )
    skip = element("a", "Skip to the content", href="#content", class_="skip")
    html = element("html", head, element("body", skip, charts.patterns(), *body), lang="en")
    return f"<!DOCTYPE html>\n{html}\n".encode("utf-8", "replace")


def _head_line(view: View) -> Markup:
    running = "Live sync and backfill run" if view.live_runs and view.backfill_runs else (
        "The live sync runs" if view.live_runs else "No live sync holds its lease")  # fmt: skip
    return element(
        "header",
        element("h1", TITLE),
        element("p", running, ". As of ", moment(view.now_ms), ", all times UTC. "),
        element("p", element("a", "Load again", href=".")),
    )


def _answer(question: str, level: Level, short: str, *more: Child) -> Markup:
    mark = element("span", f"{LABELS[level][0]} ", aria_hidden="true")
    return element(
        "div", element("h2", question), element("p", mark, short, class_=f"short {level}"),
        element("p", *more, class_="small") if more else None, class_="card",
    )  # fmt: skip


def _is_behind(view: View) -> Markup:
    question, now = "Is it behind?", view.now_ms
    lags = [(lag, number) for number, one in enumerate(view.sources) if (lag := one.lag_ms(now)) is not None]
    unknown = len(view.sources) - len(lags)
    have = "has" if unknown == 1 else "have"
    more = f" {counted(unknown, 'source')} {have} not ended a first cycle." if unknown else ""
    if not lags:
        return _answer(question, "note", "Not known yet", "No source has ended a first cycle.")
    behind = [number for _, number in sorted(lags, reverse=True) if is_behind(view.sources[number], now)]
    largest = duration(max(lags)[0] / 1000)
    if not behind:
        words = "It is" if len(lags) == 1 else f"All {len(lags)} are" if not unknown else f"{len(lags)} are"
        return _answer(question, "ok", "No", f"{words} complete up to {largest} ago.{more}")
    how_many = "Yes, by" if len(view.sources) == 1 else f"{len(behind)} of {len(view.sources)}, by up to"
    short = f"{how_many} {largest}"
    where = _names(view, behind) or join(["Complete up to ", moment(view.sources[0].watermark_ms or now)])
    return _answer(question, "warn", short, where, f".{more}")


def _is_missing(view: View) -> Markup:
    question = "Is anything missing?"
    dead, gaps = sum(one.dead for one in view.sources), [gap for one in view.sources for gap in one.gaps]
    concerned = [number for number, one in enumerate(view.sources) if one.dead or one.gaps]
    if not concerned:
        return _answer(question, "ok", "No", "No gap in what is synced, no dead letter. What is behind is not missing.")
    parts = []
    if dead:
        parts.append(counted(dead, "dead letter"))
    if gaps:
        parts.append(f"{counted(len(gaps), 'gap')}, {duration(sum(gap.length for gap in gaps) / 1000)}")
    kept = "Dead letters are kept with their reasons. " if dead else ""
    read = "The next cycle reads gaps. " if gaps else ""
    return _answer(question, "warn", "; ".join(parts), f"{kept}{read}", _names(view, concerned))


def _what_to_do(things: Sequence[_Thing]) -> Markup:
    question, level = "What to do now?", level_of(one.advice for one in things)
    if level in {"ok", "note"}:
        return _answer(question, "ok", "Nothing", "It goes on by itself." if level == "ok" else "Some notes are below.")
    urgent = sum(one.advice.level == "bad" for one in things)
    short = f"{counted(urgent, 'thing')} to act on" if urgent else f"{counted(len(things), 'thing')} to look at"
    return _answer(question, level, short, "Below, the most urgent first, with the command to type.")


def _names(view: View, numbers: Sequence[int]) -> Child:
    """Return links to sources; where there is one alone, it goes without saying."""
    return None if len(view.sources) == 1 else _links([(number, view.sources[number]) for number in numbers])


def _links(sources: Sequence[tuple[int, SourceView]]) -> Markup:
    shown: list[Child] = [
        element("a", name(source.name), href=f"#source-{number}") for number, source in sources[:_MOST_NAMES]
    ]
    parts = [part for one in shown for part in (", ", one)][1:]
    left = len(sources) - len(shown)
    return join([*parts, f" and {left:,} more" if left else None])


def _things(own: Sequence[Advice], found: _Found) -> list[_Thing]:
    """Return what to do, the same of several sources together, the most urgent first."""
    together: dict[tuple[str, str, Level], _Thing] = {}
    for number, (source, several) in enumerate(found):
        for one in several:
            thing = together.setdefault((one.subject, one.command or "", one.level), _Thing(one))
            thing.sources.append((number, source))
    things = [*(_Thing(one) for one in own), *together.values()]
    return sorted(things, key=lambda one: LEVELS.index(one.advice.level))


def _to_do(things: Sequence[_Thing], number: int) -> Child:
    """Return what to do for all sources, of which there are so many; of one alone it is shown in its own part."""
    if number == 1:
        things = [one for one in things if not one.sources]
    if not things:
        return None
    left = len(things) - _MOST_ADVICE
    return element(
        "section",
        element("h2", "What to do now", id="to-do"),
        element("ul", join(_item(one) for one in things[:_MOST_ADVICE]), class_="todo card"),
        element("p", f"and {counted(left, 'thing')} more, in the sources below", class_="soft") if left > 0 else None,
        aria_labelledby="to-do",
    )


def _item(thing: _Thing) -> Markup:
    one, several = thing.advice, len(thing.sources)
    if not several:
        return advice_item(one)
    title = one.title if several == 1 else f"{one.subject}: {several} sources"
    return advice_item(one, join([title, " — ", _links(thing.sources)]))


def _overview(view: View, found: _Found) -> Markup:
    now, rows = view.now_ms, list[Markup]()
    by_urgency = sorted(enumerate(found), key=lambda one: LEVELS.index(level_of(one[1][1])))
    for number, (source, several) in by_urgency:
        lag = source.lag_ms(now)
        lags = [None if one is None else one / 1000 for one in source.lags(now)]
        good = None if source.cycle is None else source.cycle.good_ms
        cells = (
            (duration(lag / 1000) if lag is not None else "—", "number"),
            (charts.spark(lags, charts.top_of(lags)), "wide"),
            (rate(spans_a_minute(source, now)), "number wide"),
            (f"{source.pending.count:,}", "number wide"),
            (f"{source.dead:,}", "number"),
            (f"{len(source.gaps):,}", "number wide"),
            ("—" if good is None else f"{duration((now - good) / 1000)} ago", "number wide"),
        )
        rows.append(element(
            "tr",
            element("th", element("a", name(source.name), href=f"#source-{number}"), badge(level_of(several)),
                    scope="row"),
            join(element("td", value, class_=kind) for value, kind in cells),
        ))  # fmt: skip
    columns = [
        "Source and state", "#Lag", "~Lag, 24 h", "#~Spans a minute", "#~Pending", "#Dead letters", "#~Gaps",
        "#~Last good cycle",
    ]  # fmt: skip
    return element(
        "section",
        element("h2", "Sources", id="sources"),
        element(
            "div",
            table(f"All {len(found)} sources, those first that something is wrong with", columns, rows),
            class_="card",
        ),
        aria_labelledby="sources",
    )


def _sections(view: View, found: _Found) -> list[Markup]:
    wrong = [number for number, (_, several) in enumerate(found) if level_of(several) in {"bad", "warn"}]
    opened = set(range(len(found))) if len(found) <= _OPEN else set(wrong[:_OPEN])
    return [
        section(number, source, several, view.now_ms, is_open=number in opened, is_alone=len(found) == 1)
        for number, (source, several) in enumerate(found)
    ]


def _foot(view: View) -> Markup:
    return element(
        "footer",
        f"sync-worker {__version__} · state file {size(view.size_bytes)}, {size(view.free_bytes)} free beside it · the "
        "commands are typed with the settings of this worker, in a checkout as ", element("code", "scripts/sync"),
        " · ", element("code", "?refresh=60"), " reloads itself · also ",
        element("a", "metrics", href="metrics"), ", ", element("a", "status", href="status"),
    )  # fmt: skip
