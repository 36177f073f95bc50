"""One connection pool to a Langfuse server: authentication, budget, and what each answer means.

Retrying is the caller's business; `get` alone waits out a 429 by itself, since it concerns every request of the
organisation.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from sync_worker.backoff import Backoff
from sync_worker.clock import Clock
from sync_worker.connections import Routed
from sync_worker.errors import CredentialsRefused, SourcePaused, TransientError
from sync_worker.http import Hooks, describe, redirect_target, retry_after, shown
from sync_worker.json_text import parse_answer
from sync_worker.langfuse.budget import Budget, RateLimited
from sync_worker.langfuse.pace import Pace

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds; Langfuse gives its store 30 s, and an edge in front of it up to 100 s
HEALTH_PATH = "/api/public/health"
_ASK_TIMEOUT = 10.0  # seconds
_DEFAULT_RETRY_AFTER = 60.0  # seconds; the length of Langfuse's rate-limit window

log = logging.getLogger(__name__)


class PageTooHeavy(TransientError):
    """The server could not serve so much at once: ask for a smaller page."""


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
        budget: Budget,
        backoff: Backoff,
        clock: Clock,
        pace: Pace | None = None,
        media_hosts: Sequence[str] = (),
        hooks: Hooks | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url
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
        self.http = httpx.AsyncClient(
            auth=httpx.BasicAuth(public_key, secret_key),
            timeout=httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
            headers={"Accept": "application/json", "User-Agent": "langfuse-kelet-sync"},
            follow_redirects=False,
            transport=transport or Routed(),
            event_hooks=hooks,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def ask_time(self) -> None:
        """Let the server say what time it is, in whatever it answers; that it does not answer is for others to meet.

        Raises as `admitted`.
        """
        await self.admitted()
        try:
            async with self.http.stream(
                "GET", self.base_url + HEALTH_PATH, headers={"Cache-Control": "no-cache"}, timeout=_ASK_TIMEOUT
            ):
                pass  # a hook hears the date of the answer; its body is of no interest
        except httpx.HTTPError as fault:
            log.debug("Langfuse does not say what time it is: %s", describe(fault), extra={"action": "clock"})

    async def admitted(self) -> None:
        """Wait until the budget admits one more request, and count it.

        Raises Stopped, and RateLimited when Langfuse told this or another run to wait beyond patience.
        """
        await self.budget.acquire(self.backoff.left)
        self.requests += 1

    async def get(self, path: str, params: Mapping[str, str]) -> Answer:
        """GET a path below the base URL, once but for 429s, which are waited out. Raises as `attempt`."""
        while True:
            try:
                return await self.attempt(path, params)
            except RateLimited as fault:
                await self.backoff.wait(fault)

    async def attempt(self, path: str, params: Mapping[str, str]) -> Answer:
        """GET a path below the base URL, once.

        Raises RateLimited, PageTooHeavy, ServerFault, TransientError, EndpointMissing, RequestRejected,
        CredentialsRefused, or SourcePaused for a redirect.
        """
        await self.admitted()
        await self._pace.begin()
        began, failed = self.clock.monotonic(), True
        try:
            response = await self._send(path, params)
            failed = response.status_code >= 500
        finally:
            self._pace.end(self.clock.monotonic() - began, failed=failed)
        return self._answer(path, response)

    async def _send(self, path: str, params: Mapping[str, str]) -> httpx.Response:
        started = time.perf_counter()
        try:
            response = await self.http.get(self.base_url + path, params=dict(params))
        except (httpx.ReadTimeout, httpx.WriteTimeout) as fault:
            raise ServerFault(f"Langfuse did not answer in time ({type(fault).__name__}) at {path}") from fault
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as fault:
            # The connection stood: a server, or what is in front of it, may break down over this very page.
            raise ServerFault(f"Langfuse broke off its answer at {path}: {describe(fault)}") from fault
        except httpx.HTTPError as fault:
            raise TransientError(f"Langfuse cannot be reached at {self.base_url}: {describe(fault)}") from fault
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
            raise ServerFault(f"Langfuse answered with JSON that cannot be read at {path}: {self._said(response)!r}")
        raise TransientError(
            f"{self.base_url}{path} answered 200 with something other than JSON ({self._said(response)!r}). "
            "Try: is LANGFUSE_BASE_URL the address of Langfuse itself, not of a login page or proxy?"
        )

    def failure(self, path: str, response: httpx.Response) -> Exception:
        """Return the error that an answer other than 200 means; a 429 also holds further requests back."""
        status = response.status_code
        said = self._said(response)
        where = f"{self.base_url}{path}"
        if status == 429:
            return self._limited(response)
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
            return ServerFault(f"Langfuse answered {status} at {path}: {said}", retry_after=retry_after(response))
        return RequestRejected(f"Langfuse did not accept the request ({status} at {path}: {said})")

    def _limited(self, response: httpx.Response) -> RateLimited:
        limit = response.headers.get("X-RateLimit-Limit", "")
        known = limit.isascii() and limit.isdigit()
        if known:
            self.budget.learn(int(limit))
        asked = retry_after(response)
        seconds = _DEFAULT_RETRY_AFTER if asked is None else asked
        self.budget.block(seconds)
        count = limit if known else "unknown"
        return RateLimited(
            f"Langfuse's rate limit is reached ({count} requests a minute for the organisation)", retry_after=seconds
        )

    def _said(self, response: httpx.Response) -> str:
        return shown(response.text, self._unspeakable)
