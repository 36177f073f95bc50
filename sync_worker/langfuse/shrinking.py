"""Fetches a page smaller and smaller while the server cannot serve it; what is too large shows only by trying."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sync_worker.errors import TransientError
from sync_worker.langfuse.client import LangfuseClient, PageTooHeavy, ServerFault
from sync_worker.langfuse.page_size import PageSize

#: What a page is divided by when the server fails or times out on it: each such try is slow, so few are made.
_SHRINK_ON_FAULT = 8

T = TypeVar("T")

log = logging.getLogger(__name__)


async def fetch_fitting(
    client: LangfuseClient,
    size: PageSize,
    fetch: Callable[[int], Awaitable[T]],
    alone: Callable[[TransientError], Awaitable[T]],
) -> T:
    """Return what `fetch` gives for as many observations as the server bears; `alone` settles one that is not served.

    Raises as `fetch` does, or what is transient when patience ends; Stopped may be raised between tries.
    """
    faults = 0
    while True:
        client.clock.check()
        await client.backoff.ready()
        limit = size.limit
        try:
            served = await fetch(limit)
        except PageTooHeavy as fault:
            if limit == 1:
                return await alone(fault)
            _shrink(size, limit, 2, fault)
        except ServerFault as fault:
            faults += 1
            await client.backoff.wait(fault)
            if faults > 1:
                if limit == 1:
                    return await alone(fault)
                _shrink(size, limit, _SHRINK_ON_FAULT, fault)
        except TransientError as fault:
            await client.backoff.wait(fault)
        else:
            client.backoff.success()
            return served


def _shrink(size: PageSize, limit: int, divisor: int, fault: TransientError) -> None:
    size.refused(limit, divisor)
    log.info("%s: the page becomes %d observations", fault, size.limit, extra={"action": "shrink"})
