"""Which of Langfuse's rate limits a request falls under, and the budgets of an organisation, one for each of them.

Langfuse Cloud counts by organisation and bucket, and what it tells of one bucket says nothing of another: on Hobby
`public-api` has 30 requests a minute, `public-api-legacy` 15, and `public-api-v2-metrics` 100 a day. (Langfuse v4.16.0,
`RateLimitService.ts` and the bucket that each route names; seen on a server that ran as Cloud does. `projects` and
`health` had no limit there; the few requests to them are counted all the same.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sync_worker.clock import Clock
from sync_worker.langfuse.budget import Allowance, Book, Budget
from sync_worker.langfuse.sent import WINDOW
from sync_worker.records import Api


@dataclass(frozen=True, slots=True)
class Bucket:
    """One of Langfuse's limits. `window` is the least length in seconds of the time that it is counted over."""

    name: str
    window: float = WINDOW


PUBLIC_API = Bucket("public-api")
LEGACY = Bucket("public-api-legacy")
METRICS = Bucket("public-api-v2-metrics", 3600.0)  # 100 a day, or 100 or 500 an hour, by the plan
#: Not Langfuse's: what the operator allows, over all of them.
_ALL = Bucket("all")

#: By how a path begins; what is not here falls under `public-api`.
_BUCKETS = (
    ("/api/public/traces", LEGACY),
    ("/api/public/observations", LEGACY),
    ("/api/public/sessions", LEGACY),
    ("/api/public/v2/metrics", METRICS),
)


def bucket_of(path: str) -> Bucket:
    """Return the limit that a request falls under, by its path below the base URL."""
    return next((bucket for start, bucket in _BUCKETS if path == start or path.startswith(start + "/")), PUBLIC_API)


class Buckets:
    """The budgets of one organisation: one a bucket, and one over all of them where the operator set a limit."""

    def __init__(self, clock: Clock, allowance: Allowance, book: Callable[[str], Book] | None = None) -> None:
        self._clock = clock
        self._allowance = allowance
        self._book = book
        self._budgets: dict[str, Budget] = {}
        self.over_all = None if allowance.per_minute is None else self._made(_ALL, allowance)

    def of(self, bucket: Bucket) -> Budget:
        """Return the budget of a bucket, made on first use."""
        if bucket.name not in self._budgets:
            # Where the operator set a limit, no other is kept to, and only waits that Langfuse asks for are by bucket.
            allowance = self._allowance if self.over_all is None else None
            self._budgets[bucket.name] = self._made(bucket, allowance)
        return self._budgets[bucket.name]

    def per_minute(self, api: Api) -> int | None:
        """Return how many requests a minute may read observations by a generation of the API.

        None while no limit is known.
        """
        return (self.over_all or self.of(LEGACY if api == "v1" else PUBLIC_API)).per_minute

    async def acquire(self, path: str, longest: float | None = None, *, at_once: bool = False) -> None:
        """Wait until a request may go out; `at_once` takes no wait of its bucket. Raises as `Budget.acquire`."""
        await self.of(bucket_of(path)).acquire(0.0 if at_once else longest)
        if self.over_all is not None:
            await self.over_all.acquire(longest)

    def adopt(self, before: Buckets) -> None:
        """Take over what went out, and what was told, before it was known whose budgets these are."""
        for bucket in (PUBLIC_API, LEGACY, METRICS):
            if bucket.name in before._budgets:
                self.of(bucket).adopt(before._budgets[bucket.name])
        if self.over_all is not None and before.over_all is not None:
            self.over_all.adopt(before.over_all)

    def _made(self, bucket: Bucket, allowance: Allowance | None) -> Budget:
        made = Budget(self._clock, allowance, None if self._book is None else self._book(bucket.name), bucket.window)
        made.hear()
        return made


class Budgets:
    """The budgets of a process, some for each organisation: all of its sources share them."""

    def __init__(self, clock: Clock, allowance: Allowance, book: Callable[[str], Book] | None = None) -> None:
        self._clock = clock
        self._allowance = allowance
        self._book = book
        self._buckets: dict[str, Buckets] = {}
        self._of_keys: dict[str, Buckets] = {}

    def of(self, organization: str) -> Buckets:
        """Return the budgets of an organisation, made on first use."""
        if organization not in self._buckets:
            book = self._book
            named = None if book is None else lambda bucket: book(f"{organization} {bucket}")
            self._buckets[organization] = Buckets(self._clock, self._allowance, named)
        return self._buckets[organization]

    def of_keys(self, keys: str) -> Buckets:
        """Return the budgets of keys whose organisation is not known yet; only this process knows of them."""
        return self._of_keys.setdefault(keys, Buckets(self._clock, self._allowance))
