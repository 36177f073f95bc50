"""Trace context: what the rows of a trace say of it, whatever their order and however they arrive."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from sync_worker.spans.context import (
    MAX_STORED_BYTES,
    TraceContext,
    gather,
    session_of,
    trace_of,
    user_of,
    with_fields_of_trace,
)
from tests.spans.made import CHILD, GRANDCHILD, OTLP, ROOT, TRACE, row

FAR = "00000000000000ee"


def test_every_field_from_whichever_row_has_it() -> None:
    """Langfuse keeps each field on the rows that set it: one that is overlooked is missing on all spans."""
    rows = [
        row(ROOT, name="root", metadata={"plan": "gold"}),
        row(CHILD, parent_id=ROOT, session_id="s", tags=("a",), version="2"),
        row(GRANDCHILD, parent_id=ROOT, user_id="u", trace_name="t", environment="prod", release="r"),
    ]
    assert gather(TRACE, rows) == TraceContext(
        TRACE, session_id="s", user_id="u", trace_name="t", environment="prod", release="r", version="2", tags=("a",),
        metadata={"plan": "gold"}, root_name="root", root_level="DEFAULT", root_seen=True,
        id_kind="otel",
    )  # fmt: skip


def test_order_of_speaking() -> None:
    """Where rows contradict each other, all spans must still say the same: roots first, then by time."""
    rows = [
        row(f"t-{TRACE}", session_id="0"),
        row(ROOT, session_id="1", start=900),
        row(CHILD, session_id="2", parent_id=FAR, is_root=True, start=800),
        row(GRANDCHILD, session_id="3", parent_id=ROOT, start=100),
        row("00000000000000d4", session_id="4", parent_id=ROOT, start=200),
        row("00000000000000d5", session_id="5", parent_id=ROOT, start=200),
    ]
    for silent in range(len(rows)):
        speaking = rows[silent:]
        for some in itertools.islice(itertools.permutations(speaking), 50):
            assert gather(TRACE, some).session_id == str(silent)


def test_what_was_known_stays() -> None:
    """A root that arrives late must not give later spans another session than those already sent."""
    known = TraceContext(TRACE, session_id="first", trace_name="chat", tags=("a",), root_name="x", root_seen=True)
    found = gather(TRACE, [row(session_id="second", tags=("b",), user_id="u", name="root")], known)
    assert (found.session_id, found.tags, found.user_id, found.root_name) == ("first", ("a",), "u", "x")
    assert known == TraceContext(
        TRACE, session_id="first", trace_name="chat", tags=("a",), root_name="x", root_seen=True
    )


def test_root_seen() -> None:
    """A trace whose root is known needs no look-up for each late row."""
    assert not gather(TRACE, [row(parent_id=FAR)]).root_seen
    assert gather(TRACE, [row(parent_id=FAR, is_root=True)]).root_seen
    assert gather(TRACE, [row()]).root_seen


def test_metadata_of_the_root_alone() -> None:
    """What a step says of itself is not the trace's; nor is what Langfuse folded in, nor Kelet's own gate."""
    rows = [
        row(ROOT, metadata={"plan": "gold", "$kelet_internal": True, "attributes.a": 1} | OTLP),
        row(CHILD, parent_id=ROOT, metadata={"step": 1}),
    ]
    assert gather(TRACE, rows).metadata == {"plan": "gold"}


def test_agents() -> None:
    """Rows that come without their ancestors find their agent here; it must not grow without bound."""
    rows = [row(ROOT, type="AGENT", name="boss"), row(CHILD, type="AGENT", name=None), row(GRANDCHILD, name="x")]
    assert gather(TRACE, rows).agents == {ROOT: "boss"}
    many = [row(f"{i + 1:016x}", type="AGENT", name="a") for i in range(500)]
    assert len(gather(TRACE, many).agents) == 64


@pytest.mark.parametrize(
    ("trace_id", "row_ids", "expected"),
    [
        (TRACE, [ROOT], "otel"),
        (TRACE, [ROOT, f"t-{TRACE}"], "otel"),
        (TRACE, [f"t-{TRACE}"], ""),
        (TRACE, ["obs-1", ROOT], "other"),
        (TRACE, [ROOT, "obs-1"], "other"),
        ("chat_42", [ROOT], "other"),
        ("0" * 32, [ROOT], "other"),
    ],
)
def test_kind_of_rows(trace_id: str, row_ids: list[str], expected: str) -> None:
    """It decides whether the synthetic root is sent: wrong, and a tree has a root too many, or none."""
    assert expected == gather(trace_id, [row(row_id, trace_id=trace_id) for row_id in row_ids]).id_kind


def test_kind_of_rows_is_remembered() -> None:
    """One legacy row makes the synthetic root needed for good."""
    known = TraceContext(TRACE, id_kind="other")
    assert gather(TRACE, [row()], known).id_kind == "other"
    assert gather(TRACE, [row("obs-1")], TraceContext(TRACE, id_kind="otel")).id_kind == "other"


def test_json_round_trip() -> None:
    """What is kept of a trace between runs must be the same when it is read back."""
    full = TraceContext(
        TRACE, session_id="s", user_id="ü", trace_name="t", environment="prod", release="r", version="2",
        tags=("a", "b"), metadata={"deep": {"a": [1, None]}}, agents={ROOT: "boss"}, root_name="x", root_seen=True,
        id_kind="otel",
    )  # fmt: skip
    assert TraceContext.from_json(TRACE, json.loads(json.dumps(full.as_json()))) == full


@pytest.mark.parametrize(
    "large",
    [
        {"metadata": {"notes": "x" * 100_000}},
        {"metadata": {f"key {number}": "ü" * 50 for number in range(1_000)}},
        {"agents": {f"{number:016x}": "a name that goes on " * 20 for number in range(64)}},
        {"tags": tuple(f"tag {number}" for number in range(10_000))},
        {"session_id": "s" * 1_000_000},
    ],
)
def test_little_is_stored_of_a_large_context(large: dict[str, Any]) -> None:
    """Large metadata makes the state file grow with each trace; or a part of it is taken for all there is."""
    full = TraceContext(TRACE, user_id="u", root_name="x", root_seen=True, id_kind="otel")
    stored = replace(full, **large).as_json()
    assert len(json.dumps(stored)) <= MAX_STORED_BYTES
    assert TraceContext.from_json(TRACE, stored) == replace(full, root_seen=False)


def test_json_of_nothing() -> None:
    """Most traces have few fields: the state file holds no empty ones."""
    assert TraceContext(TRACE).as_json() == {}
    assert TraceContext.from_json(TRACE, {}) == TraceContext(TRACE)


def test_json_of_another_version() -> None:
    """After a downgrade the state file holds fields that this version does not know."""
    assert TraceContext.from_json(TRACE, {"session_id": "s", "mood": "good"}) == TraceContext(TRACE, session_id="s")


def test_stored_context_is_not_shared() -> None:
    """Two traces, or a trace and its note, must not write into one dictionary."""
    known = TraceContext(TRACE, agents={ROOT: "boss"})
    gather(TRACE, [row(CHILD, type="AGENT", name="helper")], known)
    assert known.agents == {ROOT: "boss"}


def test_row_without_a_trace() -> None:
    """Each such row is a trace of its own."""
    assert trace_of(row("7", trace_id=None)) == "obs:7"
    assert trace_of(row("7")) == TRACE


def test_session_of_an_observation_over_v1() -> None:
    """V1 tells the trace's session alone: an agent's conversation would be taken for another's."""
    payload = {"attributes": {"gen_ai.conversation.id": "c1", "user.id": "u1"}}
    context = TraceContext(TRACE, session_id="s1", user_id="u2")
    stated = with_fields_of_trace(row(CHILD, api="v1", metadata=payload), context)
    assert (stated.session_id, stated.user_id) == ("c1", "u1")
    silent = with_fields_of_trace(row(ROOT, api="v1"), context)
    assert (silent.session_id, silent.user_id) == ("s1", "u2")
    both = row(CHILD, metadata={"attributes.gen_ai.conversation.id": "c1", "attributes.session.id": "s2"})
    assert session_of(both) == "s2"


@pytest.mark.parametrize("nested", [False, True])
def test_what_traceloop_was_given(nested: bool) -> None:
    """Traceloop's users name session and user in a way of its own: their traces would be of nobody."""
    stated = {"traceloop.association.properties.session_id": "s1", "traceloop.association.properties.user_id": 7}
    metadata = {"attributes": stated} if nested else {f"attributes.{key}": value for key, value in stated.items()}
    named, silent, other = row(CHILD, metadata=metadata), row(ROOT), row(GRANDCHILD, session_id="s2", metadata=metadata)
    assert (session_of(named), user_of(named)) == ("s1", "7")
    assert (session_of(silent), user_of(silent)) == (None, None)
    assert session_of(other) == "s2"
    context = gather(TRACE, [silent, named])
    assert (context.session_id, context.user_id) == ("s1", "7")
