"""Pages of a v1 list, as large as the server bears, and which observations it cannot serve at all."""

from __future__ import annotations

import logging
from collections import deque
from itertools import chain, repeat

from sync_worker.errors import TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse.blame import Blame, Trial
from sync_worker.langfuse.langfuse_client import LangfuseClient, PageTooHeavy, ServerError
from sync_worker.langfuse.listing import MAX_ROWS, Listing, Part, Question, fetch_part
from sync_worker.langfuse.page_size import PageSize
from sync_worker.langfuse.reader import Page, Unreadable
from sync_worker.langfuse.shrinking import fetch_fitting
from sync_worker.times import iso_time

#: How often a page of several observations is tried before it is read in smaller ones.
_TRIES = 2
#: How often an observation must fail, and another be served after it, before the observation is to blame.
_PROOFS = 3
#: Where no observation that was served is known, one is looked for behind the one that is not, and so many ms before
#: it.
_BEHIND = (2, 3, 5, 9)
_DAY = 24 * 3_600_000
#: A page behind the last one: it holds no observation, so it shows how many there are though none may be served.
_BEYOND = 1_000_000

log = logging.getLogger(__name__)


class NotServedError(Exception):
    """A page is too much for the server, or an observation is to blame: it is not tried again."""


class Paging:
    """Asks one v1 list for pages.

    An observation that the server cannot serve while it serves others is to blame for itself.
    """

    def __init__(self, client: LangfuseClient, listing: Listing, limit: int = MAX_ROWS) -> None:
        self.client = client
        self.listing = listing
        self.size = PageSize(limit, MAX_ROWS)
        self._served: deque[int] = deque(maxlen=4)  # starts of observations that were served lately
        self._blame = Blame(_PROOFS)
        self.errors = 0  # answers to pages by their number that may lie in an observation
        self._error: TransientError | None = None  # on the observation that was to blame last
        self._is_certain = False  # whether that was proven

    async def first(self, question: Question) -> Part | None:
        """Return the first page, or None when the first observation on it is not served.

        Raises when the retry deadline passes.
        """

        async def fetch(limit: int) -> Part | None:
            part = await fetch_part(self.client, question, limit)
            self.size.record_success(limit, part.size)
            self._remember(part)
            return part

        async def alone(_: TransientError) -> Part | None:
            return await self.numbered(question, 1, 1)

        return await fetch_fitting(self.client, self.size, fetch, alone)

    async def numbered(self, question: Question, limit: int, page: int) -> Part | None:
        """Return a page by its number.

        None when it is too much, or, for one observation, when that observation is to blame.
        """
        trial = Trial()

        async def attempt() -> Part:
            try:
                return await fetch_part(self.client, question, limit, page)
            except (PageTooHeavy, ServerError) as error:
                self.errors += 1
                self._error = error
                if limit > 1:
                    trial.tries += 1
                    if trial.tries >= _TRIES or isinstance(error, PageTooHeavy):
                        raise NotServedError from error
                elif await self.prove_unservable(trial, question.interval):
                    self.size.reset()
                    raise NotServedError from error
                raise

        try:
            part = await self.client.backoff.retry(attempt)
        except NotServedError:
            return None
        self._remember(part)
        return part

    async def total(self, question: Question, *, beyond: bool = False) -> int:
        """Return how many observations the server counts, whether or not it serves them.

        Raises when the retry deadline passes.

        A page `beyond` the last one is sure to hold no observation that is not served, but expensive where there
        are many.
        """
        pages = chain(() if beyond else (1, 2), repeat(_BEYOND))
        page = next(pages)

        async def attempt() -> Part:
            nonlocal page
            try:
                return await fetch_part(self.client, question, 1, page)
            except (PageTooHeavy, ServerError):
                page = next(pages)
                raise

        return (await self.client.backoff.retry(attempt)).total

    async def alone(self, question: Question) -> Page:
        """Return the only observation of a question, which was to blame.

        As it is after all, or as what is known of it.
        """
        if not self._is_certain:  # the server may have been down, and be back
            part = await self.numbered(question, 1, 1)
            if part is not None:
                return Page(part.observations, part.unreadable, part.size)
        found: Part | None = None
        if self.listing.metadata_only:
            found = await self.numbered(question.by(self.listing.metadata_only), 1, 1)
        observation = found.observations[0] if found is not None and found.observations else None
        ids = (None, None) if observation is None else (observation.id, observation.trace_id)
        return Page(unreadable=[self.as_unserved(question.interval, *ids)])

    async def prove_unservable(self, trial: Trial, interval: Interval) -> bool:
        """Count a failure of an observation of an interval; return whether the observation is to blame.

        It is once others were served, again and again, in between.
        """
        serves_another = await self._serves_another(interval)
        self._is_certain = bool(serves_another)
        return self._blame.record_failure(trial, serves_another=serves_another)

    async def _serves_another(self, than: Interval) -> bool | None:
        """Whether another observation than the newest of an interval is served now.

        None when there is none to ask for.
        """
        moments = {moment for moment in self._served if not than.contains(moment)}
        places: list[tuple[Interval, tuple[int, ...]]] = [
            (Interval(moment, moment + 1), (1, 2)) for moment in sorted(moments)
        ]
        if not places:
            places = [(than, _BEHIND), (Interval(than.start - _DAY, than.start), (1, 2))]
        proven: bool | None = None
        for there, pages in places:
            for page in pages:  # observations of one moment come in any order, and one of them may not be served itself
                try:
                    part = await fetch_part(self.client, Question(self.listing, there), 1, page)
                except TransientError:
                    proven = False
                    continue
                if part.observations:
                    self.client.backoff.success()
                    self._remember(part)
                    return True
                break  # it is gone, or alone
        return proven

    def as_unserved(
        self, interval: Interval, observation_id: str | None = None, trace_id: str | None = None
    ) -> Unreadable:
        """Return the observation of an interval that is to blame, as far as it is known."""
        where = (
            iso_time(interval.start)
            if interval.length <= 1
            else f"{iso_time(interval.start)} to {iso_time(interval.end)}"
        )
        log.warning("an observation cannot be served (%s): %s", where, self._error, extra={"action": "dead-letter"})
        reason = f"Langfuse cannot serve it ({where}): {self._error}"
        return Unreadable(reason, observation_id, trace_id, start_ms=interval.start, until_ms=interval.end)

    def _remember(self, part: Part) -> None:
        if part.observations:
            self._served += dict.fromkeys((part.observations[0].start_ms, part.observations[-1].start_ms))
            self._blame.record_served()
