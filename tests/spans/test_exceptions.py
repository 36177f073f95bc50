"""Exception events of failed spans, from what status and attributes tell."""

from typing import Any

import pytest

from tests.spans.made import otlp, row, span

TEXT = "Error code: 429 - slow down"


def event(scope: str, message: str | None, language: str = "", **original: Any) -> dict[str, Any]:
    metadata = otlp(**original) | {"scope.name": scope, "resourceAttributes.telemetry.sdk.language": language}
    events = span(row(level="ERROR", status_message=message, metadata=metadata)).events
    return {key: value for one in events for key, value in one.attributes.items()}


@pytest.mark.parametrize(
    ("scope", "message", "original", "expected"),
    [
        ("opentelemetry.instrumentation.openai.v1", TEXT, {"error__type": "RateLimitError"}, "openai.RateLimitError"),
        ("opentelemetry.instrumentation.anthropic", TEXT, {"error__type": "APIError"}, "anthropic.APIError"),
        ("opentelemetry.instrumentation.langchain", TEXT, {"error__type": "ValueError"}, "ValueError"),
        ("opentelemetry.instrumentation.langchain", TEXT, {"error__type": "RateLimitError"}, None),
        ("opentelemetry.instrumentation.openai_agents", TEXT, {"error__type": "RateLimitError"}, None),
        ("traceloop.tracer", TEXT, {}, None),
        ("gcp.vertex.agent", f"ServerError: {TEXT}", {}, "google.genai.errors.ServerError"),
        ("gcp.vertex.agent", f"ValueError: {TEXT}", {}, "ValueError"),
    ],
)
def test_type(scope: str, message: str, original: dict[str, Any], expected: str | None) -> None:
    """The type has its module where the instrumentation tells it; a type that may be another's is left out."""
    found = event(scope, message, **original)
    assert found == {"exception.message": TEXT} | ({"exception.type": expected} if expected else {})


def test_message_in_an_attribute() -> None:
    """LiteLLM sets no text on the status: what was wrong stands in an attribute."""
    assert event("litellm", None, error__type="RateLimitError", error__message=TEXT) == {
        "exception.type": "litellm.exceptions.RateLimitError", "exception.message": TEXT,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "original"),
    [
        ("my.app", {"error__type": "ValueError"}),
        ("opentelemetry.instrumentation.openai.v1", {}),
        ("opentelemetry.instrumentation.mcp.instrumentation", {"error__type": "ValueError"}),
        ("opentelemetry.instrumentation.openai.v1", {"error__type": "server_error"}),
        ("opentelemetry.instrumentation.openai.v1", {"error__type": 7}),
    ],
)
def test_no_event(scope: str, original: dict[str, Any]) -> None:
    """Not every failure is an exception: where the instrumentation records none, none is made up."""
    assert event(scope, TEXT, **original) == {}


def test_escaped() -> None:
    """Python's SDK says of each exception whether it escaped; other languages' do not."""
    assert event("my.app", "ValueError: x", "python")["exception.escaped"] == "False"
    assert "exception.escaped" not in event("my.app", "ValueError: x", "nodejs")
