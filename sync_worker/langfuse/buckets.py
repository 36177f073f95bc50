"""Which of Langfuse's rate limits a request falls under, and the rate limiters of an organisation, one per limit.

Langfuse Cloud counts by organisation and bucket, and the limit of one bucket says nothing of another: on Hobby
`public-api` has 30 requests a minute, `public-api-legacy` 15, and `public-api-v2-metrics` 100 a day. (Langfuse v4.16.0,
`RateLimitService.ts` and the bucket that each route names; seen on a server that ran as Cloud does. `projects` and
`health` had no limit there; the few requests to them are counted all the same.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from sync_worker.choices import Api
from sync_worker.clock import Clock
from sync_worker.langfuse.rate_limiter import Quota, RateLimiter, SharedStore
from sync_worker.langfuse.request_log import WINDOW


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
    """The rate limiters of one organisation: one per bucket, and one over all where the operator set a limit."""

    def __init__(self, clock: Clock, quota: Quota, store: Callable[[str], SharedStore] | None = None) -> None:
        self._clock = clock
        self._quota = quota
        self._store = store
        self._limiters: dict[str, RateLimiter] = {}
        self.overall = None if quota.per_minute is None else self._new(_ALL, quota)

    def of(self, bucket: Bucket) -> RateLimiter:
        """Return the rate limiter of a bucket, made on first use."""
        if bucket.name not in self._limiters:
            # Where the operator set a limit, no other is applied, and buckets only keep waits that Langfuse asks for.
            quota = self._quota if self.overall is None else None
            self._limiters[bucket.name] = self._new(bucket, quota)
        return self._limiters[bucket.name]

    def per_minute(self, api: Api) -> int | None:
        """Return how many requests a minute may read observations by a generation of the API.

        None while no limit is known.
        """
        return (self.overall or self.of(LEGACY if api == "v1" else PUBLIC_API)).per_minute

    async def acquire(self, path: str, longest: float | None = None, *, at_once: bool = False) -> None:
        """Wait until a request may go out; `at_once` takes no wait of its bucket. Raises as `RateLimiter.acquire`."""
        await self.of(bucket_of(path)).acquire(0.0 if at_once else longest)
        if self.overall is not None:
            await self.overall.acquire(longest)

    def adopt(self, before: Buckets) -> None:
        """Take over requests, limits and waits from before the organisation was known."""
        for bucket in (PUBLIC_API, LEGACY, METRICS):
            if bucket.name in before._limiters:
                self.of(bucket).adopt(before._limiters[bucket.name])
        if self.overall is not None and before.overall is not None:
            self.overall.adopt(before.overall)

    def _new(self, bucket: Bucket, quota: Quota | None) -> RateLimiter:
        made = RateLimiter(self._clock, quota, None if self._store is None else self._store(bucket.name), bucket.window)
        made.refresh()
        return made


class RateLimiters:
    """The rate limiters of a process by organisation: all of its sources share them.

    Sources with another quota have limiters of their own, and share requests, limits and waits through the store, as
    two processes do.
    """

    def __init__(self, clock: Clock, quota: Quota, store: Callable[[str], SharedStore] | None = None) -> None:
        self._clock = clock
        self._quota = quota
        self._store = store
        self._buckets: dict[tuple[str, Quota], Buckets] = {}
        self._of_keys: dict[tuple[str, Quota], Buckets] = {}

    def of(self, organization: str, quota: Quota | None = None) -> Buckets:
        """Return the rate limiters of an organisation under a quota, the common one if None; made on first use."""
        quota = quota or self._quota
        if (organization, quota) not in self._buckets:
            store = self._store
            named = None if store is None else lambda bucket: store(f"{organization} {bucket}")
            self._buckets[organization, quota] = Buckets(self._clock, quota, named)
        return self._buckets[organization, quota]

    def of_keys(self, keys: str, quota: Quota | None = None) -> Buckets:
        """Return the rate limiters of keys whose organisation is not known yet; not shared between processes."""
        quota = quota or self._quota
        return self._of_keys.setdefault((keys, quota), Buckets(self._clock, quota))

    def quota_of(self, per_minute: int | None, share: Fraction) -> Quota:
        """Return the quota of a source with these settings, in this process."""
        return Quota(per_minute, share, self._quota.parts)
