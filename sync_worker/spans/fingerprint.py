"""A short hash of what an observation itself exports, to see whether it changed since it was sent.

It leaves out what an observation inherits from its trace (session, user, tags, the trace's name), which would change
with the observations that happen to be at hand, and what is not exported (bookmarks, the time of the last write). The
generations of Langfuse's API show the same observation a little differently, so their fingerprints are not compared:
those of v1 have one byte more. Those of observations that have not ended have two more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from sys import getsizeof
from typing import Any

import orjson

from sync_worker.json_text import dump
from sync_worker.records import Observation
from sync_worker.spans.memo import Memo

SIZE_BYTES = 8
_OF_V1, _OPEN = b"1", b".."
_LONGEST_ENDED = SIZE_BYTES + len(_OF_V1)

#: Characters of a text of metadata whose JSON is remembered, and the bytes that all of them may take. Most are those of
#: the resource, the same for all observations of a process.
_SHORT, _TEXTS_BYTES = 96, 512 * 1024


def fingerprint(observation: Observation) -> bytes:
    """Return 8 to 11 bytes that differ, for all that matters, when what two states of an observation export differs.

    They are computed once: an observation is not changed after it was parsed.
    """
    if observation.own_fingerprint is None:
        observation.own_fingerprint = _compute(observation)
    return observation.own_fingerprint


def _compute(observation: Observation) -> bytes:
    own = [
        observation.type,
        observation.name,
        observation.start_ms,
        observation.end_ms,
        observation.parent_id,
        observation.is_root,
        observation.level,
        observation.status_message,
        observation.version,
        observation.environment,
        observation.input,
        observation.output,
        _in_order(observation.metadata),
        _in_order(observation.model_parameters),
        sorted(observation.usage.items()),
        sorted(observation.cost.items()),
        observation.model,
        observation.completion_start_ms,
        observation.prompt_name,
        observation.prompt_version,
    ]
    digest = hashlib.blake2b(_json(own), digest_size=SIZE_BYTES).digest()
    return digest + (_OPEN if observation.is_open else b"") + (_OF_V1 if observation.api == "v1" else b"")


def is_retold(sent: bytes, now: bytes) -> bool:
    """Whether the other generation of the API lists it now, and nothing shows that it changed since it was sent.

    Of an observation that was sent without an end, its end does.
    """
    other = len(sent) % 2 != len(now) % 2
    return other and not (len(sent) > _LONGEST_ENDED >= len(now))


def _json(own: list[Any]) -> bytes:
    try:
        return orjson.dumps(own)
    except TypeError:  # integers of more than 64 bits, lone surrogates
        return dump(own).encode("utf-8", "replace")


def _in_order(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return entries as keys and JSON text, in the order of the keys."""
    if not entries:
        return []
    texts = _TEXTS
    return sorted(
        [
            (key, texts[value] if type(value) is str and len(value) <= _SHORT else _canonical(value))
            for key, value in entries.items()
        ]
    )


def _canonical(value: Any) -> str:
    """Return JSON text in which the order of keys does not show."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # integers of more than 64 bits, lone surrogates
        return dump(value)


_TEXTS: Memo[str, str] = Memo(_canonical, lambda text, json: 100 + getsizeof(text) + getsizeof(json), _TEXTS_BYTES)
