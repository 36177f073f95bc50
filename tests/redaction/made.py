"""Redactors and observations for tests."""

from __future__ import annotations

from typing import Any

from sync_worker.records import Observation
from sync_worker.redaction.matcher import MOST_WORK
from sync_worker.redaction.observations import protection_for
from sync_worker.redaction.protection import Protection
from sync_worker.redaction.redaction_rules import DETECTORS, LeaveOut, RedactionRules
from sync_worker.redaction.redactor import Redactor
from sync_worker.spans.context import session_of, user_of

KEY = b"a key of the tests, of 32 bytes!"


def redactor(*names: str, most_work: int = MOST_WORK, **options: Any) -> Redactor:
    """Return a redactor with these detectors, all of them where none is named."""
    return Redactor(RedactionRules(names or DETECTORS, **options), KEY, most_work=most_work)


def protection(*names: str, leave_out: LeaveOut | None = None, **options: Any) -> Protection:
    """Return a protection with these detectors, all of them where none is named."""
    chosen = () if names == ("none",) else names or DETECTORS
    return protection_for(
        RedactionRules(chosen, leave_out=leave_out or LeaveOut(), **options), KEY, session_of, user_of
    )


def observation(**fields: Any) -> Observation:
    """Return an observation with these fields."""
    return Observation(
        **{"id": "1" * 16, "trace_id": "2" * 32, "project_id": "p", "type": "SPAN", "start_ms": 0, **fields}
    )


def in_context(name: str, value: str) -> str:
    """Return a planted value in the text that makes it one."""
    return f"postgres://{value}@db.internal:5432/app" if name == "url_credentials" else value
