"""One connection pool to a Langfuse server: authentication, rate limits, and what each response means.

Callers retry; only `get` waits out a 429 itself, since it concerns every request of the organisation.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import httpx

from sync_worker.backoff import Backoff
from sync_worker.bounded_client import MAX_BYTES, BadAnswer, BoundedClient, TooLarge, TooSlow
from sync_worker.clock import Clock
from sync_worker.connections import ProxyTransport
from sync_worker.errors import CredentialsRejected, SourcePaused, TransientError
from sync_worker.http import Hooks, describe, redirect_target, resets_in, response_text, retry_after
from sync_worker.json_text import parse_odd, parse_valid
from sync_worker.langfuse.buckets import Buckets, bucket_of
from sync_worker.langfuse.concurrency import ConcurrencyLimit, Slots
from sync_worker.langfuse.filters import MAX_FILTER_BYTES
from sync_worker.langfuse.rate_limiter import RateLimited
from sync_worker.wording import counted

_READY = "/api/public/ready"  # answered without keys and without a database query
_ASK_TIMEOUT = 10.0  # seconds
_DEFAULT_RETRY_AFTER = 60.0  # seconds; the length of most of Langfuse's rate-limit intervals
_LONGEST_LIMIT = 10  # digits

log = logging.getLogger(__name__)


class PageTooHeavy(TransientError):
    """The server could not serve so much at once: ask for a smaller page."""


class AnswerTooLarge(PageTooHeavy):
    """The server served more than is taken at once."""


class ServerError(TransientError):
    """The server answered 5xx, broke off or was too slow: it is down, or cannot serve this page."""


class EndpointMissing(SourcePaused):
    """The server does not have this endpoint: another generation of the API, or not Langfuse at all."""


class RequestRejected(SourcePaused):
    """The server does not understand the request (400): an error of ours or of a setting, not fixed by a retry."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded JSON answer; `size` is its length in bytes before decoding.

    Where it `is_valid`, no text in it holds half a surrogate pair.
    """

    body: Any
    size: int
    is_valid: bool


class LangfuseClient:
    """Client for one Langfuse project. Never follows a redirect: it would carry the credentials elsewhere."""

    def __init__(
        self,
        base_url: str,
        public_key: str,
        secret_key: str,
        *,
        rate_limits: Buckets,
        backoff: Backoff,
        clock: Clock,
        concurrency: Slots | None = None,
        media_hosts: Sequence[str] = (),
        max_bytes: int = MAX_BYTES,
        filter_bytes: int = MAX_FILTER_BYTES,
        hooks: Hooks | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url
        self.filter_bytes = filter_bytes  # that a list of ids may take of an address
        self.media_hosts = media_hosts  # hosts, with or without a port, that may keep media wherever they are
        self._concurrency: Slots = concurrency or ConcurrencyLimit(clock, None)
        self.rate_limits = rate_limits
        self.backoff = backoff
        self.clock = clock
        self.requests = 0
        self.keys = (public_key, secret_key)
        self.redact: Callable[[str], str] = str  # of what Langfuse says, which may repeat what it holds
        self._secrets = (
            base64.b64encode(f"{public_key}:{secret_key}".encode()).decode(),
            secret_key,
            public_key,
        )
        self.http = BoundedClient(
            max_bytes=max_bytes,
            clock=clock,
            left=lambda: backoff.remaining,
            auth=httpx.BasicAuth(public_key, secret_key),
            headers={"Accept": "application/json", "User-Agent": "langfuse-kelet-sync"},
            transport=transport or ProxyTransport(),
            event_hooks=hooks,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def ask_time(self) -> None:
        """Send a request for its `Date` header, which a hook reads; a failure is only logged.

        Raises as `admit`.
        """
        await self.admit(_READY)
        try:
            async with self.http.stream(
                "GET", self.base_url + _READY, headers={"Cache-Control": "no-cache"}, timeout=_ASK_TIMEOUT
            ):
                pass  # a hook reads the `Date` header; the body does not matter
        except httpx.HTTPError as error:
            log.debug("Langfuse did not report the time: %s", describe(error), extra={"action": "clock"})

    async def admit(self, path: str, *, at_once: bool = False) -> None:
        """Wait until the rate limiter admits one more request to a path below the base URL, and count it.

        Raises Stopped, and RateLimited when Langfuse asked this or another run to wait beyond the retry deadline, or
        at all with `at_once`.
        """
        await self.rate_limits.acquire(path, self.backoff.remaining, at_once=at_once)
        self.requests += 1

    async def get(self, path: str, params: Mapping[str, str]) -> Answer:
        """GET a path below the base URL, once but for 429s, which are waited out. Raises as `attempt`."""
        while True:
            try:
                return await self.attempt(path, params)
            except RateLimited as error:
                await self.backoff.wait(error)

    async def attempt(self, path: str, params: Mapping[str, str], *, at_once: bool = False) -> Answer:
        """GET a path below the base URL, once; see `admit` for `at_once`.

        Raises RateLimited, PageTooHeavy, ServerError, TransientError, EndpointMissing, RequestRejected,
        CredentialsRejected, SourcePaused for a redirect, RetryDeadlineExceeded, or Stopped.
        """
        await self.admit(path, at_once=at_once)
        await self._concurrency.acquire()
        began, failed = self.clock.monotonic(), True
        try:
            with self.timed():
                response = await self._send(path, params)
            failed = response.status_code >= 500
        except PageTooHeavy as error:
            failed = not isinstance(error, AnswerTooLarge)  # that one the server did serve
            self.backoff.check_deadline(error)  # each smaller page may be as slow
            raise
        finally:
            self._concurrency.release(self.clock.monotonic() - began, failed=failed)
        return self._answer(path, response)

    async def _send(self, path: str, params: Mapping[str, str]) -> httpx.Response:
        started = time.perf_counter()
        try:
            response = await self.http.get(_address(self.base_url + path, params))
        except httpx.HTTPError as error:
            raise self.lost(path, error) from error
        log.debug(
            "GET %s: %d, %d bytes in %.0f ms", path, response.status_code, len(response.content),
            (time.perf_counter() - started) * 1000, extra={"action": "request"},
        )  # fmt: skip
        return response

    def _answer(self, path: str, response: httpx.Response) -> Answer:
        if response.status_code != httpx.codes.OK:
            raise self.failure(path, response)
        try:
            is_valid, body = parse_valid(response.content)
            is_json, body = (True, body) if is_valid else parse_odd(response.content)
        except MemoryError:
            raise PageTooHeavy(f"an answer at {path} takes more memory than there is") from None
        if is_json:
            return Answer(body, len(response.content), is_valid)
        if "json" in response.headers.get("Content-Type", ""):
            raise ServerError(
                f"Langfuse answered with JSON that cannot be read at {path}: {self._response_text(response)}"
            )
        raise TransientError(
            f"{self.base_url}{path} answered 200 with something other than JSON ({self._response_text(response)}). "
            "Try: is LANGFUSE_BASE_URL the address of Langfuse itself, not of a login page or proxy?"
        )

    def lost(self, path: str, error: httpx.HTTPError) -> TransientError:
        """Return the error for a missing or unusable response."""
        match error:
            case TooLarge():
                return AnswerTooLarge(f"Langfuse at {path}: {error}")
            case TooSlow():
                return PageTooHeavy(f"Langfuse at {path}: {error}")
            case BadAnswer():
                return ServerError(f"Langfuse at {path}: {error}")
            case httpx.ReadTimeout() | httpx.WriteTimeout():
                return ServerError(f"Langfuse did not answer in time ({type(error).__name__}) at {path}")
            case httpx.ReadError() | httpx.WriteError() | httpx.RemoteProtocolError():
                # The connection stood: a server, or what is in front of it, may break down over this very page.
                return ServerError(f"Langfuse broke off its answer at {path}: {describe(error)}")
        return TransientError(f"Langfuse cannot be reached at {self.base_url}: {describe(error)}")

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Have a transient error that is raised within carry its duration in `took`."""
        began = self.clock.monotonic()
        try:
            yield
        except TransientError as error:
            error.took = self.clock.monotonic() - began
            raise

    def failure(self, path: str, response: httpx.Response) -> Exception:
        """Return the error that an answer other than 200 means; a 429 also delays further requests."""
        status = response.status_code
        text = self._response_text(response)
        where = f"{self.base_url}{path}"
        if status == 429:
            return self._limited(path, response)
        if status in {413, 422, 524}:
            return PageTooHeavy(f"Langfuse answered {status} at {path}: {text}")
        if status in {401, 403}:
            return CredentialsRejected(
                f"Langfuse rejected the keys ({status} at {where}: {text}). "
                "Try: LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY of a project of this server and region"
            )
        if status in {404, 405, 410, 501}:
            return EndpointMissing(f"{where} is not there ({status}: {text})")
        if 200 <= status < 300:
            return TransientError(f"{where} answered {status} with something unknown, not Langfuse's API: {text}")
        if 300 <= status < 400:
            return SourcePaused(
                f"{where} redirects to {redirect_target(response)}, which is not followed with credentials. "
                "Try: set LANGFUSE_BASE_URL to the address it redirects to"
            )
        if status == 408 or status >= 500:
            asked = retry_after(response)
            return ServerError(
                f"Langfuse answered {status} at {path}: {text}", retry_after=asked, overloaded=status >= 500
            )
        return RequestRejected(f"Langfuse did not accept the request ({status} at {path}: {text})")

    def _limited(self, path: str, response: httpx.Response) -> RateLimited:
        bucket = bucket_of(path)
        limiter = self.rate_limits.of(bucket)
        asked = next((wait for wait in (retry_after(response), resets_in(response)) if wait is not None), None)
        seconds = _DEFAULT_RETRY_AFTER if asked is None else asked
        limit = response.headers.get("X-RateLimit-Limit", "")
        known = limit.isascii() and limit.isdigit() and len(limit) < _LONGEST_LIMIT
        if known:
            limiter.set_limit(int(limit), seconds)
        elif limiter.limit is not None:
            limiter.set_limit(limiter.limit.requests, seconds)  # still the limit
        limiter.block(seconds)
        reported = (
            f"{counted(int(limit), 'request')} in {limiter.window:.0f} s" if known else "the limit is not reported"
        )
        return RateLimited(f"Langfuse's rate limit {bucket.name} is reached ({reported})", retry_after=seconds)

    def _response_text(self, response: httpx.Response) -> str:
        return response_text(response, self._secrets, self.redact)


class _Address(httpx.URL):
    """The address of a request; httpx would parse URL and query for each one, character by character.

    It uses a private attribute of httpx 0.28; without that one, httpx's own way is taken.
    """

    def __init__(self, url: httpx.URL, query: str) -> None:
        super().__init__(url)
        self._uri_reference = self._uri_reference._replace(query=query)


_IS_KNOWN_HTTPX = hasattr(httpx.URL(""), "_uri_reference")


def _address(url: str, params: Mapping[str, str]) -> httpx.URL:
    if not params:
        return _parsed(url)
    query = urlencode(params)
    return _Address(_parsed(url), query) if _IS_KNOWN_HTTPX else _parsed(url).copy_with(query=query.encode())


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)
