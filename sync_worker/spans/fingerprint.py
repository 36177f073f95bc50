"""A short hash of what a row itself exports, to see whether it changed since it was sent.

It leaves out what a row inherits from its trace (session, user, tags, the trace's name), which would change with the
rows that happen to be at hand, and what is not exported (bookmarks, the time of the last write). The generations of
Langfuse's API tell the same row a little differently, so their fingerprints are not compared: those of v1 have one byte
more. Those of rows that have not ended have two more.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from sync_worker.json_text import dump
from sync_worker.records import Observation

SIZE_BYTES = 8
_OF_V1, _OPEN = b"1", b".."
_LONGEST_ENDED = SIZE_BYTES + len(_OF_V1)


def fingerprint(row: Observation) -> bytes:
    """Return 8 to 11 bytes that differ, for all that matters, when what two states of a row export differs.

    They are computed once: a row is not changed after it was parsed.
    """
    if row.own_fingerprint is None:
        row.own_fingerprint = _compute(row)
    return row.own_fingerprint


def _compute(row: Observation) -> bytes:
    own = [
        row.type,
        row.name,
        row.start_ms,
        row.end_ms,
        row.parent_id,
        row.is_root,
        row.level,
        row.status_message,
        row.version,
        row.environment,
        row.input,
        row.output,
        sorted((key, _canonical(value)) for key, value in row.metadata.items()),
        sorted((key, _canonical(value)) for key, value in row.model_parameters.items()),
        sorted(row.usage.items()),
        sorted(row.cost.items()),
        row.model,
        row.completion_start_ms,
        row.prompt_name,
        row.prompt_version,
    ]
    digest = hashlib.blake2b(dump(own).encode("utf-8", "replace"), digest_size=SIZE_BYTES).digest()
    return digest + (_OPEN if row.is_open else b"") + (_OF_V1 if row.api == "v1" else b"")


def is_retold(sent: bytes, now: bytes) -> bool:
    """Whether the other generation of the API tells a row now, and nothing shows that it changed since it was sent.

    Of a row that was sent without an end, its end does.
    """
    other = len(sent) % 2 != len(now) % 2
    return other and not (len(sent) > _LONGEST_ENDED >= len(now))


def _canonical(value: Any) -> str:
    """Return JSON text in which the order of keys does not show."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # integers of more than 64 bits, lone surrogates
        return dump(value)
