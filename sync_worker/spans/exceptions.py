"""What a failed span shows its exception. Langfuse drops events; text and attributes hold some of what they stated."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping

from sync_worker.records import Observation
from sync_worker.spans.restore import Originals
from sync_worker.spans.span_model import Attributes, AttributeValue

#: How OpenTelemetry's Python SDK words the status of a span that an exception went through.
_TYPED = re.compile(r"\s*((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception))\b(?::\s*(.*))?", re.DOTALL)
_CLASS = re.compile(r"[A-Za-z_]\w*(?:Error|Exception)\Z")

#: Beginnings of scopes whose failed spans have an exception event though the text names no type.
_SILENT = ("traceloop.tracer", "opentelemetry.instrumentation.", "litellm")
#: Those of them that set the status alone.
_WITHOUT_EVENT = ("opentelemetry.instrumentation.mcp", "opentelemetry.instrumentation.crewai")

#: Public exceptions of the SDKs that Stainless generates for OpenAI, Anthropic and Groq (openai 2, anthropic 0.79).
_STAINLESS = frozenset({
    "APIConnectionError", "APIError", "APIResponseValidationError", "APIStatusError", "APITimeoutError",
    "AuthenticationError", "BadRequestError", "ConflictError", "InternalServerError", "NotFoundError",
    "PermissionDeniedError", "RateLimitError", "UnprocessableEntityError",
})  # fmt: skip
_GOOGLE = frozenset({"APIError", "ClientError", "ServerError"})

#: The module of exceptions, by the beginning of the scope and their names; the longest beginning counts.
_MODULES: dict[str, tuple[str, frozenset[str]]] = {
    "gcp.vertex.agent": ("google.genai.errors.", _GOOGLE),
    "litellm": ("litellm.exceptions.", _STAINLESS),
    "openinference.instrumentation.anthropic": ("anthropic.", _STAINLESS),
    "openinference.instrumentation.google_adk": ("google.genai.errors.", _GOOGLE),
    "openinference.instrumentation.openai": ("openai.", _STAINLESS),
    "openinference.instrumentation.openai_agents": ("", frozenset()),
    "opentelemetry.instrumentation.anthropic": ("anthropic.", _STAINLESS),
    "opentelemetry.instrumentation.groq": ("groq.", _STAINLESS),
    "opentelemetry.instrumentation.openai": ("openai.", _STAINLESS),
    "opentelemetry.instrumentation.openai_agents": ("", frozenset()),
}


def error_type(observation: Observation) -> Attributes:
    """Return `error.type` of a failed observation: the type its text begins with, or the word for none."""
    match = _TYPED.match(observation.status_message or "")
    return {"error.type": match.group(1) if match else "_OTHER"}


def exception(observation: Observation, originals: Originals) -> Attributes:
    """Return the attributes of a failed span's exception event; none where it is not known to have had one."""
    scope = "" if originals.scope is None else originals.scope.name
    match = _TYPED.match(observation.status_message or "")
    found: Attributes = {}
    if match is not None:
        found["exception.type"] = _qualified(match.group(1), scope)
        if match.group(2):
            found["exception.message"] = match.group(2)
    elif scope.startswith(_SILENT) and not scope.startswith(_WITHOUT_EVENT):
        found = _untyped(observation, scope, originals.attributes)
    if found and originals.resource.get("telemetry.sdk.language") == "python":
        found["exception.escaped"] = "False"  # what Python's SDK writes of every exception that it records
    return found


def _untyped(observation: Observation, scope: str, attributes: Mapping[str, AttributeValue]) -> Attributes:
    """Return the event of an instrumentation whose text is the exception's own; an attribute has the type, if any."""
    kind, message = attributes.get("error.type"), observation.status_message or attributes.get("error.message")
    if not isinstance(message, str) or not (isinstance(kind, str) or scope == "traceloop.tracer"):
        return {}
    if not isinstance(kind, str) or not _CLASS.match(kind):
        return {"exception.message": message} if scope == "traceloop.tracer" else {}
    full = _qualified(kind, scope)
    known = full != kind or isinstance(getattr(builtins, kind, None), type)
    return {"exception.type": full, "exception.message": message} if known else {"exception.message": message}


def _qualified(name: str, scope: str) -> str:
    """Return an exception's name with its module, where the instrumentation of the span writes it."""
    best = max((start for start in _MODULES if scope.startswith(start)), key=len, default=None)
    module, names = _MODULES[best] if best is not None else ("", frozenset())
    return module + name if name in names else name
