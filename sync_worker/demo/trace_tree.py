"""Received spans as text: one tree a trace."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sync_worker.demo.receiver import ReceivedSpan
from sync_worker.printable import escape
from sync_worker.wording import counted

NAME_CHARS = 60  # of a span's name, before the line is truncated to the width
STATUS_CHARS = 60  # of a status message
ERROR_STATUS = 2  # STATUS_CODE_ERROR
ORPHAN = "(parent not in Langfuse)"

_BOLD, _DIM, _RED, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"


def render(
    spans: Sequence[ReceivedSpan], *, width: int = 100, limit_traces: int | None = None, color: bool = False
) -> str:
    """Return the spans as trees, traces and siblings by their start; of a span received twice, the last one."""
    latest = {(span.trace_id, span.span_id): span for span in spans}
    traces: dict[str, list[ReceivedSpan]] = {}
    for span in sorted(latest.values(), key=lambda span: (span.start_ns, span.span_id)):
        traces.setdefault(span.trace_id, []).append(span)
    shown = list(traces.values())[:limit_traces]
    lines = [line for members in shown for line in (*_trace(members, width, color=color), "")]
    hidden = len(traces) - len(shown)
    if hidden:
        lines.append(f"… and {counted(hidden, 'more trace')}")
    return "\n".join(lines).rstrip("\n")


def _trace(members: list[ReceivedSpan], width: int, *, color: bool) -> Iterator[str]:
    parts = [f"trace {members[0].trace_id}"]
    for label, value in (
        ("project", members[0].project or _first(members, "kelet.project")),
        ("session", _first(members, "session.id")),
        ("user", _first(members, "user.id")),
    ):
        if value:
            parts.append(f"{label} {escape(str(value))}")
    yield _style(fit("  ".join(parts), width), _BOLD, color=color)
    for span, lead, orphan in _walk(members, width // 2):
        yield _line(span, lead, width, orphan=orphan, color=color)


def _walk(members: list[ReceivedSpan], deepest: int) -> Iterator[tuple[ReceivedSpan, str, bool]]:
    """Iterate over a trace depth first, with the lines drawn before each span and whether its parent is missing.

    The indentation grows to `deepest` cells; deeper spans keep it, so that their names are visible.
    """
    ids = {span.span_id for span in members}
    children: dict[str, list[ReceivedSpan]] = {}
    for span in members:
        children.setdefault(span.parent_id if span.parent_id in ids else "", []).append(span)
    seen: set[str] = set()
    # Spans in a cycle of parents have no root; the first one not drawn yet starts a tree.
    for top in (*children.get("", []), *members):
        stack = [(top, "", "")]
        while stack:
            span, lead, below = stack.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            yield span, lead, bool(span.parent_id) and span.parent_id not in ids
            under = [child for child in children.get(span.span_id, []) if child.span_id not in seen]
            for child in reversed(under):
                last = child is under[-1]
                further = below + ("   " if last else "│  ") if len(below) < deepest else below
                stack.append((child, below + ("└─ " if last else "├─ "), further))


def _line(span: ReceivedSpan, lead: str, width: int, *, orphan: bool, color: bool) -> str:
    name = fit(escape(str(span.name)) or "(no name)", NAME_CHARS)
    details = "  ".join(text for text in (_type(span), _duration(span.end_ns - span.start_ns), _model(span)) if text)
    head = f"{lead}{name}"
    tail = ""
    if span.status_code == ERROR_STATUS:
        message = fit(escape(str(span.status_message)), STATUS_CHARS)
        tail += f"  ERROR {message}" if message else "  ERROR"
    if orphan:
        tail += f"  {ORPHAN}"
    head = fit(head, width)
    details = fit(f"  {details}", width - _cells(head))
    tail = fit(tail, width - _cells(head) - _cells(details))
    return head + _style(details, _DIM, color=color) + _style(tail, _RED, color=color)


def _type(span: ReceivedSpan) -> str:
    kind = span.attributes.get("langfuse.observation.type") or span.attributes.get("gen_ai.operation.name")
    return escape(str(kind)) if kind else ""


def _model(span: ReceivedSpan) -> str:
    found = span.attributes
    names = ("gen_ai.response.model", "gen_ai.request.model", "langfuse.observation.model.name")
    model = next((escape(str(found[name])) for name in names if found.get(name)), "")
    tokens = [found.get("gen_ai.usage.input_tokens"), found.get("gen_ai.usage.output_tokens")]
    if all(count is None for count in tokens):
        return model
    shown = "→".join("?" if count is None else escape(str(count)) for count in tokens)
    return f"{model}  {shown} tokens".lstrip()


def _duration(ns: int) -> str:
    for size, unit in ((60_000_000_000, "min"), (1_000_000_000, "s"), (1_000_000, "ms")):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 100 * size else f"{ns / size:.0f} {unit}"
    return f"{ns / 1_000_000:.3g} ms"


def _first(members: Iterable[ReceivedSpan], name: str) -> Any:
    return next((span.attributes[name] for span in members if span.attributes.get(name)), None)


def fit(text: str, width: int) -> str:
    """Return a text truncated to a number of terminal cells, with `…` where something is missing."""
    if _cells(text) <= width:
        return text
    kept: list[str] = []
    left = max(width, 0) - 1
    for char in text:
        left -= _cells(char)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…" if width > 0 else ""


def _cells(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    unseen = sum(unicodedata.category(char) in ("Mn", "Me", "Cf") for char in text)
    return len(text) + wide - unseen


def _style(text: str, style: str, *, color: bool) -> str:
    return f"{style}{text}{_RESET}" if color and text.strip() else text
