"""Which SDK wrote a span, and the forms in which it writes values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sync_worker.json_text import dump
from sync_worker.spans.restore import Originals
from sync_worker.spans.span_model import AttributeValue
from sync_worker.spans.versions import MAX_CHARS, Version, numbers_of

_SCOPE = "langfuse-sdk"
_JAVASCRIPT = frozenset({"nodejs", "webjs"})
_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Sdk:
    """One of Langfuse's SDKs by language and version. `is_legacy`: it came by the ingestion API, without spans."""

    language: Literal["python", "js"]
    version: Version
    is_legacy: bool = False

    @property
    def major(self) -> int:
        """The first number of the version."""
        return self.version[0]

    @property
    def marks_roots(self) -> bool:
        """Whether it marks the first span of an application in a trace: Python from 4.7, JavaScript from 5.4."""
        return self.version >= ((4, 7) if self.language == "python" else (5, 4))

    @property
    def updates_traces(self) -> bool:
        """Whether one span could set its trace's fields: those of Python's 3 and JavaScript's 4 could."""
        return self.major == (3 if self.language == "python" else 4)

    @property
    def has_trace_io(self) -> bool:
        """Whether it can give a trace an input and an output of its own; Python's 5 no longer does."""
        return self.language == "js" or self.major < 5

    def metadata(self, value: Any) -> AttributeValue:
        """Write a value of an observation's metadata."""
        if self.language == "js":
            return value if isinstance(value, str) else dump(value)
        if self.major >= 5 or self.version < (3, 2):
            return dump(value)
        if isinstance(value, str | bool) or (isinstance(value, int) and -_INT64 <= value < _INT64):
            return value
        return dump(value)

    def propagated(self, value: Any) -> str:
        """Write a value of metadata that is propagated to all spans below: before Python's 5 it is always text."""
        if self.language == "python" and self.major >= 5:
            return dump(value)
        return value if isinstance(value, str) else dump(value)


#: Observations of the ingestion API go out as the last Python SDK would have written them that still took plain values.
LEGACY = Sdk("python", (4, 18), is_legacy=True)


def names_sdk(metadata: Mapping[str, Any]) -> bool:
    """Whether metadata shows the scope of one of these SDKs, flat or nested: a look before it is taken apart."""
    nested = metadata.get("scope")
    name = metadata.get("scope.name", nested.get("name") if isinstance(nested, dict) else None)
    return isinstance(name, str) and name.startswith(_SCOPE)


def sdk_of(originals: Originals) -> Sdk | None:
    """Return the SDK of Langfuse that wrote an observation; None for spans of other instrumentations."""
    scope = originals.scope
    if scope is None:
        return None if originals.resource else LEGACY
    if not scope.name.startswith(_SCOPE):
        return None
    language = originals.resource.get("telemetry.sdk.language")
    if language is None:  # only Python's SDK names the project's key on its scope
        is_js = "public_key" not in scope.attributes and bool(scope.version)
    else:
        is_js = language in _JAVASCRIPT
    return _sdk("js" if is_js else "python", scope.version[:MAX_CHARS])


@lru_cache(maxsize=256)
def _sdk(language: Literal["python", "js"], version: str) -> Sdk:
    return Sdk(language, numbers_of(version)[:2] or LEGACY.version)
