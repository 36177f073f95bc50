"""Metadata taken apart: what Langfuse folded into it goes back to where it came from."""

from typing import Any

import pytest

from sync_worker.spans.attribute_values import attribute_value
from sync_worker.spans.restore import take_apart
from sync_worker.spans.span_model import AttributeValue


def typed(value: AttributeValue) -> tuple[str, AttributeValue]:
    """Return a value with its type, since 1 == 1.0 == True to Python but not to OTLP."""
    inner = type(value[0]).__name__ if isinstance(value, list) and value else ""
    return type(value).__name__ + inner, value


def test_flat_shape() -> None:
    """Direct writes come as dotted keys, last one first: a wrong order shuffles prompts numbered by position."""
    found = take_apart(
        {
            "tenant": "acme",
            "attributes.b": 2,
            "attributes.a": "x",
            "scope.attributes.public_key": "pk",
            "scope.version": "1.2.3",
            "scope.name": "my.app",
            "resourceAttributes.team.size": 7,
            "resourceAttributes.service.name": "shop",
        }
    )
    assert found.scope is not None
    assert (found.scope.name, found.scope.version) == ("my.app", "1.2.3")
    assert found.scope.attributes == {"public_key": "pk"}
    assert list(found.resource.items()) == [("service.name", "shop"), ("team.size", 7)]
    assert list(found.attributes.items()) == [("a", "x"), ("b", 2)]
    assert found.user == {"tenant": "acme"}


def test_nested_shape() -> None:
    """Dual writes and version 3 nest the same things, attributes as text: what JavaScript writes otherwise was text."""
    found = take_apart(
        {
            "resourceAttributes": {"service.name": "shop", "team.size": 7},
            "scope": {"name": "my.app", "version": "1.2.3", "attributes": {"public_key": "pk"}},
            "attributes": {
                "a": "x",
                "b": "2",
                "c": "0.50",
                "d": "true",
                "e": '["p","q"]',
                "f": '{"k": 1}',
                "g": '[{"k":  1}]',
                "h": "null",
                "app.version": "1.10",
                "i": "007",
                "j": '"quoted"',
                "k": "",
            },
            "tenant": {"name": "acme"},
        }
    )
    assert found.scope is not None
    assert (found.scope.name, found.scope.version) == ("my.app", "1.2.3")
    assert found.scope.attributes == {"public_key": "pk"}
    assert list(found.resource.items()) == [("service.name", "shop"), ("team.size", 7)]
    assert list(found.attributes.items()) == [
        ("a", "x"),
        ("b", 2),
        ("c", "0.50"),
        ("d", True),
        ("e", ["p", "q"]),
        ("f", '{"k": 1}'),
        ("g", '[{"k":  1}]'),
        ("h", "null"),
        ("app.version", "1.10"),
        ("i", "007"),
        ("j", '"quoted"'),
        ("k", ""),
    ]
    assert found.user == {"tenant": {"name": "acme"}}


def test_scope_without_a_version() -> None:
    """Many scopes have none; the text "None" or "null" would be an invention."""
    shapes: list[dict[str, Any]] = [
        {"scope.version": None, "scope.name": "ai"},
        {"scope.name": "ai"},
        {"scope": {"name": "ai", "version": None, "attributes": {}}},
    ]
    for metadata in shapes:
        found = take_apart(metadata).scope
        assert found is not None
        assert (found.name, found.version, found.attributes) == ("ai", "", {})


def test_numeric_scope() -> None:
    """Langfuse reads scope names and versions as JSON: numbers must not break the span."""
    found = take_apart({"scope.version": 1.1, "scope.name": 7}).scope
    assert found is not None
    assert (found.name, found.version) == ("7", "1.1")


def test_nothing() -> None:
    """Rows of the old API have no metadata at all."""
    found = take_apart({})
    assert (found.scope, found.resource, found.attributes, found.user) == (None, {}, {}, {})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("a", "text", "text"),
        ("a", "", ""),
        ("a", 3, 3),
        ("a", True, True),
        ("a", 1.5, 1.5),
        ("a", None, "null"),
        ("gen_ai.request.temperature", 1, 1.0),
        ("gen_ai.request.top_p", 1, 1.0),
        ("gen_ai.request.frequency_penalty", 0, 0.0),
        ("ai.settings.presencePenalty", 0, 0.0),
        ("operation.cost", 0, 0.0),
        ("response_cost", 0, 0.0),
        ("gen_ai.cost.discount_amount", 0, 0.0),
        ("llm.cost.total", 2, 2.0),
        ("retrieval.documents.0.document.score", 1, 1.0),
        ("ai.response.avgOutputTokensPerSecond", 12, 12.0),
        ("ai.response.msToFirstChunk", 12, 12.0),
        ("gen_ai.response.time_to_first_chunk", 2, 2.0),
        ("accost", 2, 2),
        ("temperature.unit", 2, 2),
        ("max_tokens", 256, 256),
        ("service.version", 2, "2"),
        ("app_release", 1.1, "1.1"),
        ("conversion", 3, 3),
        ("big", 2**63 - 1, 2**63 - 1),
        ("big", 2**63, "9223372036854775808"),
        ("big", -(2**63), -(2**63)),
        ("temperature", 10**400, "1" + "0" * 400),
        ("big", [2**63], "[9223372036854775808]"),
        ("gen_ai.response.finish_reasons", ["stop"], ["stop"]),
        ("list", [1, 2], [1, 2]),
        ("list", [1, 2.5], [1.0, 2.5]),
        ("list", [True, False], [True, False]),
        ("list", [True, 1], "[true,1]"),
        ("list", ["a", 1], '["a",1]'),
        ("list", ["a", None], '["a",null]'),
        ("list", [], "[]"),
        ("list", {"arrayValue": {}}, []),
        ("object", {"a": {"b": 1}}, '{"a":{"b":1}}'),
        ("objects", [{"ä": 1}], '[{"ä":1}]'),
    ],
)
def test_types(key: str, value: Any, expected: AttributeValue) -> None:
    """An attribute of another type is another attribute: charts and filters in Kelet would not find it."""
    assert typed(attribute_value(key, value)) == typed(expected)


@pytest.mark.parametrize(
    ("value", "row_version", "expected"),
    [
        (1.1, "1.10", "1.10"),
        (1.1, "2.0", "1.1"),
        (1.1, None, "1.1"),
        (2, "2.0", "2.0"),
        ("1.1.0", "1.1.0", "1.1.0"),
        ("1.1.0", "7", "1.1.0"),
        ("nan", "nan", "nan"),
        (2, "two", "2"),
    ],
)
def test_service_version(value: Any, row_version: str | None, expected: str) -> None:
    """Version 1.10 read as a number is version 1.1, another release; the row still has the text."""
    found = take_apart({"resourceAttributes.service.version": value, "scope.name": "a"}, row_version)
    assert found.resource["service.version"] == expected


@pytest.mark.parametrize(
    ("metadata", "user"),
    [
        ({"scope": "read"}, {"scope": "read"}),
        ({"scope": ["a"]}, {"scope": ["a"]}),
        ({"scope.level": 3}, {"scope.level": 3}),
        ({"scope": {"level": 3}}, {"scope": {"level": 3}}),
        ({"scope": {"name": 7}}, {"scope": {"name": 7}}),
        ({"scope": {"name": "x", "level": 3}}, {"scope.level": 3}),
        ({"attributes": "big ears"}, {"attributes": "big ears"}),
        ({"attributes": {"gen_ai.system": "x"}}, {"attributes.gen_ai.system": "x"}),
        ({"attributes.gen_ai.system": "x"}, {"attributes.gen_ai.system": "x"}),
        ({"attributes.": "x", "attributesX.a": 1}, {"attributes.": "x", "attributesX.a": 1}),
        ({"resourceAttributes": None}, {"resourceAttributes": None}),
    ],
)
def test_users_own_keys(metadata: dict[str, Any], user: dict[str, Any]) -> None:
    """Users may name their metadata like Langfuse's own: what they said must neither vanish nor become an attribute."""
    found = take_apart(metadata)
    assert found.user == user
    assert found.attributes == {}
    assert found.resource == {}


def test_attributes_below_langfuses_own_scope() -> None:
    """Langfuse keeps no attributes of its SDK's spans: the key is the user's, who could else forge any attribute."""
    scope = {"scope.name": "langfuse-sdk", "resourceAttributes.service.name": "shop"}
    found = take_apart({"attributes.gen_ai.system": "x"} | scope)
    assert found.attributes == {}
    assert found.user == {"attributes.gen_ai.system": "x"}
    nested = {"scope": {"name": "langfuse-sdk"}, "attributes": {"ears": 2}}
    assert take_apart(nested).user == {"attributes.ears": 2}


def test_attributes_beside_an_overwritten_scope() -> None:
    """A user's key may hide the scope; the resource shows that the row came over OTLP, and attributes go back."""
    found = take_apart({"scope": "mine", "attributes.a": 1, "resourceAttributes.service.name": "shop"})
    assert found.scope is None
    assert found.user == {"scope": "mine"}
    assert found.attributes == {"a": 1}


def test_whole_doubles_are_not_javascripts() -> None:
    """JavaScript's exporter writes every whole number as an integer; Python's keeps a double one."""
    metadata = {"attributes.gen_ai.request.temperature": 1, "scope.name": "x"}
    language = "resourceAttributes.telemetry.sdk.language"
    python = take_apart(metadata | {language: "python"}).attributes["gen_ai.request.temperature"]
    assert (python, type(python)) == (1.0, float)
    for name in ("nodejs", "webjs"):
        found = take_apart(metadata | {language: name}).attributes["gen_ai.request.temperature"]
        assert (found, type(found)) == (1, int)


def test_numbers_that_earlier_servers_took_for_objects() -> None:
    """Zero and 64-bit numbers came through as their OTLP JSON; they are numbers, and other objects are text."""
    there = {"zero": {"intValue": 0}, "text": {"intValue": "9007199254740993"}, "odd": {"intValue": "x"}}
    metadata = {f"attributes.{key}": value for key, value in there.items()} | {"scope.name": "x"}
    assert take_apart(metadata).attributes == {
        "zero": 0, "text": 9007199254740993, "odd": '{"intValue":"x"}',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "key", "value", "expected"),
    [
        ("opentelemetry.instrumentation.mcp.instrumentation", "mcp.request.id", 7, "7"),
        ("my.app", "mcp.request.id", 7, 7),
        ("traceloop.tracer", "traceloop.entity.version", 2, 2),
        ("traceloop.tracer", "traceloop.entity.version", 2**63, "9223372036854775808"),
        ("traceloop.tracer", "app.version", 2, "2"),
        ("opentelemetry.instrumentation.google_genai", "gen_ai.request.top_k", 40, 40.0),
        ("opentelemetry.instrumentation.bedrock", "gen_ai.request.top_k", 40, 40),
        ("litellm", "gen_ai.response.finish_reasons", ["stop"], '["stop"]'),
        ("litellm", "error.code", True, True),
        ("my.app", "gen_ai.response.finish_reasons", ["stop"], ["stop"]),
        ("openinference.instrumentation.beeai", "metadata.usage.prompt_tokens", 7, "7"),
        ("openinference.instrumentation.beeai", "metadata.state.score", 0.5, "0.5"),
        ("openinference.instrumentation.beeai", "metadata.chunks_count", 7, 7),
        ("openinference.instrumentation.openai", "metadata.usage.prompt_tokens", 7, 7),
    ],
)
def test_types_by_instrumentation(scope: str, key: str, value: Any, expected: Any) -> None:
    """An instrumentation that writes a value in one way only gives its type back, whatever JSON made of it."""
    found = take_apart({"scope.name": scope, f"attributes.{key}": value}).attributes[key]
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(("value", "expected"), [([1, 0], [1.0, 0.0]), ([1, 0.5], [1.0, 0.5]), ([1, "a"], '[1,"a"]')])
def test_vectors_are_doubles(value: list[Any], expected: Any) -> None:
    """A vector of whole numbers would come out as integers, which it never was."""
    key = "embedding.embeddings.0.embedding.vector"
    found = take_apart({"scope.name": "openinference.instrumentation.openai", f"attributes.{key}": value}).attributes[
        key
    ]
    assert repr(found) == repr(expected)
