"""What both sides' HTTP answers have in common."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterable
from datetime import UTC
from typing import Any

import httpx

from sync_worker.json_text import parse

_SHOWN = 200  # characters of an answer shown in a message
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
    wish but a fault (a date of another century), and would stop the worker for good.
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


def _http_date(text: str) -> float | None:
    """Return a date of HTTP, in any of its three forms, as Unix seconds."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def shown(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the beginning of what a server said, on one line, and without the secrets should it repeat them."""
    for secret in secrets:
        text = text.replace(secret, "***")
    is_json, body = parse(text)
    if is_json and isinstance(body, dict):
        parts = [body.get(key) for key in ("message", "error", "detail")]
        text = "; ".join(dict.fromkeys(str(part) for part in parts if part)) or text
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: _SHOWN * 4]).split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def describe(fault: Exception) -> str:
    """Return what a network fault says, or its kind when it says nothing."""
    return str(fault) or type(fault).__name__


def redirect_target(response: httpx.Response) -> str:
    """Return where a redirect leads, without query or credentials."""
    try:
        return str(httpx.URL(response.headers.get("Location", "")).copy_with(query=None, userinfo=b""))
    except httpx.InvalidURL:
        return "an address that cannot be read"
