"""Observations that somebody saved: the JSON text of an answer of either API, or parts of it.

Whoever asks for help sends what is at hand: a list of observations, a page (`{"data": […]}`), several pages, a trace
with its observations inside (`GET /api/public/traces/{id}`), or one of these on each line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sync_worker.choices import Api
from sync_worker.errors import RecordRejected
from sync_worker.json_text import parse_answer
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.langfuse.v1_observations import parse_observation, parse_trace
from sync_worker.records import Observation

_BOM = b"\xef\xbb\xbf"
#: Keys that one generation of the API alone has.
_V2_ONLY = frozenset({"isRootObservation", "traceName", "inputUsage", "bookmarked"})
_V1_ONLY = frozenset({"unit", "promptTokens", "completionTokens", "calculatedTotalCost"})
#: Lists within lists that are still looked into.
_MAX_LISTS = 10


def read_saved(content: bytes, api: Api | None = None) -> list[Observation]:
    """Return the observations of a text, as those of `api` where it is given, else of the API that each looks like.

    Raises RecordRejected, in one line, where there is none or one cannot be understood.
    """
    found = [
        observation for item in _values(content.removeprefix(_BOM)) for observation in _observations_by_id(item, api, 0)
    ]
    if not found:
        raise RecordRejected("there is no observation in it")
    return found


def _values(content: bytes) -> Iterator[Any]:
    """Yield the JSON values of a text: the only one, or one of each line."""
    if not content.strip():
        raise RecordRejected("it is empty")
    is_json, value = parse_answer(content)
    if is_json:
        yield value
        return
    lines = content.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        is_json, value = parse_answer(line)
        if not is_json:
            raise RecordRejected(f"line {number} is no JSON" if len(lines) > 1 else "it is no JSON")
        yield value


def _observations_by_id(item: Any, api: Api | None, depth: int) -> Iterator[Observation]:
    """Yield the observations in a value."""
    if isinstance(item, list) and depth < _MAX_LISTS:
        for inner in item:
            yield from _observations_by_id(inner, api, depth + 1)
    elif not isinstance(item, Mapping):
        raise RecordRejected(f"it holds {type(item).__name__} where an observation is expected")
    elif isinstance(item.get("data"), list) and "startTime" not in item:
        yield from _observations_by_id(item["data"], api, depth + 1)
    elif "timestamp" in item and "startTime" not in item:
        yield parse_trace(item)
        for inner in item.get("observations") or ():
            if isinstance(inner, Mapping):  # a listing of traces names their ids alone
                yield parse_observation(inner)
    elif api == "v1" or (api is None and _is_v1(item)):
        yield parse_observation(item)
    else:
        yield parse_v2_observation(item)


def _is_v1(item: Mapping[str, Any]) -> bool:
    """Whether the older API returned an observation: by its fields, else by metadata that it alone nests."""
    if item.keys() & _V2_ONLY:
        return False
    metadata = item.get("metadata")
    return bool(item.keys() & _V1_ONLY) or (
        isinstance(metadata, Mapping) and isinstance(metadata.get("scope"), Mapping)
    )
