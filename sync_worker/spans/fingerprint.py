"""A short hash of what a row itself exports, to see whether it changed since it was sent.

It leaves out what a row inherits from its trace (session, user, tags, names), which would change with the rows that
happen to be at hand, and what is not exported (bookmarks, the time of the last write).
"""

from __future__ import annotations

import hashlib

from sync_worker.json_text import dump
from sync_worker.records import Observation

SIZE_BYTES = 8


def fingerprint(row: Observation) -> bytes:
    """Return 8 bytes that differ, for all that matters, when two states of a row differ in what is exported."""
    own = [
        row.type,
        row.name,
        row.start_ms,
        row.end_ms,
        row.parent_id,
        row.level,
        row.status_message,
        row.version,
        row.environment,
        row.input,
        row.output,
        sorted((key, dump(value)) for key, value in row.metadata.items()),
        sorted((key, dump(value)) for key, value in row.model_parameters.items()),
        sorted(row.usage.items()),
        sorted(row.cost.items()),
        row.model,
        row.completion_start_ms,
        row.prompt_name,
        row.prompt_version,
    ]
    return hashlib.blake2b(dump(own).encode("utf-8", "replace"), digest_size=SIZE_BYTES).digest()
