"""What both sides' HTTP answers have in common."""

from __future__ import annotations

import email.utils
import math
import time

import httpx

from sync_worker.json_text import parse

_SHOWN = 200  # characters of an answer shown in a message


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds a server asked to wait; None where it did not ask, or not in a form that can be read.

    A date is compared with the server's own clock where it tells it.
    """
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value).timestamp()
            seconds = moment - _server_time(response)
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _server_time(response: httpx.Response) -> float:
    date = response.headers.get("Date")
    return email.utils.parsedate_to_datetime(date).timestamp() if date else time.time()


def shown(response: httpx.Response) -> str:
    """Return the beginning of an answer's message, on one line."""
    is_json, body = parse(response.text)
    text = response.text
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
