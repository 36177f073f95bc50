"""Reads one millisecond of a v1 list that has more observations than a page, or an observation that is not served.

Observations of the same time have no order, so no page but the first can be trusted. They are distinguished by what a
request can ask for: the end of their id where the server takes `filter`, else type, level and trace. What nothing
distinguishes is read by page number, over and over with pages of other lengths, until all that are counted were seen.
Only traces can be put in an order without ties.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

from sync_worker.langfuse.filters import ends_with, is_text
from sync_worker.langfuse.langfuse_client import RequestRejected
from sync_worker.langfuse.listing import Part, Question
from sync_worker.langfuse.paging import Paging
from sync_worker.langfuse.reader import Page

#: How often observations that nothing distinguishes are read at most, and how often in a row without a new one.
_ROUNDS = 24
_FRUITLESS = 8
#: So many observations a trace on a first page make it worth to ask trace by trace.
_WORTH_ASKING = 4
#: By so many more letters observations are distinguished of which none is served: they may be versions of one.
_UNDIVIDED = 4
#: What ids end with: first what is usual, then everything else that can be typed.
_ENDINGS = "0123456789abcdef" + "".join(chr(code) for code in range(32, 127) if chr(code) not in "0123456789abcdef")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _ById:
    """Distinguishes observations by the end of their id; `asked` is the question without the part that is `ending`."""

    asked: Question
    ending: str = ""
    tries: int = _UNDIVIDED

    def parts(self, part: Part | None) -> Iterator[tuple[Question, _ById | None]]:
        seen = Counter(
            observation_id[-len(self.ending) - 1]
            for observation_id in _ids(part)
            if len(observation_id) > len(self.ending)
        )
        known = [letter for letter, _ in seen.most_common()]
        for letter in known:
            yield self._longer(letter)
        if self.ending:
            yield self.asked.where(is_text("id", self.ending)), None
        for letter in _ENDINGS:
            if letter not in seen:
                yield self._longer(letter)

    def _longer(self, letter: str) -> tuple[Question, _ById]:
        ending = letter + self.ending
        return self.asked.where(ends_with("id", ending)), _ById(self.asked, ending)


@dataclass(frozen=True, slots=True)
class _ByFacet:
    """Distinguishes observations by what has few values, then by trace."""

    asked: Question
    facets: Sequence[tuple[str, Sequence[str]]]

    def parts(self, part: Part | None) -> Iterator[tuple[Question, _ByFacet | None]]:
        if self.facets:
            name, values = self.facets[0]
            for value in values:
                asked = self.asked.by({name: value})
                yield asked, _ByFacet(asked, self.facets[1:])
            return
        observations = [] if part is None else part.observations
        traces = Counter(observation.trace_id for observation in observations if observation.trace_id is not None)
        if self.asked.listing.by_trace and "traceId" not in self.asked.params:
            if len(observations) < _WORTH_ASKING * len(traces):
                return
            for trace_id, _ in traces.most_common():
                yield self.asked.by({"traceId": trace_id}), None


@dataclass(frozen=True, slots=True)
class _Unserved:
    """A page of `length` observations was not served."""

    length: int


_Split = _ById | _ByFacet


async def read_moment(paging: Paging, question: Question, part: Part | None, *, filters: bool) -> AsyncIterator[Page]:
    """Read all observations of a millisecond.

    `part` is its first page, None when the first observation is not served.
    """
    split: _Split | None = None
    if not question.listing.stable:
        split = _ById(question) if filters else _ByFacet(question, question.listing.facets)
    total = await paging.total(question, beyond=True) if part is None else part.total
    async for page in _read(paging, question, part, total, split):
        yield page


async def _read(
    paging: Paging, question: Question, part: Part | None, total: int, split: _Split | None
) -> AsyncIterator[Page]:
    """Read what a question asks for; `part` is its first page, None when the first observation is not served."""
    if part is not None:
        yield Page(part.observations, part.unreadable, part.size)
        if part.is_all:
            return
    if total == 0:
        return
    if part is None and total == 1:
        yield await paging.alone(question)
    elif split is None:
        async for page in _by_number(paging, question, total):
            yield page
    else:
        async for page in _divided(paging, question, part, total, split):
            yield page


async def _divided(
    paging: Paging, question: Question, part: Part | None, total: int, split: _Split
) -> AsyncIterator[Page]:
    """Read observations part by part until as many were counted as there are; what is left over is read by number."""
    counted = 0
    for narrower, deeper in split.parts(part):
        try:
            found = await paging.first(narrower)
            count = await paging.total(narrower, beyond=True) if found is None else found.total
        except RequestRejected:  # an older server does not know this value
            continue
        is_divided = found is not None or count < total
        async for page in _read(paging, narrower, found, count, deeper if is_divided else _once_less(split, deeper)):
            yield page
        counted += count
        if counted >= total:
            total = await paging.total(question)  # observations may have been added
            if counted >= total:
                return
    async for page in _by_number(paging, question, total):
        yield page


def _once_less(split: _Split, deeper: _Split | None) -> _Split | None:
    """Return how to go on with observations that were not distinguished; None when that was tried often enough."""
    if not isinstance(split, _ById) or not isinstance(deeper, _ById):
        return deeper
    return replace(deeper, tries=split.tries - 1) if split.tries > 1 else None


async def _by_number(paging: Paging, question: Question, total: int) -> AsyncIterator[Page]:
    """Read page after page until all observations that are counted were seen.

    Observations that are not served become unreadable.
    """
    is_ordered = bool(question.listing.stable)
    ordered = question.by(question.listing.stable)
    seen: set[tuple[str | None, str]] = set()
    unserved = fruitless = 0
    errors = paging.errors
    largest = paging.size.limit
    for turn in range(_ROUNDS):
        before, not_served = len(seen), 0
        limit = largest if is_ordered else max(2, largest - 7 * (turn % 8))
        async for found in _numbered(paging, ordered, limit, total):
            if isinstance(found, _Unserved):
                not_served += found.length == 1
                continue
            total = found.total
            seen |= {(observation.trace_id, observation.id) for observation in found.observations}
            yield Page(found.observations, found.unreadable, found.size)
        unserved = max(unserved, not_served)
        fruitless = 0 if len(seen) > before else fruitless + 1
        # Where the order is not the same each time, an observation that is not served may have stood in the place of
        # another.
        if len(seen) + (unserved if is_ordered else 0) >= total or fruitless >= _FRUITLESS:
            break
    missing = total - len(seen)
    if missing > 0 and (unserved or paging.errors > errors):
        observations = max(1, min(unserved, missing))
        yield Page(unreadable=[paging.as_unserved(question.interval)] * observations)
    elif missing > 0:  # versions of an observation that are not merged yet count twice, so this is seldom a loss
        log.warning(
            "%s counts %d observations at one moment, %d were seen: `verify` shows whether any is missing",
            question.listing.path, total, len(seen), extra={"action": "ties"},
        )  # fmt: skip


async def _numbered(paging: Paging, question: Question, limit: int, total: int) -> AsyncIterator[Part | _Unserved]:
    """Fetch all pages of a length; those that are not served come in shorter ones too."""
    todo = [(limit, page) for page in range((total + limit - 1) // limit, 0, -1)]
    while todo:
        length, page = todo.pop()
        found = await paging.numbered(question, length, page)
        yield found or _Unserved(length)
        if found is None and length > 1:
            shorter = next(size for size in range(max(1, length // 3), 0, -1) if length % size == 0)
            first, last = (page - 1) * length // shorter + 1, page * length // shorter
            todo += [(shorter, number) for number in range(last, first - 1, -1)]


def _ids(part: Part | None) -> list[str]:
    return [] if part is None else [observation.id for observation in part.observations]
