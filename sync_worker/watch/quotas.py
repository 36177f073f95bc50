"""How many requests to Langfuse a source may send, and how many of these are free now."""

from __future__ import annotations

from dataclasses import dataclass

from sync_worker.langfuse.rate_limiter import Quota
from sync_worker.ledger import Ledger, SourceState
from sync_worker.settings import Settings
from sync_worker.sync.identities import organization_scope

#: The rate limit that `SYNC_REQUESTS_PER_MINUTE` sets, over all of Langfuse's, and its length in seconds.
_ALL, _MINUTE = "all", 60


@dataclass(frozen=True, slots=True)
class RequestQuota:
    """One rate limit: of `limit` requests in `window` seconds, all runs on this state file may use `quota`."""

    endpoint: str
    limit: int
    quota: int
    remaining: int  # 0 during a wait that Langfuse asked for
    window: int


def request_quotas(ledger: Ledger, state: SourceState, settings: Settings, now_ms: int) -> list[RequestQuota]:
    """Return the known limits of a source; none while none is known. Raises StateError."""
    organization = organization_scope(state)
    quota = Quota(settings.requests_per_minute, settings.budget_share)
    if settings.requests_per_minute is not None:
        limits: list[tuple[str, int, int, int | None]] = [(_ALL, settings.requests_per_minute, _MINUTE, None)]
    else:
        limits = [
            (bucket, limit, window, blocked_until)
            for bucket, (limit, window, blocked_until) in ledger.request_limits(organization).items()
            if limit is not None
        ]
    found = []
    for bucket, limit, window, blocked_until in limits:
        allowed = quota.of(limit) or limit
        used = ledger.count_requests(f"{organization} {bucket}", now_ms - window * 1000)
        waits = blocked_until is not None and now_ms < blocked_until
        found.append(RequestQuota(bucket, limit, allowed, 0 if waits else max(0, allowed - used), window))
    return found
