"""Faults for the demo servers: `server.script = faults.…`.

A constructor in lower case makes either a `Reply` (what happens) or a script (when it happens). `in_turn`, `when` and
`always` turn replies into scripts:

    langfuse.script = in_turn(status(503), drop(), None)      # then as usual
    kelet.script = when(has_span("poison"), status(400))
"""

from __future__ import annotations

import gzip
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import orjson

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.receiver import PartialSuccess, ReceivedSpan, TraceRequest
from sync_worker.demo.serving import Reply, Request, json_reply

R = TypeVar("R", bound=Request)
Script = Callable[[R], Reply | None]


def status(code: int, *, retry_after: str | float | None = None, message: str = "") -> Reply:
    """Answer with a status and the JSON body that both services use for errors."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    text = message or {503: "Service Unavailable", 500: "Internal Server Error"}.get(code, "error")
    return json_reply(code, {"message": text, "detail": text}, headers)


def rate_limited(retry_after: int = 1, *, limit: int = 30) -> Reply:
    """Answer 429 as Langfuse Cloud does, with its headers and body."""
    reset = "Sun Nov 22 2026 16:00:00 GMT+0000 (Coordinated Universal Time)"
    headers = {
        "Retry-After": str(retry_after),
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": reset,
    }
    details = {"retryAfterSeconds": retry_after, "limit": limit, "remaining": 0, "resetAt": "2026-11-22T16:00:00.000Z"}
    content = {"message": "Rate limit exceeded", "code": "rate_limited", "details": details}
    return json_reply(429, content, headers)


def rate_limited_plainly(retry_after: int | None = None) -> Reply:
    """Answer 429 as older servers do: plain text, and no more than one header."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Reply(429, {"Content-Type": "text/plain", **headers}, b"429 - rate limit exceeded")


def limited(limit: int, now: Callable[[], float], *, interval: float = 60.0) -> Script[Request]:
    """Return a script that counts as Langfuse Cloud does, and answers 429 where the limit is reached.

    It counts from the first request, denied ones too, and serves one less than the limit. `now` is seconds.
    """
    began, count = -interval, 0
    lock = threading.Lock()

    def script(_: Request) -> Reply | None:
        nonlocal began, count
        with lock:
            if now() - began >= interval:
                began, count = now(), 0
            count += 1
            return rate_limited(math.ceil(began + interval - now()), limit=limit) if count >= limit else None

    return script


def query_timed_out() -> Reply:
    """Answer 422 as Langfuse does when its store took too long."""
    message = "Request timed out. Please narrow your request with filters or a smaller limit."
    return json_reply(422, {"message": message, "error": "Request timed out"})


def drop() -> Reply:
    """Close the connection without an answer; nothing was done."""
    return Reply(drop=True)


def accept_then_drop() -> Reply:
    """Do what was asked, then close the connection without an answer."""
    return Reply(drop=True, accept=True)


def slow(seconds: float, then: Reply | None = None) -> Reply:
    """Wait, then answer as usual or with `then`."""
    return replace(then or Reply(), delay=seconds)


def held(gate: threading.Event, after: Callable[[], bool] = lambda: True) -> Script[Request]:
    """Return a script that answers as usual, from `after` on not before the gate is opened; a minute is too long."""

    def script(_: Request) -> Reply | None:
        if after():
            gate.wait(60.0)
        return None

    return script


def unreadable_success() -> Reply:
    """Take the request in and answer 200 with a body that is no answer of a receiver."""
    return Reply(200, {"Content-Type": "text/html"}, b"<html>\xff\xffaccepted</html>", accept=True)


def redirect(location: str, code: int = 307) -> Reply:
    """Answer with a redirect to another place."""
    return Reply(code, {"Location": location})


def partial_success(rejected: int, message: str = "refused by the receiver") -> PartialSuccess:
    """Take a request in without its last spans, and say so in the OTLP answer."""
    return PartialSuccess(rejected=rejected, message=message)


def no_such_project(name: str = "x") -> Reply:
    """Answer 404 as Kelet does for a project that does not exist."""
    hint = "Create it first at console.kelet.ai → New Project, then re-run."
    return json_reply(404, {"detail": {"error": "project_not_found", "project": name, "hint": hint}})


def always(reply: Reply) -> Script[Request]:
    """Return a script that says the same to every request."""
    return lambda _: reply


def of_new_bodies(*replies: Reply | None) -> Script[Request]:
    """Return a script that says one thing to each body in turn, when it comes first; the rest is as usual."""
    left, seen = list(replies), set[bytes]()
    lock = threading.Lock()

    def script(request: Request) -> Reply | None:
        with lock:
            if request.body in seen or not left:
                return None
            seen.add(request.body)
            return left.pop(0)

    return script


def in_turn(*replies: Reply | None) -> Script[Request]:
    """Return a script that says one thing to each request in turn; None and what comes after are as usual."""
    left = list(replies)
    lock = threading.Lock()

    def script(_: Request) -> Reply | None:
        with lock:
            return left.pop(0) if left else None

    return script


def when(condition: Callable[[R], bool], then: Reply | Script[R]) -> Script[R]:
    """Return a script that speaks only where a condition holds."""

    def script(request: R) -> Reply | None:
        if not condition(request):
            return None
        return then if isinstance(then, Reply) else then(request)

    return script


def first_of(*scripts: Script[R]) -> Script[R]:
    """Return a script that takes the first word of several."""

    def script(request: R) -> Reply | None:
        return next((reply for reply in (ask(request) for ask in scripts) if reply is not None), None)

    return script


def on_path(path: str, then: Reply | Script[Request]) -> Script[Request]:
    """Return a script for one path."""
    return when(lambda request: request.path == path, then)


def asks(**params: str) -> Callable[[Request], bool]:
    """Return a condition: the query has these values."""
    wanted: Mapping[str, str] = params
    return lambda request: wanted.items() <= request.query.items()


def shows_row(server: RecordedLangfuse, *observation_ids: str, content: bool = True) -> Callable[[Request], bool]:
    """Return a condition: the page that the server would answer holds one of these rows, with its input and output."""

    def holds(request: Request) -> bool:
        if content and "io" not in request.query.get("fields", "").split(","):
            return False
        usual = server.answer(request, None)
        if usual.status != 200:
            return False
        body = gzip.decompress(usual.body) if usual.headers.get("Content-Encoding") == "gzip" else usual.body
        shown = {item["id"] for item in orjson.loads(body).get("data", [])}
        return not shown.isdisjoint(observation_ids)

    return holds


def has_span(predicate: Callable[[ReceivedSpan], bool] | str) -> Callable[[TraceRequest], bool]:
    """Return a condition: a span of the request matches, by a predicate or by its name."""

    def matches(span: ReceivedSpan) -> bool:
        return span.name == predicate if isinstance(predicate, str) else predicate(span)

    return lambda request: any(matches(span) for span in request.spans)


def refuse_span(predicate: Callable[[ReceivedSpan], bool] | str, code: int = 400) -> Script[TraceRequest]:
    """Return a script that refuses every request with a span that matches."""
    return when(has_span(predicate), status(code, message="a span in the request is not acceptable"))


def too_large(max_bytes: int) -> Script[TraceRequest]:
    """Return a script that answers 413 to bodies of more than `max_bytes` before compression."""
    return when(
        lambda request: max(request.decoded_size, len(request.body)) > max_bytes,
        status(413, message="Request Entity Too Large"),
    )


def refuse_gzip(code: int = 415) -> Script[Request]:
    """Return a script that refuses compressed bodies."""
    return when(
        lambda request: "content-encoding" in request.headers,
        status(code, message="compressed bodies are not accepted"),
    )
