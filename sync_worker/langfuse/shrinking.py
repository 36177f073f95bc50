"""Fetches a page smaller and smaller while the server cannot serve it; what is too large shows only by trying."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sync_worker.errors import TransientError
from sync_worker.langfuse.langfuse_client import LangfuseClient, PageTooHeavy, ServerError
from sync_worker.langfuse.page_size import PageSize

#: What a page is divided by when the server fails or times out on it: each such try is slow, so few are made.
_SHRINK_ON_ERROR = 8

T = TypeVar("T")

log = logging.getLogger(__name__)


async def fetch_fitting(
    client: LangfuseClient,
    size: PageSize,
    fetch: Callable[[int], Awaitable[T]],
    alone: Callable[[TransientError], Awaitable[T]],
) -> T:
    """Return what `fetch` gives for as many observations as the server bears; `alone` handles one not served.

    Raises as `fetch` does, or the transient error when the retry deadline passes; Stopped may be raised between tries.
    """
    errors = 0
    while True:
        client.clock.check()
        await client.backoff.ready()
        limit = size.limit
        try:
            served = await fetch(limit)
        except PageTooHeavy as error:
            if limit == 1:
                return await alone(error)
            _shrink(size, limit, 2, error)
        except ServerError as error:
            errors += 1
            await client.backoff.wait(error)
            if errors > 1:
                if limit == 1:
                    return await alone(error)
                _shrink(size, limit, _SHRINK_ON_ERROR, error)
        except TransientError as error:
            await client.backoff.wait(error)
        else:
            client.backoff.success()
            return served


def _shrink(size: PageSize, limit: int, divisor: int, error: TransientError) -> None:
    size.record_failure(limit, divisor)
    log.info("%s: the page is made smaller, %d at most", error, size.limit, extra={"action": "shrink"})
