"""A row of either observations endpoint as an Observation; whatever can be understood is.

Unknown types, levels and keys pass; a wrong type of an unimportant field becomes nothing; only a row without an id or
a start cannot be understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_worker.errors import RecordRefused
from sync_worker.json_text import dump
from sync_worker.langfuse.reader import Unreadable
from sync_worker.records import Observation
from sync_worker.times import unix_ms

#: Numbers beyond what OTLP can carry are no counts.
_MAX_NUMBER = 2**63
_MAX_RAW = 20_000  # characters of a row that cannot be understood, kept for a look
_SHOWN = 100  # characters of a value shown in a reason


def parse_row(row: Any) -> Observation:
    """Return the row as an Observation. Raises RecordRefused with the reason when it has no id or start."""
    if not isinstance(row, Mapping):
        raise RecordRefused(f"a row is {type(row).__name__}, not an object")
    row_id = row.get("id")
    if not isinstance(row_id, str) or not row_id:
        raise RecordRefused("a row has no id")
    start = unix_ms(row.get("startTime"))
    if start is None:
        shown = dump(row.get("startTime"))[:_SHOWN]
        raise RecordRefused(f"row {row_id[:_SHOWN]!r} has no start time that can be read ({shown})")
    metadata = row.get("metadata")
    parameters = row.get("modelParameters")
    return Observation(
        id=row_id,
        trace_id=_text(row.get("traceId")),
        project_id=_text(row.get("projectId")) or "",
        type=(_text(row.get("type")) or "SPAN").upper(),
        start_ms=start,
        end_ms=unix_ms(row.get("endTime")),
        parent_id=_text(row.get("parentObservationId")),
        name=_text(row.get("name")),
        level=_text(row.get("level")) or "DEFAULT",
        status_message=_text(row.get("statusMessage")),
        version=_text(row.get("version")),
        environment=_text(row.get("environment")),
        user_id=_text(row.get("userId")),
        session_id=_text(row.get("sessionId")),
        is_root=row.get("isRootObservation") is True,
        public=row.get("public") is True,
        completion_start_ms=unix_ms(row.get("completionStartTime")),
        updated_ms=unix_ms(row.get("updatedAt")),
        input=_payload(row.get("input")),
        output=_payload(row.get("output")),
        metadata=dict(metadata)
        if isinstance(metadata, Mapping)
        else {}
        if metadata in (None, "")
        else {"metadata": metadata},
        model=_text(row.get("model")) or _text(row.get("providedModelName")),
        model_parameters=dict(parameters) if isinstance(parameters, Mapping) else {},
        usage=_numbers(row.get("usageDetails")),
        cost=_numbers(row.get("costDetails")),
        prices=_prices(row),
        prompt_name=_text(row.get("promptName")),
        prompt_version=_integer(row.get("promptVersion")),
        tags=_tags(row.get("tags")),
        release=_text(row.get("release")),
        trace_name=_text(row.get("traceName")),
    )


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if value is None or isinstance(value, list | dict) else dump(value)


def _payload(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if value is None else dump(value)


def _integer(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer() and _is_number(value):
        return int(value)
    return value if isinstance(value, int) and _is_number(value) else None


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {}
    return {key: item for key, item in value.items() if isinstance(item, int | float) and _is_number(item)}


def _prices(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the prices that are known; this endpoint writes them as text ("1.5e-7")."""
    found: dict[str, float] = {}
    for key in ("input", "output", "total"):
        price = row.get(f"{key}Price")
        try:
            number = None if price is None or isinstance(price, bool) else float(price)
        except (TypeError, ValueError, OverflowError):
            continue
        if number is not None and _is_number(number):
            found[key] = number
    return found


def _is_number(value: float) -> bool:
    return not isinstance(value, bool) and -_MAX_NUMBER <= value < _MAX_NUMBER


def _tags(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def unreadable(item: Any, reason: str) -> Unreadable:
    """Return what there is of a row that cannot be understood."""
    row = item if isinstance(item, Mapping) else {}
    row_id, trace_id = row.get("id"), row.get("traceId")
    return Unreadable(
        reason,
        row_id if isinstance(row_id, str) and row_id else None,
        trace_id if isinstance(trace_id, str) and trace_id else None,
        dump(item)[:_MAX_RAW],
    )
