"""What a converted span says beside its attributes' values: name, kind, status, error, scope, resource."""

from typing import Any

import pytest

from sync_worker.spans.context import gather
from sync_worker.spans.conversion import _HELD, _ORIGINS, _SMALL, convert
from sync_worker.spans.span_model import Attributes, Conversion, Event, SharedAttributes
from tests.spans.made import CHILD, OTLP, ROOT, T0, TRACE, generation, held, otlp, row, span, spans

INTERNAL, CLIENT = 1, 3
UNSET, OK, ERROR = 0, 1, 2


def scoped(name: str, version: str = "1.0", **original: Any) -> dict[str, Any]:
    return otlp(**original) | {"scope.version": version, "scope.name": name}


@pytest.mark.parametrize(
    ("type", "expected"),
    [("GENERATION", CLIENT), ("EMBEDDING", CLIENT), ("RETRIEVER", CLIENT), ("AGENT", INTERNAL), ("TOOL", INTERNAL),
     ("SPAN", INTERNAL), ("EVENT", INTERNAL), ("NEW_TYPE", INTERNAL)],
)  # fmt: skip
@pytest.mark.parametrize("metadata", [{}, OTLP])
def test_kind_of_an_unknown_instrumentation(type: str, expected: int, metadata: dict[str, Any]) -> None:  # noqa: A002
    """Calls that leave the process are CLIENT by the conventions: Kelet would take a model call for inner work."""
    assert expected == span(row(type=type, metadata=metadata)).kind


@pytest.mark.parametrize(
    ("scope", "version", "type", "kind", "status"),
    [
        ("langfuse-sdk", "5.0.4", "GENERATION", INTERNAL, UNSET),
        ("openinference.instrumentation.openai", "0.1", "GENERATION", INTERNAL, OK),
        ("litellm", "1.0", "GENERATION", INTERNAL, OK),
        ("ai", "", "GENERATION", INTERNAL, UNSET),
        ("gcp.vertex.agent", "2.1", "GENERATION", INTERNAL, UNSET),
        ("pydantic-ai", "1.20.0", "GENERATION", INTERNAL, UNSET),
        ("pydantic-ai", "2.68.0", "GENERATION", CLIENT, UNSET),
        ("pydantic-ai", "2.68.0", "EMBEDDING", INTERNAL, UNSET),
        ("traceloop.tracer", "", "TOOL", INTERNAL, UNSET),
        ("opentelemetry.instrumentation.openai.v1", "0.6", "GENERATION", CLIENT, UNSET),
        ("opentelemetry.instrumentation.anthropic", "0.6", "GENERATION", CLIENT, OK),
        ("opentelemetry.util.genai.handler", "0.4", "EMBEDDING", CLIENT, UNSET),
        ("com.anthropic.sdk.messages", "1", "GENERATION", CLIENT, OK),
        ("gen_ai", "", "GENERATION", CLIENT, UNSET),
        ("gen_ai", "", "RETRIEVER", INTERNAL, UNSET),
        ("gen_ai.mine", "", "RETRIEVER", CLIENT, UNSET),
        ("airline.app", "", "GENERATION", CLIENT, UNSET),
    ],
)
def test_profiles_by_scope(scope: str, version: str, type: str, kind: int, status: int) -> None:  # noqa: A002
    """Kind and status of known instrumentations are what each exports directly; a prefix must not take in strangers."""
    found = span(row(type=type, metadata=scoped(scope, version)))
    assert (found.kind, found.status_code) == (kind, status)


@pytest.mark.parametrize(
    ("scope", "version", "shown", "type", "original", "expected"),
    [
        ("ai", "", "weather:ai.generateText", "SPAN", {"ai__operationId": "ai.generateText"}, "ai.generateText"),
        ("ai", "", "get_weather", "TOOL", {"ai__operationId": "ai.toolCall"}, "ai.toolCall"),
        ("ai", "", "mine", "SPAN", {}, "mine"),
        ("pydantic-ai", "2.68.0", "bob run", "AGENT", {"logfire__msg": "bob run"}, "invoke_agent bob"),
        ("pydantic-ai", "1.20.0", "bob run", "SPAN", {"logfire__msg": "bob run"}, "agent run"),
        ("pydantic-ai", "1.20.0", "running 3 tools", "SPAN", {"logfire__msg": "running 3 tools"}, "running tools"),
        ("pydantic-ai", "1.20.0", "explode", "TOOL", {}, "running tool"),
        ("pydantic-ai", "1.20.0", "chat gpt-4o", "GENERATION", {"logfire__msg": "chat gpt-4o"}, "chat gpt-4o"),
        ("traceloop.tracer", "", "look", "TOOL", {"traceloop__span__kind": "tool"}, "look.tool"),
        ("traceloop.tracer", "", "look.workflow", "SPAN", {"traceloop__span__kind": "workflow"}, "look.workflow"),
        ("my.app", "1", "look", "TOOL", {"gen_ai__operation__name": "execute_tool", "gen_ai__tool__name": "look"},
         "execute_tool look"),
        ("my.app", "1", "look", "TOOL", {"gen_ai__operation__name": "execute_tool"}, "look"),
        ("my.app", "1", "look", "TOOL", {}, "look"),
    ],
)  # fmt: skip
def test_original_names(
    scope: str,
    version: str,
    shown: str,
    type: str,  # noqa: A002
    original: dict[str, Any],
    expected: str,
) -> None:
    """Langfuse shows some spans under another name than their instrumentation gave them, which a direct export has."""
    assert expected == span(row(name=shown, type=type, metadata=scoped(scope, version, **original))).name


def test_row_without_a_name() -> None:
    """A span without a name is not shown by most tools."""
    assert span(row(name=None, type="AGENT")).name == "agent"


def test_error() -> None:
    """An error that does not arrive as one is the one thing a user looks for."""
    found = span(row(level="ERROR", status_message="ValueError: index offline: ß"))
    assert (found.status_code, found.status_message) == (ERROR, "ValueError: index offline: ß")
    assert found.attributes["error.type"] == "ValueError"
    described: Attributes = {"exception.type": "ValueError", "exception.message": "index offline: ß"}
    assert found.events == [Event("exception", (T0 + 1000) * 1_000_000, described)]


@pytest.mark.parametrize(
    ("message", "error_type", "exception"),
    [
        ("openai.RateLimitError: slow\ndown", "openai.RateLimitError",
         {"exception.type": "openai.RateLimitError", "exception.message": "slow\ndown"}),
        ("  KeyError: 'x'", "KeyError", {"exception.type": "KeyError", "exception.message": "'x'"}),
        ("IOException", "IOException", {"exception.type": "IOException"}),
        ("ValueError:", "ValueError", {"exception.type": "ValueError"}),
        ("it broke: ValueError", "_OTHER", None),
        ("ValueErrors are bad", "_OTHER", None),
        ("1Error: x", "_OTHER", None),
        (None, "_OTHER", None),
    ],
)  # fmt: skip
def test_error_types(message: str | None, error_type: str, exception: dict[str, str] | None) -> None:
    """Free text as an error type would give every error a class of its own."""
    found = span(row(level="ERROR", status_message=message))
    assert found.status_message == (message or "")
    assert found.attributes["error.type"] == error_type
    assert [event.attributes for event in found.events] == ([] if exception is None else [exception])


def test_original_error_type_stays() -> None:
    """The instrumentation knows better than a text that is taken apart."""
    found = span(row(level="ERROR", status_message="ValueError: x", metadata=otlp(error__type="429")))
    assert found.attributes["error.type"] == "429"


@pytest.mark.parametrize("level", ["DEFAULT", "WARNING", "DEBUG", "ODD"])
def test_other_levels_are_no_errors(level: str) -> None:
    """A warning that arrives as an error is a false alarm; it stays to be read."""
    found = span(row(level=level, status_message="ValueError: caught"))
    assert (found.status_code, found.status_message, found.events) == (UNSET, "", [])
    assert "error.type" not in found.attributes
    assert found.attributes["langfuse.observation.status_message"] == "ValueError: caught"
    assert found.attributes.get("langfuse.observation.level") == (None if level == "DEFAULT" else level)


def test_long_error_message() -> None:
    """A status of megabytes passes every limit on attributes, and the batch is refused for it."""
    found = span(row(level="ERROR", status_message="ValueError: " + "x" * 5000), max_value_bytes=300)
    assert len(found.status_message.encode()) <= 300
    assert len(str(found.events[0].attributes["exception.message"]).encode()) <= 300


@pytest.mark.parametrize("message", ["a" * 200_000, "a." * 100_000, " " * 200_000, "aError" * 40_000 + "!"])
def test_hostile_error_message(message: str) -> None:
    """A pattern that tries all ways to split a text would hang on one row for hours."""
    assert span(row(level="ERROR", status_message=message)).status_code == ERROR


def test_scope_without_original() -> None:
    """Rows of the old API have no scope; Kelet knows Langfuse's spans by that of its SDK."""
    found = span(row()).scope
    assert (found.name, found.version, found.attributes) == ("langfuse-sdk", "", {})


def test_original_scope() -> None:
    """The scope says who made a span: Kelet reads frameworks by it."""
    metadata = {"scope.attributes.public_key": "pk-1", "scope.version": "5.0.4", "scope.name": "langfuse-sdk"}
    found = span(row(metadata=metadata)).scope
    assert (found.name, found.version, found.attributes) == ("langfuse-sdk", "5.0.4", {"public_key": "pk-1"})


@pytest.mark.parametrize(
    "name", ["com.anthropic.claude_code", "com.anthropic.claude_code.events", "kelet.claude_agent_sdk"]
)
def test_reserved_scope(name: str) -> None:
    """These scopes send a span down Kelet's path for Claude Code, which would take it for what it is not."""
    found = span(row(metadata=scoped(name))).scope
    assert (found.name, found.version) == ("langfuse-sdk", "")
    assert found.attributes == {"kelet.source.langfuse.scope": name}


def test_resource_without_original() -> None:
    """Without a service name a span belongs to no service in any tool."""
    found = span(row(environment="prod", release="r7")).resource
    expected = {"service.name": "shop-prod", "langfuse.environment": "prod", "langfuse.release": "r7"}
    assert found == expected | {"kelet.project": "shop-prod"}


def test_original_resource() -> None:
    """The resource is the customer's own: types and names as they were, the project beside them."""
    metadata = {"resourceAttributes.team.tags": ["ä", "b"], "resourceAttributes.team.size": 7} | OTLP
    expected: dict[str, Any] = {"service.name": "shop", "team.tags": ("ä", "b"), "team.size": 7}
    assert span(row(metadata=metadata, environment="prod")).resource == expected | {"kelet.project": "shop-prod"}


@pytest.mark.parametrize("name", ["", None])
def test_empty_service_name(name: str | None) -> None:
    """An empty service name is as good as none."""
    metadata = {"resourceAttributes.service.name": name, "scope.name": "my.app"} if name is not None else {}
    assert span(row(metadata=metadata)).resource["service.name"] == "shop-prod"


def test_project_of_a_users_resource_loses() -> None:
    """A resource that names another project would route the span away from where the operator wants it."""
    found = span(row(metadata={"resourceAttributes.kelet.project": "mine"} | OTLP))
    assert found.resource["kelet.project"] == "shop-prod"
    assert found.attributes["kelet.project"] == "shop-prod"


def test_long_resource_and_scope_values() -> None:
    """Values of the resource count in every request: one of megabytes would have all of them refused."""
    metadata = {"resourceAttributes.note": "x" * 5000, "scope.attributes.note": "x" * 5000} | OTLP
    found = span(row(metadata=metadata), max_value_bytes=300)
    assert len(str(found.resource["note"])) <= 300
    assert len(str(found.scope.attributes["note"])) <= 300


def test_origin_is_shared_by_traces_alone() -> None:
    """A span would go out with the project of another trace, or each trace's resource would be made anew."""
    options, others = Conversion(), Conversion(project_attribute="team")
    found: list[SharedAttributes] = []
    for trace_id, project, chosen in (
        (TRACE, "one", options),
        (TRACE[::-1], "one", options),
        (TRACE, "two", options),
        (TRACE, "one", others),
    ):
        only = row(trace_id=trace_id, metadata=OTLP)
        [(_, made)] = convert([only], gather(trace_id, [only]), project, chosen).spans
        found.append(made.resource)
    assert found[0] is found[1]
    assert found[2] == {"service.name": "shop", "kelet.project": "two"}
    assert found[3] == {"service.name": "shop", "kelet.project": "one", "team": "one"}


def test_shared_origins_are_few_and_small() -> None:
    """What strangers write would fill the memory."""
    for number in range(100):
        assert span(row(metadata=OTLP | {"resourceAttributes.note": f"{number}"})).resource["note"] == str(number)
        long = f"{number}" * 20_000
        assert span(row(metadata=OTLP | {"resourceAttributes.note": long})).resource["note"] == long
    kept = _ORIGINS._last.values()
    assert len(kept) <= _HELD
    assert all(len(str(resource)) < 2 * _SMALL for _, _, resource, _ in kept)


def test_project_on_every_span() -> None:
    """A span without a project ends up in Kelet's default project."""
    found = spans(row(), generation(CHILD, parent_id=ROOT), row("00000000000000d4", type="EVENT", end=None))
    assert {s.attributes["kelet.project"] for s in found.values()} == {"shop-prod"}
    assert {s.resource["kelet.project"] for s in found.values()} == {"shop-prod"}


def test_link_back_to_langfuse() -> None:
    """Ids of the old API hold any characters: the link would lead nowhere, or somewhere else."""
    url = "https://lf.example.com"
    found = span(row(trace_id="a b/c?d"), langfuse_url=url).attributes
    assert found["metadata.langfuse_trace_url"] == "https://lf.example.com/project/p1/traces/a%20b%2Fc%3Fd"
    assert found["metadata.langfuse_trace_id"] == "a b/c?d"
    without = span(row(trace_id=None), langfuse_url=url).attributes
    assert held(without, "metadata.langfuse_trace_url", "metadata.langfuse_trace_id") == {
        "metadata.langfuse_trace_id": f"obs:{ROOT}"
    }
