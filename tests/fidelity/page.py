"""docs/fidelity.md's tables, made from the pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from sync_worker.spans.span_model import Span
from tests.docs.tables import ROOT, MarkerError
from tests.fidelity.compare import Finding, Score, score
from tests.fidelity.derived import COLUMNS, Derived, derived
from tests.fidelity.lost import REASONS
from tests.fidelity.pairs import GENERATIONS, NAMES, Direct, load, spans_of

PAGE = ROOT / "docs" / "fidelity.md"

#: A table's lines by their first cells, and each cell of a line by the head of its column.
Lines = dict[str, dict[str, str]]

#: Columns of agreement, by what the comparison calls them.
_AGREEMENTS = ("parent", "times", "name", "kind", "status", "scope")


@cache
def scores(generation: str) -> dict[str, Score]:
    """Return what was found of each pair with the rows of one generation of the API."""
    return {name: score(load(name), generation) for name in NAMES}


def matched(name: str, generation: str) -> Iterator[tuple[Direct, Span]]:
    """Yield each direct span of a pair beside the one that was made of its row."""
    pair = load(name)
    made = spans_of(GENERATIONS[generation](pair))
    yield from ((direct, made[direct.key]) for direct in pair.direct if direct.key in made)


def pairs_table() -> str:
    """What was run for each pair."""
    lines = ["| pair | made with |", "| --- | --- |"]
    lines += [f"| {name} | {load(name).made_with} |" for name in NAMES]
    return "\n".join(lines) + "\n"


def figures_table(generation: str) -> str:
    """A line for each pair: what agrees, of how many; and what became of the attributes."""
    heads = ("pair", "spans", *_AGREEMENTS, "resource", "attributes", "equal as JSON", "other type", "wrong",
             "missing", "lost for good", "extra", "not exported")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    lines += [f"| {' | '.join((name, *_cells(found)))} |" for name, found in scores(generation).items()]
    return "\n".join(lines) + "\n"


def _cells(found: Score) -> list[str]:
    attributes, resource = found.places["span"], found.places["resource"]
    return [
        f"{found.same['id']}/{found.of}",
        *(f"{found.same[name]}/{found.of}" for name in _AGREEMENTS),
        f"{resource.equal}/{resource.recoverable}",
        f"{attributes.equal}/{attributes.recoverable}",
        *(str(attributes.verdicts[verdict]) for verdict in ("json", "type", "wrong", "missing")),
        str(attributes.lost.total()),
        str(found.extra),
        str(found.direct - found.of),
    ]


@cache
def derived_scores(generation: str) -> dict[str, Derived]:
    """Return, of each pair, how much of what a person expects is so."""
    return {name: derived(load(name), generation) for name in NAMES}


def derived_table(generation: str) -> str:
    """A line for each pair: how much of what is expected of the derived attributes is so."""
    lines = [f"| pair | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name, found in derived_scores(generation).items():
        cells = (
            f"{found.right[column]}/{found.expected[column]}" if found.expected[column] else "—" for column in COLUMNS
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def lost_table() -> str:
    """Each reason for an attribute that is lost for good, with how many it cost in all pairs, by generation."""
    lines = [f"| lost for good | {' | '.join(GENERATIONS)} |", "| --- |" + " ---: |" * len(GENERATIONS)]
    counts = {generation: _lost(generation) for generation in GENERATIONS}
    for reason in (reason for reason in REASONS if reason.api & GENERATIONS.keys()):
        cells = [str(counts[name][reason.text]) if name in reason.api else "kept" for name in GENERATIONS]
        lines.append(f"| {reason.text} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _lost(generation: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for found in scores(generation).values():
        for figures in found.places.values():
            total.update({reason.text: count for reason, count in figures.lost.items()})
    return total


def wrong_table() -> str:
    """Every attribute with a wrong value, or one of another type, and no reason that excuses it."""
    found: Counter[tuple[str, ...]] = Counter()
    for generation in GENERATIONS:
        for one in scores(generation).values():
            found.update((generation, *_described(finding)) for finding in one.findings if _is_wrong(finding))
    if not found:
        return "None.\n"
    lines = ["| API | pair | key | how | spans |", "| --- | --- | --- | --- | ---: |"]
    lines += [f"| {' | '.join(described)} | {count} |" for described, count in sorted(found.items())]
    return "\n".join(lines) + "\n"


def _is_wrong(finding: Finding) -> bool:
    return finding.verdict in {"wrong", "type"} and finding.reason is None


def _described(finding: Finding) -> tuple[str, str, str]:
    key = re.sub(r"\d+", "N", finding.key) if finding.place == "span" else f"{finding.place}: {finding.key}"
    return finding.pair, f"`{key}`", finding.verdict


def with_figures(text: str) -> str:
    """Return the page with its tables made anew."""
    tables = {"pairs": pairs_table(), "lost": lost_table(), "wrong": wrong_table()}
    tables |= {f"figures {generation}": figures_table(generation) for generation in GENERATIONS}
    tables |= {f"derived {generation}": derived_table(generation) for generation in GENERATIONS}
    for name, table in tables.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
            raise MarkerError(f"the page needs one pair of {begin.strip()} and {end}, each on a line of its own")
        text = text[: text.index(begin) + len(begin)] + table + text[text.index(end) :]
    return text


def lines_of(text: str, table: str) -> Lines:
    """Return a table of a page by the first cell of each line, and in it by the head of the column."""
    match = re.search(rf"<!-- begin: {re.escape(table)} -->\n(.*?)<!-- end: ", text, re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (match[1] if match else "").splitlines()]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


#: Columns of which more is better, and of which less is; the others follow from them.
_MORE = frozenset({"spans", *_AGREEMENTS, "resource", "attributes", *COLUMNS})
_LESS = frozenset({"wrong", "other type"})


def falls(before: str, after: str) -> list[str]:
    """Return what is worse in the figures of one state of the page than in those of another."""
    return [
        line
        for generation in GENERATIONS
        for table in (f"figures {generation}", f"derived {generation}")
        for line in _falls(lines_of(before, table), lines_of(after, table), generation)
    ]


def _falls(old: Lines, new: Lines, generation: str) -> Iterator[str]:
    for pair, cells in old.items():
        if pair not in new:
            yield f"{pair} ({generation}): gone"
            continue
        for column, figure in cells.items():
            now = new[pair].get(column, "0")
            if column in _MORE | _LESS and _is_worse(figure, now, more=column in _MORE):
                yield f"{pair} ({generation}), {column}: {now}, was {figure}"


def _is_worse(before: str, now: str, *, more: bool) -> bool:
    was, there = (_count(figure) for figure in (before, now))
    return there < was if more else there > was


def _count(figure: str) -> int:
    """Return how many agree; a dash stands where nothing is expected."""
    return int(figure.partition("/")[0].replace("—", "0"))
