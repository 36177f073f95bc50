"""One connection pool to a Langfuse server: authentication, budget, and what each answer means.

Retrying is the caller's business; `get` alone waits out a 429 by itself, since it concerns every request of the
organisation.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from sync_worker.answers import MAX_BYTES, BadAnswer, BoundedClient, TooLarge, TooSlow
from sync_worker.backoff import Backoff
from sync_worker.clock import Clock
from sync_worker.connections import ProxyTransport
from sync_worker.errors import CredentialsRefused, SourcePaused, TransientError
from sync_worker.http import Hooks, describe, redirect_target, resets_in, response_text, retry_after
from sync_worker.json_text import parse_answer
from sync_worker.langfuse.buckets import Buckets, bucket_of
from sync_worker.langfuse.budget import RateLimited
from sync_worker.langfuse.filters import MAX_FILTER_BYTES
from sync_worker.langfuse.pace import Pace

_READY = "/api/public/ready"  # answered without keys, and without a look into the database
_ASK_TIMEOUT = 10.0  # seconds
_DEFAULT_RETRY_AFTER = 60.0  # seconds; the length of most of Langfuse's rate-limit intervals
_LONGEST_LIMIT = 10  # digits

log = logging.getLogger(__name__)


class PageTooHeavy(TransientError):
    """The server could not serve so much at once: ask for a smaller page."""


class AnswerTooLarge(PageTooHeavy):
    """The server served more than is taken at once."""


class ServerFault(TransientError):
    """The server answered 5xx, broke off or was too slow: it is down, or it cannot serve this very page."""


class EndpointMissing(SourcePaused):
    """The server does not have this endpoint: another generation of the API, or not Langfuse at all."""


class RequestRejected(SourcePaused):
    """The server does not understand the request (400): a fault of ours or of a setting, not cured by retrying."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded JSON answer; `size` is its length in bytes before decoding."""

    body: Any
    size: int


class LangfuseClient:
    """Speaks to one Langfuse project. Never follows a redirect: it would carry the credentials elsewhere."""

    def __init__(
        self,
        base_url: str,
        public_key: str,
        secret_key: str,
        *,
        budget: Buckets,
        backoff: Backoff,
        clock: Clock,
        pace: Pace | None = None,
        media_hosts: Sequence[str] = (),
        max_bytes: int = MAX_BYTES,
        filter_bytes: int = MAX_FILTER_BYTES,
        hooks: Hooks | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url
        self.filter_bytes = filter_bytes  # that a list of ids may take of an address
        self.media_hosts = media_hosts  # hosts, with or without a port, that may keep media wherever they are
        self._pace = pace or Pace(clock, None)
        self.budget = budget
        self.backoff = backoff
        self.clock = clock
        self.requests = 0
        self.keys = (public_key, secret_key)
        self._unspeakable = (
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
        """Let the server say what time it is, in whatever it answers; that it does not answer is for others to meet.

        Raises as `admitted`.
        """
        await self.admitted(_READY)
        try:
            async with self.http.stream(
                "GET", self.base_url + _READY, headers={"Cache-Control": "no-cache"}, timeout=_ASK_TIMEOUT
            ):
                pass  # a hook hears the date of the answer; its body is of no interest
        except httpx.HTTPError as fault:
            log.debug("Langfuse does not say what time it is: %s", describe(fault), extra={"action": "clock"})

    async def admitted(self, path: str, *, at_once: bool = False) -> None:
        """Wait until the budget admits one more request to a path below the base URL, and count it.

        Raises Stopped, and RateLimited when Langfuse told this or another run to wait beyond patience, or at all where
        it is to go out `at_once`.
        """
        await self.budget.acquire(path, self.backoff.remaining, at_once=at_once)
        self.requests += 1

    async def get(self, path: str, params: Mapping[str, str]) -> Answer:
        """GET a path below the base URL, once but for 429s, which are waited out. Raises as `attempt`."""
        while True:
            try:
                return await self.attempt(path, params)
            except RateLimited as fault:
                await self.backoff.wait(fault)

    async def attempt(self, path: str, params: Mapping[str, str], *, at_once: bool = False) -> Answer:
        """GET a path below the base URL, once; see `admitted` for `at_once`.

        Raises RateLimited, PageTooHeavy, ServerFault, TransientError, EndpointMissing, RequestRejected,
        CredentialsRefused, SourcePaused for a redirect, RetryDeadlineExceeded, or Stopped.
        """
        await self.admitted(path, at_once=at_once)
        await self._pace.begin()
        began, failed = self.clock.monotonic(), True
        try:
            with self.timed():
                response = await self._send(path, params)
            failed = response.status_code >= 500
        except PageTooHeavy as fault:
            failed = not isinstance(fault, AnswerTooLarge)  # that one the server did serve
            self.backoff.check_deadline(fault)  # each smaller page may be as slow
            raise
        finally:
            self._pace.end(self.clock.monotonic() - began, failed=failed)
        return self._answer(path, response)

    async def _send(self, path: str, params: Mapping[str, str]) -> httpx.Response:
        started = time.perf_counter()
        try:
            response = await self.http.get(self.base_url + path, params=dict(params))
        except httpx.HTTPError as fault:
            raise self.lost(path, fault) from fault
        log.debug(
            "GET %s: %d, %d bytes in %.0f ms", path, response.status_code, len(response.content),
            (time.perf_counter() - started) * 1000, extra={"action": "request"},
        )  # fmt: skip
        return response

    def _answer(self, path: str, response: httpx.Response) -> Answer:
        if response.status_code != httpx.codes.OK:
            raise self.failure(path, response)
        try:
            is_json, body = parse_answer(response.content)
        except MemoryError:
            raise PageTooHeavy(f"an answer at {path} takes more memory than there is") from None
        if is_json:
            return Answer(body, len(response.content))
        if "json" in response.headers.get("Content-Type", ""):
            raise ServerFault(f"Langfuse answered with JSON that cannot be read at {path}: {self._said(response)}")
        raise TransientError(
            f"{self.base_url}{path} answered 200 with something other than JSON ({self._said(response)}). "
            "Try: is LANGFUSE_BASE_URL the address of Langfuse itself, not of a login page or proxy?"
        )

    def lost(self, path: str, fault: httpx.HTTPError) -> TransientError:
        """Return the error that it means when no answer came, or none that can be taken."""
        match fault:
            case TooLarge():
                return AnswerTooLarge(f"Langfuse at {path}: {fault}")
            case TooSlow():
                return PageTooHeavy(f"Langfuse at {path}: {fault}")
            case BadAnswer():
                return ServerFault(f"Langfuse at {path}: {fault}")
            case httpx.ReadTimeout() | httpx.WriteTimeout():
                return ServerFault(f"Langfuse did not answer in time ({type(fault).__name__}) at {path}")
            case httpx.ReadError() | httpx.WriteError() | httpx.RemoteProtocolError():
                # The connection stood: a server, or what is in front of it, may break down over this very page.
                return ServerFault(f"Langfuse broke off its answer at {path}: {describe(fault)}")
        return TransientError(f"Langfuse cannot be reached at {self.base_url}: {describe(fault)}")

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Have a transient fault that comes out of this tell how long it took."""
        began = self.clock.monotonic()
        try:
            yield
        except TransientError as fault:
            fault.took = self.clock.monotonic() - began
            raise

    def failure(self, path: str, response: httpx.Response) -> Exception:
        """Return the error that an answer other than 200 means; a 429 also holds further requests back."""
        status = response.status_code
        said = self._said(response)
        where = f"{self.base_url}{path}"
        if status == 429:
            return self._limited(path, response)
        if status in {413, 422, 524}:
            return PageTooHeavy(f"Langfuse answered {status} at {path}: {said}")
        if status in {401, 403}:
            return CredentialsRefused(
                f"Langfuse refused the keys ({status} at {where}: {said}). "
                "Try: LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY of a project of this server and region"
            )
        if status in {404, 405, 410, 501}:
            return EndpointMissing(f"{where} is not there ({status}: {said})")
        if 200 <= status < 300:
            return TransientError(f"{where} answered {status} with something unknown, not Langfuse's API: {said}")
        if 300 <= status < 400:
            return SourcePaused(
                f"{where} redirects to {redirect_target(response)}, which is not followed with credentials. "
                "Try: set LANGFUSE_BASE_URL to the address it redirects to"
            )
        if status == 408 or status >= 500:
            asked = retry_after(response)
            return ServerFault(
                f"Langfuse answered {status} at {path}: {said}", retry_after=asked, overloaded=status >= 500
            )
        return RequestRejected(f"Langfuse did not accept the request ({status} at {path}: {said})")

    def _limited(self, path: str, response: httpx.Response) -> RateLimited:
        bucket = bucket_of(path)
        budget = self.budget.of(bucket)
        asked = next((wait for wait in (retry_after(response), resets_in(response)) if wait is not None), None)
        seconds = _DEFAULT_RETRY_AFTER if asked is None else asked
        limit = response.headers.get("X-RateLimit-Limit", "")
        known = limit.isascii() and limit.isdigit() and len(limit) < _LONGEST_LIMIT
        if known:
            budget.learn(int(limit), seconds)
        elif budget.limit is not None:
            budget.learn(budget.limit.requests, seconds)  # it holds after all
        budget.block(seconds)
        told = f"{limit} requests in {budget.window:.0f} s" if known else "how many requests is not told"
        return RateLimited(f"Langfuse's rate limit {bucket.name} is reached ({told})", retry_after=seconds)

    def _said(self, response: httpx.Response) -> str:
        return response_text(response, self._unspeakable)
