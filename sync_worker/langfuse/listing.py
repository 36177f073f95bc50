"""One of the v1 lists: where it is, how it is bounded in time, and one page of it.

`GET /api/public/traces` and `GET /api/public/observations` page by number, newest first, with no order between
observations of the same time, and say how many observations there are in all. (Langfuse v3.225.4; v2.95 the same with
fewer parameters.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sync_worker.errors import TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse.filters import before, filtered, not_before
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.langfuse.observation_parser import parse_all
from sync_worker.langfuse.reader import Unreadable
from sync_worker.langfuse.v1_observations import parse_observation, parse_trace
from sync_worker.records import SYNTHETIC_ROOT_PREFIX, Observation
from sync_worker.times import iso_time

MAX_ROWS = 100  # observations a page of v1; the server refuses more

_TYPES = ("SPAN", "GENERATION", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EMBEDDING", "EVALUATOR", "GUARDRAIL")
_LEVELS = ("DEFAULT", "DEBUG", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of v1. `facets` split what shares one millisecond: parameters and all values they may have."""

    path: str
    column: str  # of the start, in filters
    bounds: tuple[str, str]  # parameters
    params: Mapping[str, str]
    parse: Callable[[Any], Observation]
    facets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    by_trace: bool = False  # whether observations can be asked for by their trace
    stable: Mapping[str, str] = field(default_factory=dict)  # parameters that put observations in an order without ties
    metadata_only: Mapping[str, str] = field(default_factory=dict)  # parameters that leave out content

    def ids(self, item_id: str) -> tuple[str, str | None]:
        """Return observation id and trace id of an item, as far as its own id shows them."""
        return (item_id, None) if self.by_trace else (SYNTHETIC_ROOT_PREFIX + item_id, item_id)

    def query(self, interval: Interval, conditions: Iterable[Mapping[str, Any]] = ()) -> dict[str, str]:
        """Return the parameters for an interval; with conditions, the bounds are conditions too.

        On newer servers a filter replaces the bounds.
        """
        since, until = self.bounds
        asked = {**self.params, since: iso_time(interval.start), until: iso_time(interval.end)}
        wanted = list(conditions)
        if wanted:
            asked |= filtered(*wanted, not_before(self.column, interval.start), before(self.column, interval.end))
        return asked


OBSERVATIONS = Listing(
    path="/api/public/observations",
    column="startTime",
    bounds=("fromStartTime", "toStartTime"),
    params={},
    parse=parse_observation,
    facets=(("type", _TYPES), ("level", _LEVELS)),
    by_trace=True,
)
TRACES = Listing(
    path="/api/public/traces",
    column="timestamp",
    bounds=("fromTimestamp", "toTimestamp"),
    params={"fields": "core,io", "orderBy": "timestamp.desc"},
    parse=parse_trace,
    stable={"orderBy": "id.asc"},
    metadata_only={"fields": "core"},
)


@dataclass(frozen=True, slots=True)
class Question:
    """A query to a list: an interval, conditions for `filter`, and parameters."""

    listing: Listing
    interval: Interval
    conditions: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the request, without limit and page."""
        return {**self.listing.query(self.interval, self.conditions), **self.params}

    def within(self, interval: Interval) -> Question:
        """Return the same question of another interval."""
        return replace(self, interval=interval)

    def where(self, condition: Mapping[str, Any]) -> Question:
        """Return the question with one condition more."""
        return replace(self, conditions=(*self.conditions, condition))

    def by(self, params: Mapping[str, str]) -> Question:
        """Return the question with more parameters."""
        return replace(self, params={**self.params, **params})


@dataclass(slots=True)
class Part:
    """One page: its observations, how many observations there are in all, and how many were asked for.

    `size` in bytes.
    """

    observations: list[Observation]
    unreadable: list[Unreadable]
    total: int
    limit: int
    size: int

    @property
    def is_all(self) -> bool:
        """Whether all observations that match are on this page."""
        return self.total <= self.limit


async def fetch_part(client: LangfuseClient, question: Question, limit: int, page: int = 1) -> Part:
    """Fetch a page, once. Raises as the client does, or TransientError when the answer is no such list."""
    listing, query = question.listing, question.query
    answer = await client.attempt(listing.path, {**query, "limit": str(limit), "page": str(page)})
    body = answer.body
    data, meta = (body.get("data"), body.get("meta")) if isinstance(body, Mapping) else (None, None)
    total = meta.get("totalItems") if isinstance(meta, Mapping) else None
    if not isinstance(data, list) or not isinstance(total, int) or isinstance(total, bool):
        raise TransientError(f"{listing.path} answered 200 without `data` and `meta.totalItems`: not Langfuse's API")
    observations, unreadable = parse_all(data, listing.parse, is_valid=answer.is_valid)
    return Part(observations, unreadable, total, limit, answer.size)
