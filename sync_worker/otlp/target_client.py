"""One POST to a target's traces endpoint, or with a score to Kelet or to its logs endpoint, and what it answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import httpx

from sync_worker import __version__
from sync_worker.bounded_client import MAX_BYTES, BadAnswer, BoundedClient, BrokenOff, TooSlow
from sync_worker.compression import compress
from sync_worker.connections import ProxyTransport
from sync_worker.errors import CredentialsRejected, SourcePaused, TransientError
from sync_worker.http import Hooks, describe, excerpt, redirect_target, response_text, retry_after
from sync_worker.otlp.acknowledgement import partial_success, why_log_rejected, why_not_acknowledged
from sync_worker.otlp.batches import body
from sync_worker.spans.span_model import EncodedSpan
from sync_worker.targets import CONTENT_TYPES, Target
from sync_worker.wording import counted

_ASK_TIMEOUT = 10.0  # seconds
#: Bodies below this gain nothing from compression.
_MIN_COMPRESSED = 1024  # bytes

Compression = Literal["auto", "gzip", "none"]

log = logging.getLogger(__name__)


#: 5xx by which a server or a gateway says that it is overloaded or not there: not caused by the request.
_OVERLOADED = frozenset({503, 521, 522, 523, 529})


class Rejected(Exception):
    """The target rejected a batch for what is in it (400, 413, 422: `status`)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ProjectUnknown(SourcePaused):
    """The target does not know a project (404); `project` is its name."""

    def __init__(self, project: str, message: str) -> None:
        super().__init__(message)
        self.project = project


class RequestFailed(TransientError):
    """The target, or a gateway before it, failed at this very request: what is in it, or its size, may be why.

    That is a 5xx other than overload, and a time-out or an error on an open connection. With a
    `Retry-After` it is a plain TransientError. `status` is None where there was no answer.
    """

    def __init__(self, message: str, status: int | None = None, *, took: float = 0.0) -> None:
        super().__init__(message, took=took)
        self.status = status


@dataclass(frozen=True, slots=True)
class Accepted:
    """A batch was accepted; `rejected` spans of it were not (partial success), which ones is not known."""

    rejected: int = 0
    message: str = ""


@dataclass(slots=True)
class Traffic:
    """Traffic to a target."""

    requests: int = 0
    bytes_sent: int = 0  # as they went over the wire


def signal_url(traces_url: str, project: str) -> str:
    """Return the address of Kelet's signal endpoint for a project, beside the traces endpoint."""
    return f"{traces_url.removesuffix('/traces')}/projects/{quote(project, safe='')}/signal"


def logs_url(traces_url: str) -> str:
    """Return the address of a target's logs endpoint, beside the traces endpoint."""
    return f"{traces_url.removesuffix('/traces')}/logs"


class TargetClient:
    """Posts OTLP to one target. Follows no redirect: it would carry the key elsewhere.

    `redact` is applied to what Kelet says, which may repeat what was sent. `max_bytes` is the most that an answer may
    have, and `left` returns the seconds to the retry deadline, None where there is none. A request that went out is not
    ended when the run is asked to stop: it may have been taken.
    """

    def __init__(
        self,
        target: Target,
        *,
        compression: Compression = "auto",
        gzip_rejected: bool = False,
        max_bytes: int = MAX_BYTES,
        left: Callable[[], float | None] = lambda: None,
        hooks: Hooks | None = None,
        redact: Callable[[str], str] = str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.target = target
        self.url = target.url
        self.traffic = Traffic()
        self.gzip_rejected = gzip_rejected
        self._secrets = target.secrets
        self._redact = redact
        self._compression = compression
        self._http = BoundedClient(
            max_bytes=max_bytes,
            left=left,
            headers={
                "User-Agent": f"langfuse-kelet-sync/{__version__}",
                **target.headers,
                "Content-Type": CONTENT_TYPES[target.encoding],
            },
            transport=transport or ProxyTransport(),
            event_hooks=hooks,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask_time(self) -> None:
        """Send a request for its `Date` header, which a hook reads; a failure is only logged.

        On a connection of its own: servers are met that answer a HEAD with a body, which the next answer would begin
        with, so that what was taken would be sent twice.
        """
        try:
            async with self._http.stream("HEAD", self.url, headers={"Connection": "close"}, timeout=_ASK_TIMEOUT):
                pass  # a hook reads the `Date` header
        except httpx.HTTPError as error:
            log.debug("%s did not report the time: %s", self.target.title, describe(error), extra={"action": "clock"})

    async def post(self, batch: Sequence[EncodedSpan]) -> Accepted:
        """Send a batch of one project once.

        Raises Rejected (400, 413, 422), CredentialsRejected, SourcePaused or TransientError.
        """
        return await self.post_body(body(batch), batch[0].project, len(batch))

    async def post_body(self, plain: bytes, project: str, spans: int) -> Accepted:
        """Send a serialised request once, in the target's encoding; compressed where that is not rejected.

        Raises as `post`.
        """
        if self.target.encoding == "json":
            from sync_worker.otlp.json_encoding import as_json  # noqa: PLC0415 - most targets take protobuf

            plain = as_json(plain)
        is_worth_it = len(plain) >= _MIN_COMPRESSED and not self.gzip_rejected
        if self._compression == "gzip" or (self._compression == "auto" and is_worth_it):
            response = await self._post_spans(compress(plain), project, spans, zipped=True)
            if response.status_code in {400, 415} and self._compression == "auto":
                accepted = self._accepted(await self._post_spans(plain, project, spans, zipped=False), project)
                if not self.gzip_rejected:
                    self.gzip_rejected = True
                    log.warning(
                        "%s does not accept gzip: requests go uncompressed from now on",
                        self.target.title, extra={"action": "gzip"},
                    )  # fmt: skip
                return accepted
        else:
            response = await self._post_spans(plain, project, spans, zipped=False)
        return self._accepted(response, project)

    async def post_score(self, plain: bytes, project: str) -> None:
        """Send a score once: as a signal where the target takes signals, else as a request for logs. Raises as `post`.

        A log record that a partial success rejects is rejected.
        """
        if self.target.preset.takes_signals:
            url = signal_url(self.url, project)
            response = await self._post(url, plain, {"Content-Type": "application/json"}, "1 signal")
            self._check(response, url, project)
            return
        url = logs_url(self.url)
        if self.target.encoding == "json":
            from sync_worker.otlp.json_encoding import logs_as_json  # noqa: PLC0415 - few targets take JSON

            plain = logs_as_json(plain)
        headers = {}
        if self._compression == "gzip":
            plain, headers = compress(plain), {"Content-Encoding": "gzip"}
        response = await self._post(url, plain, headers, "1 score")
        self._check(response, url, project)
        message = excerpt(
            why_log_rejected(response.headers.get("Content-Type", ""), response.content), self._secrets, self._redact
        )
        if message:
            raise Rejected(
                response.status_code, f"{self.target.title} rejected it (partial success at {url}: {message})"
            )

    async def _post_spans(self, content: bytes, project: str, spans: int, *, zipped: bool) -> httpx.Response:
        header = self.target.preset.project_header
        headers = {} if header is None else {header: project}
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return await self._post(self.url, content, headers, counted(spans, "span"))

    async def _post(self, url: str, content: bytes, headers: dict[str, str], what: str) -> httpx.Response:
        started = time.perf_counter()
        self.traffic.requests += 1
        self.traffic.bytes_sent += len(content)
        try:
            response = await self._http.post(url, content=content, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise TransientError(
                f"{self.target.title} cannot be reached at {url}: {describe(error)}",
                took=time.perf_counter() - started,
            ) from error
        except (TooSlow, BrokenOff) as error:
            kind = RequestFailed if isinstance(error, TooSlow) else TransientError
            raise kind(
                f"the answer of {self.target.title} at {url}: {error}", took=time.perf_counter() - started
            ) from error
        except BadAnswer as error:  # of a success: of others the status is enough
            raise SourcePaused(f"{url} answered, but {error}. {self._no_acknowledgement}") from error
        except httpx.HTTPError as error:
            raise RequestFailed(
                f"{self.target.title} cannot be reached at {url}, or did not answer: {describe(error)}",
                took=time.perf_counter() - started,
            ) from error
        log.debug(
            "POST %s: %d, %s, %d bytes in %.0f ms", url, response.status_code, what, len(content),
            (time.perf_counter() - started) * 1000, extra={"action": "request"},
        )  # fmt: skip
        return response

    @property
    def _no_acknowledgement(self) -> str:
        return (
            "That is no acknowledgement: nothing was marked as sent. Try: is "
            f"{self.target.preset.url_setting} the address of {self.target.title}'s API, not of a login page or proxy?"
        )

    def _check(self, response: httpx.Response, url: str, project: str) -> None:
        """Return for an acknowledgement; raise what any other answer means."""
        status, title, preset = response.status_code, self.target.title, self.target.preset
        if 200 <= status < 300:
            error = why_not_acknowledged(status, response.headers.get("Content-Type", ""), response.content)
            if error is not None:
                text = response_text(response, self._secrets, self._redact)
                raise SourcePaused(f"{url} answered {status} with {error} ({text}). {self._no_acknowledgement}")
            return
        where = f"{status} at {url}: {response_text(response, self._secrets, self._redact)}"
        if status in {400, 413, 422}:
            raise Rejected(status, f"{title} rejected it ({where})")
        if status in {401, 403}:
            raise CredentialsRejected(
                f"{title} rejected the key ({where}). Try: {preset.key_setting}, a secret key that may send"
            )
        if status == 404 and preset.knows_projects:
            raise ProjectUnknown(
                project,
                f"{title} does not know the project {project!r}, or the address ({where}). Try: create the project at "
                f"console.kelet.ai, or check {preset.project_setting}, the routes and {preset.url_setting}; nothing "
                "was marked as sent",
            )
        if status in {408, 429} or status >= 500:
            asked = retry_after(response)
            if asked is not None or status == 429 or status in _OVERLOADED:
                raise TransientError(f"{title} answered {where}", retry_after=asked, overloaded=status >= 500)
            raise RequestFailed(f"{title} answered {where}", status)
        if 300 <= status < 400:
            raise SourcePaused(
                f"{url} redirects to {redirect_target(response)} ({status}), which is not followed with a key. "
                f"Try: set {preset.url_setting} to the address of {self.target.title}'s API, which may be that one"
            )
        endpoint = "traces" if url == self.url else "signal" if preset.takes_signals else "logs"
        if status == 415 and endpoint != "signal":
            other = "protobuf" if self.target.encoding == "json" else "json"
            raise SourcePaused(
                f"{title} does not take {CONTENT_TYPES[self.target.encoding]} ({where}). "
                f"Try: SYNC_TARGET_ENCODING={other}, or check {preset.url_setting}"
            )
        off = {"traces": "", "signal": ", or SYNC_SCORES=false", "logs": ", or SYNC_SCORE_EVENTS=false"}[endpoint]
        raise SourcePaused(
            f"{title} answered {where}, which is no answer of its {endpoint} endpoint. "
            f"Try: check {preset.url_setting}{off}"
        )

    def _accepted(self, response: httpx.Response, project: str) -> Accepted:
        """Return what an answer to spans means, and read its partial success. Raises as `post`."""
        self._check(response, self.url, project)
        partial = partial_success(response.headers.get("Content-Type", ""), response.content)
        message = excerpt(partial.error_message, self._secrets, self._redact) if partial.error_message else ""
        if partial.rejected_spans > 0:
            return Accepted(partial.rejected_spans, message)
        if message:
            log.warning(
                "%s accepted all spans, with a warning: %s", self.target.title, message, extra={"action": "warning"}
            )
        return Accepted()
