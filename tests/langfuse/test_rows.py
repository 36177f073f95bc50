"""Whatever a row holds, it is read or refused with a reason."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync_worker.errors import RecordRejected
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.langfuse.v1_observations import parse_observation
from sync_worker.records import Observation
from tests.support.rows import row

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
TIMES = st.sampled_from([
    "2026-11-20T12:00:00.000Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999-23:59", "1969-12-31T23:59:59Z",
    "2026-11-20", "2026-11-20T12:00:00", "20261120T120000Z", "2026-W47-5T12:00:00Z", "", "\ud800", "٢٠٢٦-١١-٢٠T١٢:٠٠Z",
])  # fmt: skip
KEYS = sorted(row())
ANY_ROW = st.fixed_dictionaries(
    {"id": st.just("an-id") | JSON, "startTime": TIMES | JSON},
    optional={key: TIMES | JSON for key in KEYS if key not in {"id", "startTime"}},
)


@given(JSON | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), JSON, max_size=8) | ANY_ROW)
@example({"id": "x", "startTime": [[[["deep"] * 9] * 9] * 9] * 9})
@example({"id": "x", "startTime": 10**4000})
def test_every_value_is_read_or_refused(value: Any) -> None:
    """A row that nobody thought of ends the walk instead of becoming a dead letter."""
    reason = None
    try:
        assert_types(parse_v2_observation(value))
    except RecordRejected as refusal:
        reason = str(refusal)
    assert reason is None or 0 < len(reason) < 1000


@given(ANY_ROW)
def test_row_with_id_and_start_is_always_read(value: dict[str, Any]) -> None:
    """A wrong type in a field that matters little makes the whole row unreadable."""
    read = parse_v2_observation(value | {"id": "an-id", "startTime": "2026-11-20T12:00:00.123Z"})
    assert (read.id, read.start_ms) == ("an-id", 1_795_176_000_123)
    assert_types(read)


def assert_types(read: Observation) -> None:
    for item in fields(read):
        value = getattr(read, item.name)
        kinds: dict[str, tuple[type, ...]] = {
            "id": (str,), "project_id": (str,), "type": (str,), "level": (str,), "start_ms": (int,),
            "is_root": (bool,), "public": (bool,), "unsettled": (bool,), "had_surrogates": (bool,),
            "own_fingerprint": (bytes, type(None)), "metadata": (dict,),
            "model_parameters": (dict,), "usage": (dict,),
            "cost": (dict,), "prices": (dict,), "tags": (tuple,), "prompt_version": (int, type(None)),
        }  # fmt: skip
        times = (int, type(None)) if item.name.endswith("_ms") else (str, type(None))
        assert isinstance(value, kinds.get(item.name, times)), item.name
        assert value != "" or item.name == "project_id", item.name
    for number in [*read.usage.values(), *read.cost.values(), *read.prices.values(), read.prompt_version or 0]:
        assert math.isfinite(number)
        assert -(2**63) <= number < 2**63
        assert not isinstance(number, bool)


@pytest.mark.parametrize("key", ["userId", "sessionId", "version", "release", "statusMessage", "model", "promptName"])
def test_empty_means_absent(key: str) -> None:
    """An empty string of Langfuse's store, which has no null, becomes an empty attribute."""
    made = row()
    assert parse_v2_observation(made | {key: ""}) == parse_v2_observation(made | {key: None})


def test_prices() -> None:
    """The endpoint writes prices as text; one that is none must not become zero, which would explain any cost away."""
    reported = {"inputPrice": "1.5e-7", "outputPrice": 6e-7, "totalPrice": None}
    assert parse_v2_observation(row() | reported).prices == {"input": 1.5e-7, "output": 6e-7}
    odd = {"inputPrice": "free", "outputPrice": "inf", "totalPrice": True}
    assert parse_v2_observation(row() | odd).prices == {}


def test_prices_of_v1() -> None:
    """The older endpoints write zero for a price that nobody knows: a computed cost would look given."""
    assert parse_observation(row() | {"inputPrice": 2e-6, "outputPrice": 0, "totalPrice": 0}).prices == {"input": 2e-6}


def test_prices_after_one_that_is_not_known() -> None:
    """A price that is not known would hide those behind it, and costs be missing."""
    reported = {"inputPrice": None, "outputPrice": "2e-6", "totalPrice": "3e-6"}
    assert parse_v2_observation(row() | reported).prices == {"output": 2e-6, "total": 3e-6}


def test_text_that_cannot_be_written_is_rewritten_at_any_depth() -> None:
    """A half surrogate pair in a name, or deep in metadata, would end a run at the span that holds it."""
    odd = {"name": "n\ud800", "metadata": {"a": [{"b\ud800": "c\udfff", "d": 2**70}]}}
    read = parse_v2_observation(row() | odd)
    for found in (read.name, json.dumps(read.metadata, ensure_ascii=False)):
        assert found is not None
        found.encode()
    ((key, text), (_, number)) = read.metadata["a"][0].items()
    assert (key[0], text[0], number) == ("b", "c", 2**70)


@pytest.mark.parametrize(
    ("time", "start"),
    [("1970-01-01T00:00:00.000Z", 0), ("1970-01-01T00:00:00.001Z", 1), ("1969-12-31T23:59:59.999Z", None),
     ("2262-04-11T23:47:16.853Z", 9_223_372_036_853), ("2262-04-11T23:47:16.855Z", None)],
)  # fmt: skip
def test_every_time_that_otlp_can_carry_is_one(time: str, start: int | None) -> None:
    """An observation is dead-lettered for its time, or its span has one of another century."""
    if start is None:
        with pytest.raises(RecordRejected, match="no start time"):
            parse_v2_observation(row() | {"startTime": time})
    else:
        assert parse_v2_observation(row() | {"startTime": time}).start_ms == start
