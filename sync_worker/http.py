"""What both sides' HTTP answers have in common."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx

from sync_worker.json_text import parse

_SHOWN = 200  # characters of an answer shown in a message
_MOST_MESSAGES = 3  # of a list of errors in an answer
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,40}/[A-Za-z0-9.+-]{1,60}")
_QUOTED_BYTES = re.compile(r""":?\s*(bytearray\(|\bb['"]).*""", re.DOTALL)
_FURTHEST = 86_400.0  # seconds: a quota of the day ends within it


#: Event hooks of a client of httpx.
Hooks = dict[str, list[Callable[..., Any]]]


def date_hooks(monotonic: Callable[[], float], report: Callable[[int | None, float, float], None]) -> Hooks:
    """Return hooks that report the `Date` of each answer.

    Reported are the date in Unix milliseconds, exact to a second, and monotonic seconds before and after the answer;
    None is the date of an answer that tells none, or that of a cache.
    A cache says how old its answer is in `Age` (RFC 9111, 5.1); its `Date` is that of the first answer.
    """

    async def note_question(request: httpx.Request) -> None:
        request.extensions = {**request.extensions, "asked": monotonic()}

    async def report_answer(response: httpx.Response) -> None:
        moment = None if "Age" in response.headers else _http_date(response.headers.get("Date", ""))
        date_ms = None if moment is None else round(moment * 1000)
        report(date_ms, response.request.extensions["asked"], monotonic())

    return {"request": [note_question], "response": [report_answer]}


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds a server asked to wait; None where it did not ask, or not in a form that can be believed.

    A date is compared with the server's own clock where it tells it. What lies further off than `_FURTHEST` is no
    wish but a error (a date of another century), and would stop the worker for good.
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
        told = _http_date(response.headers.get("Date", ""))
        seconds = moment - (time.time() if told is None else told)
    return max(0.0, seconds) if seconds <= _FURTHEST else None  # not a number is not at most anything


def resets_in(response: httpx.Response) -> float | None:
    """Return in how many seconds a rate limit's interval ends, as `X-RateLimit-Reset` tells it; None where it does not.

    Langfuse writes it as JavaScript does: `Thu Nov 26 2026 11:56:13 GMT+0000 (Coordinated Universal Time)`.
    """
    written = response.headers.get("X-RateLimit-Reset", "").partition(" (")[0]
    try:
        moment = datetime.strptime(written, "%a %b %d %Y %H:%M:%S GMT%z").timestamp()
    except (ValueError, OverflowError):
        return None
    told = _http_date(response.headers.get("Date", ""))
    seconds = moment - (time.time() if told is None else told)
    return seconds if 0 <= seconds <= _FURTHEST else None


def _http_date(text: str) -> float | None:
    """Return a date of HTTP, in any of its three forms, as Unix seconds."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def excerpt(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the beginning of a text that the other side wrote, on one line; secrets that it repeats become `***`."""
    for secret in secrets:
        text = text.replace(secret, "***")
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: _SHOWN * 4]).split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def response_text(response: httpx.Response, secrets: Iterable[str] = ()) -> str:
    """Return what an answer says of itself: the message in its JSON where it holds one, else of what kind it is.

    Nothing else of it is ever shown, since it may hold a customer's data.
    """
    is_json, body = parse(response.content)
    if is_json and isinstance(body, dict):
        messages = [text for key in ("message", "error", "detail") for text in _messages(body.get(key))]
        if messages:
            return excerpt("; ".join(dict.fromkeys(messages)), secrets)
    kind = _MEDIA_TYPE.match(response.headers.get("Content-Type", ""))
    named = f" of {kind.group(0).lower()}" if kind else ""
    return f"{len(response.content):,} bytes{named}, {_kind(response.content, is_json=is_json)}"


def _messages(value: object) -> Iterator[str]:
    """Yield the texts in one field: itself, the `message` in it, or those of the first few in a list of such."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and isinstance(value.get("message"), str):
        yield value["message"]
    elif isinstance(value, list):
        for item in value[:_MOST_MESSAGES]:
            if isinstance(item, dict):
                yield from _messages(item)


def _kind(content: bytes, *, is_json: bool) -> str:
    """Return in words what a body is, by how it begins."""
    beginning = content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if is_json:
        return "JSON without a message"
    if not beginning:
        return "nothing in it"
    if beginning.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page"
    if beginning.startswith(b"<"):
        return "HTML or XML"
    return "JSON that cannot be read" if beginning.startswith((b"{", b"[", b'"')) else "no JSON"


def describe(error: Exception) -> str:
    """Return what a network error says, or its kind when it says nothing.

    Where the bytes of an answer break the rules of HTTP, h11 quotes them: they may be a customer's data.
    """
    return excerpt(_QUOTED_BYTES.sub("", str(error))) or type(error).__name__


def redirect_target(response: httpx.Response) -> str:
    """Return where a redirect leads, without query or credentials."""
    try:
        target = excerpt(str(httpx.URL(response.headers.get("Location", "")).copy_with(query=None, userinfo=b"")))
        return target or "an address that it does not name"
    except httpx.InvalidURL:
        return "an address that cannot be read"
