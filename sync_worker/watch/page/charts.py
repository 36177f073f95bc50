"""Lines, bars and times of a source as SVG, each with its title and its words. Widths are in units of the drawing.

A drawing is as wide as its place, and stretched; so no text is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sync_worker.intervals import Interval, clip, merged
from sync_worker.watch.page.html import Child, Markup, element, join

#: Kinds of intervals that are hatched, with the pattern.
_HATCHED = {"gap": "url(#gap)", "backfilled": "url(#backfilled)"}
#: Height of a chart, and of a time line, whose width is `_WIDE`.
_HIGH, _BAR, _WIDE = 60, 20, 1000
#: What is narrower would not be seen.
_NARROWEST = 4
#: Heights to which a chart of durations is rounded up, in seconds.
_DURATIONS = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800)


def top_of(durations: Iterable[float | None]) -> float:
    """Return the height of a chart of durations, in seconds."""
    largest = max((one for one in durations if one is not None), default=0.0)
    return next((bound for bound in _DURATIONS if bound >= largest), largest)


def round_up(number: float) -> float:
    """Return the height of a chart of numbers: one, two or five and zeros."""
    unit = 1.0
    while unit * 10 < number:
        unit *= 10
    return next(unit * step for step in (1, 2, 5, 10) if unit * step >= number)


def patterns() -> Markup:
    """Return the hatchings of gaps and backfills, once for the document."""
    return element(
        "svg",
        element(
            "defs",
            element(
                "pattern",
                element("rect", width=6, height=6, class_="gap-ground"),
                element("path", d="M0 6L6 0M-1 1L1 -1M5 7L7 5", class_="gap-line"),
                id="gap", width=6, height=6, patternUnits="userSpaceOnUse",
            ),
            element(
                "pattern",
                element("rect", width=4, height=4, class_="backfilled-ground"),
                element("path", d="M0 2H4", class_="backfilled-line"),
                id="backfilled", width=4, height=4, patternUnits="userSpaceOnUse",
            ),
        ),
        width=0, height=0, aria_hidden="true", focusable="false", class_="defs",
    )  # fmt: skip


def lines(key: str, title: str, words: str, values: Sequence[float | None], top: float) -> Markup:
    """Return a line with the area below it; where a value is None it is interrupted."""
    parts: list[str] = []
    area: list[str] = []
    for start, run in _runs(values):
        points = [f"{start + at} {_height(value, top)}" for at, value in enumerate(run)]
        points.append(f"{start + len(run)} {points[-1].split()[1]}")
        parts.append("M" + "L".join(points))
        area.append(f"M{start} {_HIGH}L" + "L".join(points) + f"L{start + len(run)} {_HIGH}Z")
    return _drawing(
        key, title, words, len(values), _HIGH,
        element("path", d="".join(area), class_="area"), element("path", d="".join(parts), class_="line"),
    )  # fmt: skip


def bars(key: str, title: str, words: str, values: Sequence[float], top: float, marked: Sequence[bool]) -> Markup:
    """Return a bar for each value; `marked` are those with a line through the whole height behind them."""
    drawn = "".join(
        f"M{at} {_HIGH}V{_height(value, top)}H{at + 1}V{_HIGH}Z" for at, value in enumerate(values) if value
    )
    behind = "".join(f"M{at}.5 0V{_HIGH}" for at, is_marked in enumerate(marked) if is_marked)
    return _drawing(
        key, title, words, len(values), _HIGH,
        element("path", d=behind, class_="mark") if behind else None, element("path", d=drawn, class_="bars"),
    )  # fmt: skip


def spark(values: Sequence[float | None], top: float) -> Markup:
    """Return a small line without words: these are beside it."""
    step = 6
    few = [max((one for one in values[at : at + step] if one is not None), default=None) for at in
           range(0, len(values), step)]  # fmt: skip
    parts = [
        "M" + "L".join(f"{start + at} {_height(value, top)}" for at, value in enumerate([*run, run[-1]]))
        for start, run in _runs(few)
    ]
    return element(
        "svg", element("path", d="".join(parts), class_="line"), viewBox=f"0 0 {len(few)} {_HIGH}", class_="spark",
        preserveAspectRatio="none", aria_hidden="true", focusable="false",
    )  # fmt: skip


def timeline(
    key: str, title: str, words: str, whole: Interval, parts: Sequence[tuple[str, Sequence[Interval]]]
) -> Markup:
    """Return a time line with intervals of several kinds, the later kinds on top; short ones are widened to be seen."""
    drawn: list[Child] = []
    for kind, intervals in parts:
        for one in _blurred(clip(intervals, whole), whole.length // _WIDE * 2):
            left = (one.start - whole.start) * _WIDE / max(whole.length, 1)
            width = max(_NARROWEST, one.length * _WIDE / max(whole.length, 1))
            drawn.append(
                element("rect", x=round(min(left, _WIDE - width), 1), y=0, width=round(width, 1), height=_BAR,
                        class_=f"is-{kind}", fill=_HATCHED.get(kind))
            )  # fmt: skip
    return _drawing(key, title, words, _WIDE, _BAR, *drawn)


def swatch(kind: str) -> Markup:
    """Return how intervals of a kind are drawn on a time line, for its key."""
    return element(
        "svg", element("rect", width=26, height=14, class_=f"is-{kind}", fill=_HATCHED.get(kind)),
        viewBox="0 0 26 14", aria_hidden="true", focusable="false",
    )  # fmt: skip


def meter(share: float) -> Markup:
    """Return a bar that is filled to a share, 0 to 1, without words: these are beside it."""
    filled = round(min(max(share, 0.0), 1.0) * 100, 1)
    return element(
        "svg", element("rect", width=100, height=8, class_="meter-ground"),
        element("rect", width=filled, height=8, class_="meter-filled") if filled else None,
        viewBox="0 0 100 8", class_="meter", preserveAspectRatio="none", aria_hidden="true", focusable="false",
    )  # fmt: skip


def _blurred(intervals: Sequence[Interval], closest_ms: int) -> list[Interval]:
    """Return intervals merged where there is less than this between them: a drawing has so much room, and no more."""
    wider = merged(Interval(one.start, one.end + closest_ms) for one in intervals)
    return [Interval(one.start, one.end - closest_ms) for one in wider]


def _drawing(key: str, title: str, words: str, width: int, height: int, *children: Child) -> Markup:
    return element(
        "svg", element("title", title, id=f"{key}-title"), element("desc", words, id=f"{key}-words"), join(children),
        viewBox=f"0 0 {width} {height}", preserveAspectRatio="none", role="img", focusable="false",
        aria_labelledby=f"{key}-title {key}-words", class_="timeline" if height == _BAR else "chart",
    )  # fmt: skip


def _runs(values: Sequence[float | None]) -> Iterable[tuple[int, list[float]]]:
    """Yield what lies between interruptions: where it begins, and its values."""
    start, run = 0, list[float]()
    for at, value in enumerate([*values, None]):
        if value is None:
            if run:
                yield start, run
            start, run = at + 1, []
        else:
            run.append(value)


def _height(value: float, top: float) -> str:
    """Return where a value is drawn; what is not zero is at least a line high."""
    share = min(value / top, 1.0) if top > 0 else 0.0
    return f"{_HIGH - max(share * (_HIGH - 2), 1.0 if value else 0.0):.4g}"
