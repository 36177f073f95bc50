"""Traces and observations of the v1 endpoints as observations, in the shape that v2 has for the same data.

A v4 server that writes both generations shows the fields of a trace as one more observation, `t-<trace id>`, and
puts every observation of an old SDK that has no parent below it. Here that observation is made of the trace, so that
ids and trees come out the same from both. (Langfuse v3.225.4 and v4.16.0 in dual mode; v2.95 has fewer fields and
other ones for usage.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_worker.errors import RecordRejected
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.records import SYNTHETIC_ROOT_PREFIX, Number, Observation

#: Names of v1's counts and costs where it has no `usageDetails` and `costDetails` (v2.95), by v2's key.
_USAGE = {"input": "promptTokens", "output": "completionTokens", "total": "totalTokens"}
_COST = {"input": "calculatedInputCost", "output": "calculatedOutputCost", "total": "calculatedTotalCost"}


def parse_observation(item: Any) -> Observation:
    """Return an observation of v1 as an observation. Raises RecordRejected when it has no id or start."""
    observation = parse_v2_observation(item)
    observation.api = "v1"
    observation.metadata = dict(reversed(observation.metadata.items()))  # v2 returns the keys in reverse
    observation.prices = {
        key: price for key, price in observation.prices.items() if price
    }  # an unknown one is zero here
    if "usageDetails" not in item:
        observation.usage = _counts(item, _USAGE)
    if "costDetails" not in item:
        observation.cost = _counts(item, _COST)
    if observation.parent_id is None and observation.trace_id is not None:
        if observation.came_over_otel:
            observation.is_root = True
        else:
            observation.parent_id = SYNTHETIC_ROOT_PREFIX + observation.trace_id
    return observation


def parse_trace(item: Any) -> Observation:
    """Return a trace of v1 as its synthetic root observation. Raises RecordRejected when it has no id or time."""
    if not isinstance(item, Mapping):
        raise RecordRejected(f"a trace is {type(item).__name__}, not an object")
    trace_id = item.get("id")
    if not isinstance(trace_id, str) or not trace_id:
        raise RecordRejected("a trace has no id")
    observation = parse_v2_observation(
        {
            **item,
            "id": SYNTHETIC_ROOT_PREFIX + trace_id,
            "traceId": trace_id,
            "type": "SPAN",
            "startTime": item.get("timestamp"),
            "endTime": None,
            "parentObservationId": None,
            "isRootObservation": True,
            "traceName": item.get("name"),
        }
    )
    observation.api = "v1"
    observation.metadata = dict(reversed(observation.metadata.items()))
    return observation


def _counts(item: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Number]:
    found = {key: item.get(name) for key, name in names.items()}
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value
    }
