"""What distinguishes one content of a score from another: an edit in Langfuse need not move `updatedAt`."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from sync_worker.json_text import dump
from sync_worker.records import Score

SIZE_BYTES = 8
#: Digits of a number that count: what a store adds as noise lies behind them.
_DIGITS = 10


def content_of(score: Score) -> bytes:
    """Return 8 bytes that differ when what two states of a score say differs.

    They depend on no setting, and not on which API returned the score. When it was written, by whom and for which time
    does not count.
    """
    content = [
        score.name,
        score.type,
        score.source,
        _value(score.value),
        score.comment,
        _canonical(score.metadata),
        score.config_id,
        score.trace_id,
        score.observation_id,
        score.session_id,
        score.experiment_id,
    ]
    return hashlib.blake2b(dump(content).encode("utf-8", "replace"), digest_size=SIZE_BYTES).digest()


def _value(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | str) else format(value, f".{_DIGITS}g")


def _canonical(value: Any) -> str:
    """Return JSON text in which the order of keys does not show."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # integers of more than 64 bits, lone surrogates
        return dump(value)
