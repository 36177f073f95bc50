"""What HTTP responses of Langfuse and Kelet have in common."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx

from sync_worker.json_text import parse
from sync_worker.wording import counted

_SHOWN = 200  # characters of a response shown in a message
_MOST_MESSAGES = 3  # of a list of errors in a response
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,40}/[A-Za-z0-9.+-]{1,60}")
_QUOTED_BYTES = re.compile(r""":?\s*(bytearray\(|\bb['"]).*""", re.DOTALL)
_FURTHEST = 86_400.0  # seconds: a daily quota ends within it


#: Event hooks of a client of httpx.
Hooks = dict[str, list[Callable[..., Any]]]


def date_hooks(monotonic: Callable[[], float], report: Callable[[int | None, float, float], None]) -> Hooks:
    """Return hooks that report the `Date` of each response.

    Reported are the date in Unix milliseconds, exact to a second, and monotonic seconds before the request and after
    the response. The date is None if the response has none or comes from a cache, which sets `Age` (RFC 9111, 5.1): its
    `Date` is that of the original response.
    """

    async def note_request(request: httpx.Request) -> None:
        request.extensions = {**request.extensions, "asked": monotonic()}

    async def report_response(response: httpx.Response) -> None:
        moment = None if "Age" in response.headers else _http_date(response.headers.get("Date", ""))
        date_ms = None if moment is None else round(moment * 1000)
        report(date_ms, response.request.extensions["asked"], monotonic())

    return {"request": [note_request], "response": [report_response]}


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of `Retry-After`; None if it is missing or implausible.

    A date is compared with the server's `Date` if there is one. More than `_FURTHEST` is an error (a date of another
    century), and would stop the worker for good.
    """
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = _http_date(value)
        if moment is None:
            return None
        server_time = _http_date(response.headers.get("Date", ""))
        seconds = moment - (time.time() if server_time is None else server_time)
    return max(0.0, seconds) if seconds <= _FURTHEST else None  # false for NaN


def resets_in(response: httpx.Response) -> float | None:
    """Return the seconds until a rate limit resets, by `X-RateLimit-Reset`; None without it.

    Langfuse writes it as JavaScript does: `Thu Nov 26 2026 11:56:13 GMT+0000 (Coordinated Universal Time)`.
    """
    written = response.headers.get("X-RateLimit-Reset", "").partition(" (")[0]
    try:
        moment = datetime.strptime(written, "%a %b %d %Y %H:%M:%S GMT%z").timestamp()
    except (ValueError, OverflowError):
        return None
    server_time = _http_date(response.headers.get("Date", ""))
    seconds = moment - (time.time() if server_time is None else server_time)
    return seconds if 0 <= seconds <= _FURTHEST else None


def _http_date(text: str) -> float | None:
    """Return an HTTP date, in any of its three formats, as Unix seconds."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def excerpt(text: str, secrets: Iterable[str] = (), redact: Callable[[str], str] = str) -> str:
    """Return the beginning of a text from a server, on one line; secrets in it become `***`.

    `redact` sees the whole text: what is cut in two would not be recognised.
    """
    text = redact(text)
    for secret in secrets:
        text = text.replace(secret, "***")
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: _SHOWN * 4]).split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def response_text(response: httpx.Response, secrets: Iterable[str] = (), redact: Callable[[str], str] = str) -> str:
    """Return the error message in a response's JSON if there is one, else its size and kind.

    Nothing else of it is ever shown, since it may hold a customer's data.
    """
    is_json, body = parse(response.content)
    if is_json and isinstance(body, dict):
        messages = [text for key in ("message", "error", "detail") for text in _messages(body.get(key))]
        if messages:
            return excerpt("; ".join(dict.fromkeys(messages)), secrets, redact)
    kind = _MEDIA_TYPE.match(response.headers.get("Content-Type", ""))
    named = f" of {kind.group(0).lower()}" if kind else ""
    return f"{counted(len(response.content), 'byte')}{named}, {_kind(response.content, is_json=is_json)}"


def _messages(value: object) -> Iterator[str]:
    """Yield the messages in one field: itself, its `message`, or those of the first items of a list."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and isinstance(value.get("message"), str):
        yield value["message"]
    elif isinstance(value, list):
        for item in value[:_MOST_MESSAGES]:
            if isinstance(item, dict):
                yield from _messages(item)


def _kind(content: bytes, *, is_json: bool) -> str:
    """Return a description of a body, by its first bytes."""
    beginning = content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if is_json:
        return "JSON without a message"
    if not beginning:
        return "empty"
    if beginning.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page"
    if beginning.startswith(b"<"):
        return "HTML or XML"
    return "invalid JSON" if beginning.startswith((b"{", b"[", b'"')) else "not JSON"


def describe(error: Exception) -> str:
    """Return the message of a network error, or its type if it has none.

    h11 quotes the bytes that break the HTTP protocol: they may be a customer's data.
    """
    return excerpt(_QUOTED_BYTES.sub("", str(error))) or type(error).__name__


def redirect_target(response: httpx.Response) -> str:
    """Return the target of a redirect, without query or credentials."""
    try:
        target = excerpt(str(httpx.URL(response.headers.get("Location", "")).copy_with(query=None, userinfo=b"")))
        return target or "an address that is not given"
    except httpx.InvalidURL:
        return "an address that cannot be read"
