"""Spans of Langfuse's own SDKs: each attribute as the version that made the span wrote it."""

from __future__ import annotations

from typing import Any

import pytest

from sync_worker.json_text import dump
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext, gather
from sync_worker.spans.langfuse_sdk.sdks import LEGACY, Sdk, sdk_of
from sync_worker.spans.restore import take_apart
from sync_worker.spans.span_model import AttributeValue
from tests.spans.made import CHILD, GRANDCHILD, OTLP, ROOT, TRACE, attributes, generation, held, row, span, spans
from tests.support.cost import MOST, TIMES, growth

GUESSED = "kelet.source.langfuse.guessed"


def sdk(version: str = "4.18.0", language: str = "python", **user: Any) -> dict[str, Any]:
    """Return metadata of a span that an SDK made, the user's keys in front."""
    return user | {
        "scope.version": version,
        "scope.name": "langfuse-sdk",
        "resourceAttributes.telemetry.sdk.language": language,
    }


def js(version: str = "5.11.1", **user: Any) -> dict[str, Any]:
    """Return metadata of a span that the JavaScript SDK made."""
    return sdk(version, "nodejs", **user)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, LEGACY),
        (OTLP, None),
        ({"resourceAttributes.service.name": "shop"}, None),  # a scope without a name
        (sdk("3.15.0"), Sdk("python", (3, 15))),
        (js(), Sdk("js", (5, 11))),
        ({"scope.name": "langfuse-sdk", "scope.version": "5.11.1"}, Sdk("js", (5, 11))),
        ({"scope.name": "langfuse-sdk", "scope.version": "5.0", "scope.attributes.public_key": "pk"},
         Sdk("python", (5, 0))),
        ({"scope.name": "langfuse-sdk"}, Sdk("python", LEGACY.version)),
        ({"scope.name": "langfuse-sdk", "scope.version": "new"}, Sdk("js", LEGACY.version)),
        ({"scope.name": "langfuse-sdk", "scope.version": "9" * 50}, Sdk("js", LEGACY.version)),
    ],
)  # fmt: skip
def test_who_wrote_it(metadata: dict[str, Any], expected: Sdk | None) -> None:
    """A span of another instrumentation would be taken for the SDK's, or written in another version's forms."""
    assert sdk_of(take_apart(metadata)) == expected


VALUES: dict[str, Any] = {"text": "x", "n": 2, "big": 2**70, "half": 0.5, "flag": True, "deep": [1], "none": None}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (sdk("3.1.3"), ('"x"', "2", str(2**70), "0.5", "true", "[1]", "null")),
        (sdk("3.2.0"), ("x", 2, str(2**70), "0.5", True, "[1]", "null")),
        (sdk("4.18.0"), ("x", 2, str(2**70), "0.5", True, "[1]", "null")),
        (sdk("5.0.4"), ('"x"', "2", str(2**70), "0.5", "true", "[1]", "null")),
        (js("4.0.0"), ("x", "2", str(2**70), "0.5", "true", "[1]", "null")),
        (js(), ("x", "2", str(2**70), "0.5", "true", "[1]", "null")),
        ({}, ("x", 2, str(2**70), "0.5", True, "[1]", "null")),
    ],
)
def test_metadata_as_its_sdk_writes_it(metadata: dict[str, Any], expected: tuple[AttributeValue, ...]) -> None:
    """Each SDK writes metadata in its own form; a direct export has that one."""
    found = attributes(row(metadata=VALUES | metadata))
    keys = [f"langfuse.observation.metadata.{key}" for key in VALUES]
    assert dump([found[key] for key in keys]) == dump(list(expected))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (sdk("4.0.0"), ("acme", "2", "True")),
        (sdk("5.0.4"), ('"acme"', "2", '"True"')),
        (js(), ("acme", "2", "True")),
        (sdk("3.9.0"), ("acme", "2", "True")),
    ],
)
def test_metadata_handed_down(metadata: dict[str, Any], expected: tuple[str, ...]) -> None:
    """What was said once for a whole trace would look as if each step had said it of itself."""
    shared = {"tenant": "acme", "tier": 2, "flag": "True"} | metadata
    rows = [
        row(ROOT, metadata={"own": "r"} | shared),
        row(CHILD, parent_id=ROOT, metadata={"own": "c"} | shared),
        row(GRANDCHILD, parent_id="00000000000000ee", metadata={"own": "c"} | shared),  # its parent was not exported
    ]
    for found in spans(*rows).values():
        keys = [f"langfuse.trace.metadata.{key}" for key in ("tenant", "tier", "flag")]
        assert tuple(found.attributes[key] for key in keys) == expected
        assert [key for key in found.attributes if key.startswith("langfuse.observation.metadata.")] == [
            "langfuse.observation.metadata.own"
        ]


def test_metadata_that_is_not_handed_down() -> None:
    """Steps beside each other that say the same, and a child that says otherwise, speak of themselves."""
    rows = [
        row(ROOT, metadata=sdk(step="plan", only="root")),
        row(CHILD, parent_id=ROOT, metadata=sdk(step="act", part=1)),
        row(GRANDCHILD, parent_id=ROOT, metadata=sdk(step="act", part=1)),
    ]
    for found in spans(*rows).values():
        assert not [key for key in found.attributes if key.startswith("langfuse.trace.metadata.")]


def test_what_was_handed_down_is_remembered() -> None:
    """A late row comes without its parent: it would call the trace's metadata its own."""
    rows = [row(ROOT, metadata=sdk(tenant="acme")), row(CHILD, parent_id=ROOT, metadata=sdk(tenant="acme"))]
    known = TraceContext.from_json(TRACE, gather(TRACE, rows).as_json())
    late = gather(TRACE, [row(GRANDCHILD, parent_id=CHILD, metadata=sdk(tenant="acme", own=1))], known)
    assert late.propagated.values == {"tenant": ['"acme"']}
    assert "propagated" not in gather(TRACE, [row(metadata=sdk(tenant="acme"))]).as_json()


def test_too_long_to_be_handed_down() -> None:
    """The SDKs propagate 200 characters at most: what is longer was said by each span."""
    rows = [row(ROOT, metadata=sdk(text="x" * 500)), row(CHILD, parent_id=ROOT, metadata=sdk(text="x" * 500))]
    assert not gather(TRACE, rows).propagated.values


def chain(version: str, **marks: Any) -> list[Observation]:
    """Return a LangChain run: its outermost chain, a node below and that one's model call."""
    shared: dict[str, Any] = {"tenant": "acme", "tier": 2, "tools": ["a"], "ls_integration": "agent"}
    node: dict[str, Any] = {"langgraph_node": "model", "langgraph_step": 1}
    return [
        row(ROOT, type="CHAIN", metadata=sdk(version, **marks, tags=["t"], **shared)),
        row(CHILD, type="CHAIN", parent_id=ROOT, metadata=sdk(version, tags=["u"], **shared, **node)),
        generation(GRANDCHILD, parent_id=CHILD, metadata=sdk(version, ls_model_type="chat", **shared, **node)),
    ]


def test_langchain_hands_down_under_both_names() -> None:
    """The handler writes the outermost chain's metadata as the trace's and, through LangChain, as each run's."""
    found = spans(*chain("5.0.4", is_langchain_root=True))
    keys = [f"langfuse.trace.metadata.{key}" for key in ("tenant", "tags", "langgraph_node")]
    for made in found.values():
        assert held(made.attributes, *keys) == {"langfuse.trace.metadata.tenant": '"acme"'}
        assert made.attributes["langfuse.observation.metadata.tenant"] == '"acme"'
    for inner in (CHILD, GRANDCHILD):
        assert found[inner].attributes["langfuse.observation.metadata.langgraph_node"] == '"model"'
    hidden = "langfuse.observation.metadata.ls_integration"  # LangChain sets it anew for each model call
    assert [hidden in made.attributes for made in found.values()] == [True, True, False]


@pytest.mark.parametrize(("version", "marks"), [("4.18.0", {"is_langchain_root": True}), ("4.0.0", {})])
def test_langchain_of_sdk_4(version: str, marks: dict[str, Any]) -> None:
    """SDK 4 propagates Python's text of a value, which says nothing certain of the value itself."""
    rows = chain(version, **marks)
    for one in rows:
        one.metadata["tools"] = "['a']"
    found = spans(*rows)[CHILD].attributes
    assert held(found, "langfuse.trace.metadata.tools", "langfuse.observation.metadata.tools") == {
        "langfuse.trace.metadata.tools": "['a']",
    }  # fmt: skip
    assert held(found, "langfuse.trace.metadata.tier", "langfuse.observation.metadata.tier") == {
        "langfuse.trace.metadata.tier": "2", "langfuse.observation.metadata.tier": 2,
    }  # fmt: skip


def test_langchain_below_a_span_of_the_application() -> None:
    """What the application propagated itself is the trace's alone, and not LangChain's."""
    above = row("00000000000000d4", type="AGENT", metadata=sdk("5.0.4", region="eu"))
    rows = chain("5.0.4", is_langchain_root=True)
    rows[0].parent_id = above.id
    for one in rows:
        one.metadata["region"] = "eu"
    for made in spans(above, *rows).values():
        assert made.attributes["langfuse.trace.metadata.region"] == '"eu"'
        assert "langfuse.observation.metadata.region" not in made.attributes


@pytest.mark.parametrize("metadata", [sdk("3.15.0"), js()])
def test_langchain_that_hands_down_nothing(metadata: dict[str, Any]) -> None:
    """SDK 3 and the JavaScript handler leave metadata to LangChain: it is each run's own."""
    rows = chain("5.0.4")
    for one in rows:
        one.metadata |= metadata
    for made in spans(*rows).values():
        assert "langfuse.trace.metadata.tenant" not in made.attributes
        assert "langfuse.observation.metadata.tenant" in made.attributes


@pytest.mark.parametrize("metadata", [sdk("3.15.0"), js("4.0.0")])
def test_metadata_of_a_span_that_updated_its_trace(metadata: dict[str, Any]) -> None:
    """The span that told the trace's user may have told its metadata too: Langfuse does not say whose it is."""
    rows = [
        row(ROOT, user_id="u", metadata={"tier": "x"} | metadata),
        row(CHILD, parent_id=ROOT, metadata={"n": 1} | metadata),
    ]
    found = spans(*rows)
    keys = ["langfuse.observation.metadata.tier", "langfuse.trace.metadata.tier"]
    assert [found[ROOT].attributes[key] for key in keys] == ["x", "x"]
    assert found[ROOT].attributes[GUESSED] == keys
    assert "langfuse.trace.metadata.n" not in found[CHILD].attributes
    assert GUESSED not in found[CHILD].attributes
    rows[1].user_id = "u"  # propagated
    assert not [key for made in spans(*rows).values() for key in made.attributes if ".trace.metadata." in key]


@pytest.mark.parametrize(
    ("metadata", "marked"),
    [(sdk("3.15.0"), False), (sdk("4.6.1"), False), (sdk("4.7.0"), True), (sdk("5.0.4"), True), (js("5.3.0"), False),
     (js("5.4.1"), True), ({}, True), (OTLP, False)],
)  # fmt: skip
def test_mark_of_a_root(metadata: dict[str, Any], marked: bool) -> None:
    """Older SDKs, and other instrumentations, know no such mark."""
    assert ("langfuse.internal.is_app_root" in attributes(row(is_root=True, metadata=metadata))) == marked


def test_trace_fields_stay_where_they_were_written() -> None:
    """A span of an SDK would carry fields of its trace that it never had."""
    stated = {"tags": ("a",), "release": "r7", "trace_name": "chat", "environment": "prod", "public": True}
    found = spans(row(ROOT, metadata=sdk()), row(CHILD, parent_id=ROOT, metadata=sdk(), **stated))
    assert {key: value for key, value in found[CHILD].attributes.items() if key.startswith("langfuse.")} == {
        "langfuse.observation.type": "span", "langfuse.trace.tags": ["a"], "langfuse.release": "r7",
        "langfuse.trace.name": "chat", "langfuse.environment": "prod", "langfuse.trace.public": True,
    }  # fmt: skip
    assert [key for key in found[ROOT].attributes if key.startswith("langfuse.")] == ["langfuse.observation.type"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "chat", "trace_name": "chat"}, "langfuse.trace.name"),  # the server names a trace by its root
        ({"environment": "default"}, "langfuse.environment"),
        ({"version": "1.2"}, "langfuse.version"),  # the service's
        ({"tags": ("a",), "user": {"langfuse_tags": ["a"]}}, "langfuse.trace.tags"),
        ({"release": "r7", "sdk": "3.15.0"}, "langfuse.release"),  # SDK 3 writes it on the resource only
    ],
)
def test_what_the_server_filled_in(changes: dict[str, Any], key: str) -> None:
    """The SDK wrote no such attribute: Langfuse took the value from elsewhere."""
    metadata = sdk(changes.pop("sdk", "4.18.0"), **changes.pop("user", {})) | {
        "resourceAttributes.service.version": "1.2",
        "resourceAttributes.langfuse.release": "r7",
    }
    assert key not in attributes(row(metadata=metadata, **changes))


CHAT = {"temperature": 1, "max_tokens": "Infinity", "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}
BUCKETS = {"input": 57, "output": 18, "total": 155, "input_cached_tokens": 64, "output_reasoning_tokens": 16}


def test_usage_of_the_openai_drop_in() -> None:
    """The server takes OpenAI's usage apart: the drop-in of Python's SDK wrote it whole."""
    found = attributes(generation(metadata=sdk(), model_parameters=CHAT, usage=BUCKETS, output='{"role":"assistant"}'))
    assert found["langfuse.observation.usage_details"] == dump({
        "total_tokens": 155, "prompt_tokens": 121, "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens": 34, "completion_tokens_details": {"reasoning_tokens": 16},
    })  # fmt: skip
    assert "langfuse.observation.usage_details" in str(found[GUESSED])
    assert held(found, "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens") == {
        "gen_ai.usage.input_tokens": 121, "gen_ai.usage.output_tokens": 34,
    }  # fmt: skip


def test_usage_of_a_response() -> None:
    """The Responses API has other names for the same counts."""
    output = '[{"type":"reasoning"},{"type":"message"}]'
    found = attributes(generation(metadata=sdk(), model_parameters=CHAT, usage=BUCKETS, output=output))
    assert '"input_tokens":121,"input_tokens_details":{"cached_tokens":64}' in str(
        found["langfuse.observation.usage_details"]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": js()},
        {"metadata": {}},
        {"model_parameters": {"temperature": 1}},
        {"usage": {"input": 57, "output": 18, "total": 155, "input_cache_read": 64, "output_reasoning": 16}},
        {"usage": BUCKETS | {"total": 156}},
    ],
)
def test_usage_that_others_gave_in_buckets(changes: dict[str, Any]) -> None:
    """Usage that was written in Langfuse's own buckets would come back in OpenAI's words."""
    stated: dict[str, Any] = {"metadata": sdk(), "model_parameters": CHAT, "usage": BUCKETS} | changes
    found = attributes(generation(**stated))
    assert found["langfuse.observation.usage_details"] == dump(stated["usage"])


@pytest.mark.parametrize(
    ("usage", "written", "is_guess"),
    [
        ({"input": 9, "total": 9}, {"input": 9}, True),
        ({"input": 9, "total": 10}, {"input": 9, "total": 10}, False),
        ({"input": 9, "output": 1, "total": 10}, {"input": 9, "output": 1, "total": 10}, True),
        ({"input": 9, "total": 10, "output": 1}, {"input": 9, "total": 10, "output": 1}, False),
        ({"total": 9}, {"total": 9}, False),
    ],
)
def test_total_that_the_server_added(usage: dict[str, float], written: dict[str, float], is_guess: bool) -> None:
    """The server adds a total to usage that has none; whether it did shows only where nobody would give one."""
    found = attributes(row(type="EMBEDDING", metadata=sdk(), usage=usage))
    assert found["langfuse.observation.usage_details"] == dump(written)
    assert ("langfuse.observation.usage_details" in str(found.get(GUESSED))) == is_guess


@pytest.mark.parametrize(
    ("usage", "cost", "prices", "is_given"),
    [
        ({"input": 9}, {"total": 1.8e-07}, {"total": 2e-8}, True),  # no price for what was used
        ({"input": 9, "total": 9}, {"total": 1.8e-07}, {"total": 2e-8}, False),
        ({"input": 57, "output": 18}, {"input": 8.55e-06, "output": 1.08e-05, "total": 1.935e-05},
         {"input": 1.5e-7, "output": 6e-7}, False),
        ({"input": 57, "output": 18}, {"total": 0.00042}, {"input": 1.5e-7, "output": 6e-7}, True),
        ({"input": 57, "output": 18}, {"input": 0.00012, "output": 0.0003, "total": 0.00042},
         {"input": 1.5e-7, "output": 6e-7}, True),
        ({}, {"input": 0, "output": 0, "total": 0}, {}, True),
        ({"input": 57}, {"input": 8.55e-06, "tax": 1}, {"input": 1.5e-7}, True),
    ],
)  # fmt: skip
def test_cost(usage: dict[str, float], cost: dict[str, float], prices: dict[str, float], is_given: bool) -> None:
    """A cost that Langfuse computed was never written by the SDK; one that was given is the application's own."""
    made: dict[str, Any] = {"usage": usage, "cost": cost, "prices": prices}
    assert ("langfuse.observation.cost_details" in attributes(generation(metadata=sdk(), **made))) == is_given
    for metadata in ({}, OTLP):  # for others it is all that is known
        assert attributes(generation(metadata=metadata, **made))["langfuse.observation.cost_details"] == dump(cost)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (generation(metadata=sdk(ls_model_type="chat")), "{}"),
        (generation(metadata=sdk()), None),
        (row(type="EMBEDDING", output='{"dimensions":8,"count":1}', metadata=sdk()), "{}"),
        (row(type="EMBEDDING", output='{"dimensions":8}', metadata=sdk()), None),
        (row(type="EMBEDDING", output="{", metadata=sdk()), None),
        (generation(metadata=sdk(), model_parameters={"stream": "false", "stop": '["END"]', "x": "[", "t": 0.2}),
         '{"stream":false,"stop":["END"],"x":"[","t":0.2}'),
    ],
)  # fmt: skip
def test_model_parameters(made: Observation, expected: str | None) -> None:
    """Langfuse turns parameters to text, and drops the empty object that LangChain and the OpenAI drop-in write."""
    assert attributes(made).get("langfuse.observation.model.parameters") == expected


@pytest.mark.parametrize(
    ("metadata", "trace_input", "expected"),
    [
        (sdk("3.15.0"), "asked", "asked"),
        (sdk("4.18.0"), "asked", "asked"),
        (js(), "asked", "asked"),
        (sdk("5.0.4"), "asked", None),
        (sdk("4.18.0"), "hi", None),  # what Langfuse shows of a trace that has none
        ({}, "asked", "asked"),
        (OTLP, "asked", "asked"),
        (OTLP, "hi", None),
    ],
)
def test_input_of_the_trace(metadata: dict[str, Any], trace_input: str, expected: str | None) -> None:
    """A trace's own input would be lost, or one that nobody gave it be made up."""
    found = attributes(generation(metadata=metadata, trace_input=trace_input))
    assert found.get("langfuse.trace.input") == expected


def test_ids_that_langfuse_found_in_metadata() -> None:
    """SDK 5 writes metadata as JSON, and Langfuse takes an id from it with its quotes: the session would fall apart."""
    quoted = {"session_id": '"sess-Ä"', "user_id": '"u"'}
    made = row(metadata=sdk("5.0.4", langfuse_session_id="sess-Ä", langfuse_user_id="u"), **quoted)
    assert held(attributes(made), "session.id", "user.id", "gen_ai.conversation.id") == {
        "session.id": "sess-Ä", "user.id": "u", "gen_ai.conversation.id": "sess-Ä",
    }  # fmt: skip
    assert attributes(row(metadata=sdk("5.0.4"), **quoted))["session.id"] == '"sess-Ä"'


def test_level_error_is_an_error_in_any_sdk() -> None:
    """The JavaScript SDK leaves the status of such a span unset; Kelet would count it among the good ones."""
    assert span(row(level="ERROR", status_message="boom", metadata=js())).status_code == 2


def test_rows_of_the_ingestion_api() -> None:
    """Rows without a scope go out as spans of an SDK, the synthetic root with its trace's metadata."""
    trace = row("t-chat", trace_id="chat", end=None, metadata={"plan": "gold", "tier": 2})
    found = spans(trace, row("obs-1", trace_id="chat", parent_id="t-chat", metadata={"plan": "gold", "n": 2}))
    assert {made.scope.name for made in found.values()} == {"langfuse-sdk"}
    keys = ("langfuse.trace.metadata.plan", "langfuse.trace.metadata.tier", "langfuse.observation.metadata.plan",
            "langfuse.observation.metadata.n")  # fmt: skip
    assert held(found["t-chat"].attributes, *keys) == dict(zip(keys, ("gold", "2"), strict=False))
    assert held(found["obs-1"].attributes, *keys) == {keys[0]: "gold", keys[1]: "2", keys[3]: 2}


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"http.request.method": "GET"}, 2), ({"http.method": "GET", "http.url": "x"}, 3), ({"url.full": "x"}, 1),
     ({"http.request.method": "GET", "http.route": "/chat"}, 2)],
)  # fmt: skip
def test_kind_of_http_spans(value: dict[str, str], kind: int) -> None:
    """Requests that nobody instrumented for GenAI would all look like work within the process."""
    metadata = {f"attributes.{key}": item for key, item in value.items()} | OTLP
    assert span(row(metadata=metadata)).kind == kind
    assert span(row(metadata=metadata, parent_id=CHILD)).kind == (
        3 if kind == 2 and "http.route" not in value else kind
    )


HOSTILE: list[Any] = [None, True, 2**200, float("nan"), float("inf"), "\ud800", "[" * 5000, {"": {"": []}}, [[]] * 50]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("metadata", [sdk("5.0.4"), sdk("3.0.0"), js(), {}])
def test_hostile_metadata(value: Any, metadata: dict[str, Any]) -> None:
    """One odd value would stop the conversion of its trace."""
    stated = {"x": value, "is_langchain_root": value, "langfuse_tags": value, "": value, "langfuse_user_id": value}
    rows = [
        row(ROOT, type="CHAIN", metadata=stated | metadata, user_id='"u"'),
        generation(CHILD, parent_id=ROOT, metadata=stated | metadata, model_parameters=dict.fromkeys(CHAT, value)),
        generation(
            GRANDCHILD, parent_id=CHILD, metadata=metadata, output="[" * 5000, usage={"total": 1}, cost={"x": 1}
        ),
    ]
    assert len(spans(*rows)) == 3


@pytest.mark.slow
def test_many_rows_and_keys_stay_cheap_and_bounded() -> None:
    """What is remembered of a trace, and the time to find it, would grow with the square of its rows."""
    wide = {f"k{n}": n for n in range(2000)}
    rows = [row(f"{n + 1:016x}", parent_id=f"{n:016x}" if n else None, metadata=wide | sdk()) for n in range(100)]
    assert growth(lambda: gather(TRACE, rows[: 100 // TIMES]), lambda: gather(TRACE, rows))[0] < MOST
    assert len(gather(TRACE, rows).propagated.values) == 64
    same_key = [row(f"{n + 1:016x}", parent_id=f"{n:016x}" if n else None, metadata=sdk(k=n // 2)) for n in range(400)]
    assert len(gather(TRACE, same_key).propagated.values["k"]) == 16
