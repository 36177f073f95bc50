"""Attributes of a converted span: whose word wins, what every span of a trace carries, the profiles and the limits."""

from typing import Any

import pytest

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conversion import convert
from sync_worker.spans.span_model import Conversion
from tests.spans.made import (
    CHILD,
    GRANDCHILD,
    OTLP,
    ROOT,
    T0,
    TRACE,
    attributes,
    converted,
    generation,
    held,
    otlp,
    row,
    span,
    spans,
)

MESSAGES = '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'
FAR = "00000000000000ee"  # a parent that is not at hand

#: A row with every field, to see what each profile makes of it.
FULL: dict[str, Any] = {
    "level": "WARNING",
    "status_message": "slow",
    "is_root": True,
    "public": True,
    "completion_start_ms": T0 + 250,
    "model_parameters": {"temperature": 0.2, "stream": "false", "stop": '["END"]'},
    "usage": {"input": 9, "output": 3, "total": 12},
    "cost": {"total": 0.5},
    "prompt_name": "greet",
    "prompt_version": 3,
    "tags": ("a", "b"),
    "environment": "prod",
    "release": "r7",
    "version": "1.10",
    "trace_name": "chat",
    "session_id": "s1",
    "user_id": "u1",
    "metadata": {"plan": "gold", "n": 2, "deep": {"a": [1]}},
}


def test_langfuse_fields() -> None:
    """Kelet may know Langfuse's spans by what its SDK writes: other names or forms would not be read."""
    langfuse = {key: value for key, value in attributes(generation(**FULL)).items() if key.startswith("langfuse.")}
    assert langfuse == {
        "langfuse.observation.type": "generation",
        "langfuse.observation.level": "WARNING",
        "langfuse.observation.status_message": "slow",
        "langfuse.observation.input": "hi",
        "langfuse.observation.output": "ho",
        "langfuse.observation.model.name": "gpt-4o",
        "langfuse.observation.model.parameters": '{"temperature":0.2,"stream":false,"stop":["END"]}',
        "langfuse.observation.usage_details": '{"input":9,"output":3,"total":12}',
        "langfuse.observation.cost_details": '{"total":0.5}',
        "langfuse.observation.completion_start_time": '"2026-11-18T11:06:40.250Z"',
        "langfuse.observation.prompt.name": "greet",
        "langfuse.observation.prompt.version": 3,
        "langfuse.observation.metadata.plan": "gold",
        "langfuse.observation.metadata.n": 2,
        "langfuse.observation.metadata.deep": '{"a":[1]}',
        "langfuse.internal.is_app_root": True,
        "langfuse.trace.name": "chat",
        "langfuse.trace.tags": ["a", "b"],
        "langfuse.trace.public": True,
        "langfuse.environment": "prod",
        "langfuse.release": "r7",
        "langfuse.version": "1.10",
    }


def test_trace_fields_reach_every_span() -> None:
    """Kelet works by session: a span without its session, user or agent falls out of the analysis."""
    payload = {
        "session_id": "s1",
        "user_id": "u1",
        "tags": ("vip",),
        "release": "r7",
        "version": "2",
        "environment": "prod",
    }
    rows = [row(ROOT, name="chat"), row(CHILD, parent_id=ROOT), row(GRANDCHILD, parent_id=CHILD, **payload)]
    for found in spans(*rows).values():
        assert held(found.attributes, "gen_ai.conversation.id", "session.id", "user.id", "gen_ai.agent.name") == {
            "gen_ai.conversation.id": "s1", "session.id": "s1", "user.id": "u1", "gen_ai.agent.name": "chat",
        }  # fmt: skip
        assert {key: value for key, value in found.attributes.items() if key.startswith("metadata.")} == {
            "metadata.environment": "prod", "metadata.release": "r7", "metadata.version": "2",
            "metadata.trace_name": "chat", "metadata.tags": "vip", "metadata.langfuse_trace_id": TRACE,
        }  # fmt: skip
        assert found.attributes["langfuse.trace.tags"] == ["vip"]


@pytest.mark.parametrize(("parent", "others"), [(None, [row(CHILD, session_id="s1")]), (FAR, [row(session_id="s1")])])
def test_session_from_a_row_that_is_not_sent(parent: str | None, others: list[Observation]) -> None:
    """A late child, or a root sent before: what the others say counts as if they were sent together."""
    late = row(GRANDCHILD, parent_id=parent)
    assert spans(late, others=others)[GRANDCHILD].attributes["gen_ai.conversation.id"] == "s1"


def test_trace_without_a_session() -> None:
    """Without any id Kelet makes one up, and scores do not find their session."""
    found = attributes(row())
    assert found["gen_ai.conversation.id"] == TRACE
    assert "session.id" not in found


def test_own_session_before_the_traces() -> None:
    """A row that says more than its trace is right about itself."""
    found = spans(row(session_id="s1"), row(CHILD, parent_id=ROOT, session_id="s2"))
    assert [s.attributes["session.id"] for s in found.values()] == ["s1", "s2"]


def test_nearest_agent() -> None:
    """Credit goes to the agent that did the work, not to the one that called it."""
    rows = [
        row(ROOT, type="AGENT", name="boss"),
        row(CHILD, type="AGENT", name="helper", parent_id=ROOT),
        generation(GRANDCHILD, parent_id=CHILD),
        generation("00000000000000d4", parent_id=ROOT),
    ]
    assert {name: found.attributes["gen_ai.agent.name"] for name, found in spans(*rows).items()} == {
        ROOT: "boss",
        CHILD: "helper",
        GRANDCHILD: "helper",
        "00000000000000d4": "boss",
    }


@pytest.mark.parametrize(
    ("others", "parent", "expected"),
    [
        ([row(ROOT, type="AGENT", name="boss")], FAR, "boss"),  # the trace's only agent
        ([row(ROOT, type="AGENT", name="boss"), row(CHILD, type="AGENT", name="helper")], FAR, "boss"),  # the root
        ([row(ROOT, name="chat")], FAR, "chat"),
        ([row(ROOT, name="chat", trace_name="bot")], FAR, "bot"),
    ],
)
def test_agent_of_a_row_without_its_ancestors(others: list[Observation], parent: str, expected: str) -> None:
    """Late rows come without their ancestors: without an agent Kelet calls them "unknown"."""
    late = generation(GRANDCHILD, parent_id=parent)
    assert expected == spans(late, others=others)[GRANDCHILD].attributes["gen_ai.agent.name"]


def test_agent_known_by_its_id() -> None:
    """The parent's name is remembered with the trace: several agents do not make it a guess."""
    context = TraceContext(TRACE, agents={ROOT: "boss", FAR: "helper"}, trace_name="chat")
    result = convert([generation(GRANDCHILD, parent_id=FAR)], context, "p", Conversion())
    assert result.spans[0][1].attributes["gen_ai.agent.name"] == "helper"


def test_metadata_of_the_trace_on_every_span() -> None:
    """Kelet's SDK stamps a session's metadata on each span; only scalars stay as they are."""
    metadata = {"plan": "gold", "n": 2, "x": 1.5, "flag": True, "deep": {"a": [1]}, "big": 2**70}
    found = spans(row(metadata=metadata), row(CHILD, parent_id=ROOT, metadata={"own": 1}))[CHILD].attributes
    assert held(found, *(f"metadata.{key}" for key in metadata)) == {
        "metadata.plan": "gold",
        "metadata.n": 2,
        "metadata.x": 1.5,
        "metadata.flag": True,
        "metadata.deep": '{"a":[1]}',
        "metadata.big": "1180591620717411303424",
    }
    assert "metadata.own" not in found
    assert found["langfuse.observation.metadata.own"] == 1


def test_metadata_over_the_budget() -> None:
    """One value that is too long must not take the small ones with it."""
    found = attributes(row(metadata={"small": "x", "long": "ü" * 9000, "other": "y"}))
    assert held(found, "metadata.small", "metadata.long", "metadata.other") == {
        "metadata.small": "x", "metadata.other": "y",
    }  # fmt: skip


@pytest.mark.parametrize("metadata", [
    {"$kelet_internal": True}, otlp(**{"$kelet_internal": True}), otlp(**{"metadata__$kelet_internal": True}),
    {"resourceAttributes.metadata.$kelet_internal": True} | OTLP, {"scope.attributes.$kelet_internal": True} | OTLP,
    {"$kelet": {"a": 1}},
])  # fmt: skip
@pytest.mark.parametrize("profile", ["both", "genai", "langfuse"])
def test_kelets_own_gate_is_dropped(metadata: dict[str, Any], profile: str) -> None:
    """Spans with this key are Kelet's own to Kelet: a customer's spans would never be analysed."""
    found = span(row(metadata=metadata), attributes=profile)
    everything = {*found.attributes, *found.resource, *found.scope.attributes}
    assert not [key for key in everything if "$kelet" in key]


def test_users_kelet_keys_lose() -> None:
    """A user's attribute could route a span to another customer's flow, or lie about what the worker did."""
    original = otlp(kelet__project="mine", kelet__source__langfuse__incomplete=True, kelet__other="kept")
    found = attributes(row(metadata=original))
    assert {key: value for key, value in found.items() if key.startswith("kelet.")} == {
        "kelet.project": "shop-prod",
        "kelet.other": "kept",
    }


def test_original_attribute_wins() -> None:
    """What the instrumentation wrote is the truth; what is derived only fills gaps."""
    original = otlp(
        gen_ai__operation__name="text_completion",
        gen_ai__request__model="gpt-4o-mini",
        gen_ai__usage__input_tokens=7,
        gen_ai__agent__name="theirs",
        gen_ai__conversation__id="c1",
        session__id="theirs too",
        langfuse__observation__type="span",
        metadata__environment="mine",
    )
    found = attributes(
        generation(metadata=original, session_id="s1", environment="prod", usage={"input": 9, "output": 1})
    )
    keys = ("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.response.model", "gen_ai.usage.input_tokens",
            "gen_ai.usage.output_tokens", "gen_ai.agent.name", "gen_ai.conversation.id", "session.id",
            "langfuse.observation.type", "metadata.environment")  # fmt: skip
    assert held(found, *keys) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 7,  # and no second source for the output
        "gen_ai.agent.name": "theirs",
        "gen_ai.conversation.id": "c1",
        "session.id": "theirs too",
        "langfuse.observation.type": "span",
        "metadata.environment": "mine",
    }


def test_original_attributes_come_back() -> None:
    """An attribute under a user's name is what the user searches for in Kelet."""
    original = otlp(http__route="/chat", n=3, ratio=1, note=None, list=["a"], objects=[{"a": 1}])
    found = attributes(row(metadata=original))
    assert held(found, "http.route", "n", "ratio", "note", "list", "objects") == {
        "http.route": "/chat", "n": 3, "ratio": 1.0, "note": "null", "list": ["a"], "objects": '[{"a":1}]',
    }  # fmt: skip
    assert not [key for key in found if key.startswith(("langfuse.observation.metadata.", "attributes."))]


@pytest.mark.parametrize(
    "made",
    [
        generation(input=MESSAGES, output="ho"),
        generation(type="AGENT", input='{"odd":1}', output='{"odd":2}'),
        generation(type="TOOL"),
        generation(type="RETRIEVER"),
        generation(type="EMBEDDING"),
        generation(type="SPAN"),
        generation(type="NEW_TYPE"),
        generation(type="EVENT"),
    ],
    ids=lambda made: made.type,
)
def test_genai_profile_loses_no_content(made: Observation) -> None:
    """Who asks for GenAI names alone still wants the content of rows that GenAI has no names for."""
    found = attributes(made, attributes="genai")
    stated = " ".join(str(value) for value in found.values())
    assert str(made.input) in stated
    assert str(made.output) in stated
    both = {key for key in found if key.startswith("langfuse.")}
    assert both <= {"langfuse.observation.input", "langfuse.observation.output"}


def test_genai_profile_reports_content_once() -> None:
    """Content is most of a span: sent under two names it doubles what is paid for."""
    assert not [key for key in attributes(generation(**FULL), attributes="genai") if key.startswith("langfuse.")]


def test_genai_profile_keeps_the_traces_content() -> None:
    """The content of a hidden root is nowhere else."""
    hidden = row(f"t-{TRACE}", end=None, input="asked", output="told")
    found = spans(hidden, row(parent_id=f"t-{TRACE}"), attributes="genai")[ROOT].attributes
    assert held(found, "langfuse.trace.input", "langfuse.trace.output") == {
        "langfuse.trace.input": "asked", "langfuse.trace.output": "told",
    }  # fmt: skip


def test_langfuse_profile() -> None:
    """Without derived GenAI names, originals and what Kelet itself groups spans by stay."""
    found = attributes(generation(**(FULL | {"metadata": otlp(gen_ai__request__model="x")})), attributes="langfuse")
    assert {key: value for key, value in found.items() if key.startswith(("gen_ai.", "kelet."))} == {
        "kelet.project": "shop-prod",
        "gen_ai.agent.name": "chat",
        "gen_ai.conversation.id": "s1",
        "gen_ai.request.model": "x",
    }
    assert found["langfuse.observation.model.name"] == "gpt-4o"


def test_limit_keeps_what_kelet_reads() -> None:
    """A span with hundreds of attributes must lose the least important ones, and say how many."""
    many = {f"gen_ai.prompt.{i}.content": "x" for i in range(300)} | {f"zz.{i}": i for i in range(50)}
    metadata = {f"attributes.{key}": value for key, value in many.items()} | OTLP
    made = generation("obs-1", trace_id="chat_42", end=None, metadata=metadata, session_id="s1", user_id="u1")
    result = converted([made], max_attributes=64)
    found = result.spans[0][1]
    assert len(found.attributes) == 64
    assert result.notes["attributes dropped"] == found.dropped_attributes > 300
    wanted = [
        *("kelet.project", "gen_ai.conversation.id", "session.id", "user.id"),
        *("kelet.source.langfuse.trace_id", "kelet.source.langfuse.observation_id"),
        *("kelet.source.langfuse.incomplete", "gen_ai.operation.name", "gen_ai.agent.name", "gen_ai.request.model"),
        *("gen_ai.input.messages", "gen_ai.output.messages"),
    ]
    assert list(held(found.attributes, *wanted)) == wanted
    assert not [key for key in found.attributes if key.startswith("zz.")]


def test_nothing_dropped_nothing_reported() -> None:
    """A count where nothing is missing would send people looking for it."""
    result = converted([generation(**FULL)])
    assert result.spans[0][1].dropped_attributes == 0
    assert "attributes dropped" not in result.notes
