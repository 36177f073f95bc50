"""Fingerprints: a row counts as changed exactly when what it exports changed."""

from dataclasses import fields, replace
from typing import Any

import pytest

from sync_worker.records import Observation
from sync_worker.spans.fingerprint import SIZE_BYTES, fingerprint, is_retold
from tests.spans.made import T0, generation

FULL = generation(
    input="in", output="out", metadata={"a": {"x": 1, "y": [1]}, "b": 2}, model_parameters={"t": 1, "p": 2},
    usage={"input": 1, "output": 2}, cost={"total": 0.5, "input": 0.5},
)  # fmt: skip

OWN: dict[str, Any] = {
    "type": "AGENT",
    "name": "other",
    "start_ms": T0 + 1,
    "end_ms": None,
    "parent_id": "p",
    "level": "ERROR",
    "status_message": "boom",
    "version": "2",
    "environment": "dev",
    "is_root": True,
    "completion_start_ms": T0,
    "input": "other",
    "output": None,
    "metadata": {"a": {"x": 1, "y": [2]}, "b": 2},
    "model": "other",
    "model_parameters": {"t": 1},
    "usage": {"input": 2, "output": 2},
    "cost": {},
    "prompt_name": "greet",
    "prompt_version": 2,
}
#: Fields that a row inherits from its trace or that are not exported; ids name a row, and do not change.
NOT_OWN: dict[str, Any] = {
    "id": "x",
    "trace_id": "x",
    "project_id": "x",
    "user_id": "u",
    "session_id": "s",
    "public": True,
    "updated_ms": 1,
    "tags": ("a",),
    "release": "r",
    "trace_name": "t",
    "trace_input": "i",
    "trace_output": "o",
    "prices": {"input": 1e-6},
}

#: What is no value of a row: how it was read, and what was made of it.
NOT_LISTED = {"api", "unsettled", "had_surrogates", "own_fingerprint"}


def test_every_field_is_judged() -> None:
    """A new field of a row that nobody thought of would change unseen, or make every row look changed."""
    assert {item.name for item in fields(Observation)} == OWN.keys() | NOT_OWN.keys() | NOT_LISTED


@pytest.mark.parametrize("name", OWN)
def test_own_field_counts(name: str) -> None:
    """A change that is not seen leaves the old state in Kelet for ever."""
    assert fingerprint(replace(FULL, **{name: OWN[name]})) != fingerprint(FULL)


@pytest.mark.parametrize("name", NOT_OWN)
def test_inherited_field_does_not_count(name: str) -> None:
    """Rows that look changed without being so are sent again and again."""
    assert fingerprint(replace(FULL, **{name: NOT_OWN[name]})) == fingerprint(FULL)


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"b": 2, "a": {"y": [1], "x": 1}}},
        {"model_parameters": {"p": 2, "t": 1}},
        {"usage": {"output": 2, "input": 1}},
        {"cost": {"input": 0.5, "total": 0.5}},
    ],
    ids=["metadata", "parameters", "usage", "cost"],
)
def test_order_does_not_count(changes: dict[str, Any]) -> None:
    """Langfuse returns keys in whatever order its store likes."""
    assert fingerprint(replace(FULL, **changes)) == fingerprint(FULL)


def test_generations_are_not_compared() -> None:
    """An upgraded server tells every row a little differently: compared, all of the look-back would be sent again."""
    legacy = fingerprint(replace(FULL, api="v1"))
    assert is_retold(legacy, fingerprint(FULL))
    assert is_retold(fingerprint(FULL), legacy)
    assert not is_retold(legacy, fingerprint(replace(FULL, api="v1", name="another")))


@pytest.mark.parametrize(("before", "after"), [("v1", "v2"), ("v2", "v1")])
def test_end_after_an_upgrade_is_seen(before: Any, after: Any) -> None:
    """A row that went out without its end, and ended while its server was upgraded, would never get it."""
    still = replace(FULL, api=before, end_ms=None)
    assert not is_retold(fingerprint(still), fingerprint(replace(FULL, api=after)))
    assert is_retold(fingerprint(still), fingerprint(replace(still, api=after)))


def test_fields_do_not_run_together() -> None:
    """Text that moves from one field to the next is a change."""
    assert fingerprint(generation(input="ab", output="c")) != fingerprint(generation(input="a", output="bc"))
    assert fingerprint(generation(input="None")) != fingerprint(generation(input=None))


def test_known_value() -> None:
    """Another hash of the same row makes every customer send everything of the look-back again after an update."""
    assert len(fingerprint(FULL)) == SIZE_BYTES == 8
    assert fingerprint(FULL).hex() == "7403d710988a320f"


@pytest.mark.parametrize("odd", ["\ud800", 2**70, float("nan"), {"\ud800": 1}, {1: 2}])
def test_odd_values(odd: Any) -> None:
    """A row that has no fingerprint could never be remembered as sent."""
    assert len(fingerprint(generation(metadata={"k": odd}))) == 8
    assert len(fingerprint(generation(input="\ud800"))) == 8
