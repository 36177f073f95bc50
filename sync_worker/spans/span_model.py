"""The span before it is bytes, and the bytes that are sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from sync_worker.choices import AttributeProfile
from sync_worker.spans.overrides import NO_OVERRIDES, Overrides

#: What an attribute may hold: a scalar or a list of scalars of one kind.
AttributeValue = str | bool | int | float | list[str] | list[bool] | list[int] | list[float]
Attributes = dict[str, AttributeValue]
#: Attributes that spans share, so that nobody may change them: arrays are tuples once they are `shared`.
SharedValue = AttributeValue | tuple[str, ...] | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]
SharedAttributes = Mapping[str, SharedValue]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What the conversion needs to know beside the observations. Sizes in bytes of UTF-8."""

    attributes: AttributeProfile = "both"
    max_value_bytes: int = 1_048_576
    max_attributes: int = 256
    langfuse_url: str | None = None  # base address, for a link back to the trace
    project_attribute: str | None = "kelet.project"  # of the resource, for the target's project
    kelet: bool = True  # with the worker's own `kelet.*` attributes, and without scopes that Kelet has reserved
    overrides: Overrides = NO_OVERRIDES
    show_id: Callable[[str], str] = str  # how an id of Langfuse is written in an attribute


def shared(attributes: Attributes) -> SharedAttributes:
    """Return attributes as nobody can change them, the arrays among them included."""
    return MappingProxyType(
        {key: tuple(value) if isinstance(value, list) else value for key, value in attributes.items()}  # type: ignore[misc]
    )


def unshared(attributes: SharedAttributes) -> Attributes:
    """Return a copy of attributes that may be changed."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Scope:
    """An instrumentation scope."""

    name: str
    version: str = ""
    attributes: SharedAttributes = field(default_factory=lambda: shared({}))


@dataclass(slots=True)
class Event:
    """A span event; time in Unix nanoseconds."""

    name: str
    time_ns: int
    attributes: Attributes = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    """An OTLP span with its resource and scope. Ids in lower-case hex, times in Unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str  # "" for a root
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Attributes
    resource: SharedAttributes
    scope: Scope
    status_code: int = 0
    status_message: str = ""
    events: list[Event] = field(default_factory=list)
    dropped_attributes: int = 0


class ObservationKey(NamedTuple):
    """Names an observation within its source: Langfuse's trace id (made up where there is none) and observation id."""

    trace: str
    observation: str


class EncodedSpan(NamedTuple):
    """A span as it goes out: serialised protobuf of resource, scope and span, and what to remember when it arrived."""

    key: ObservationKey
    project: str
    trace_id: str
    resource: bytes
    scope: bytes
    span: bytes
    start_ms: int
    updated_ms: int
    fingerprint: bytes
    read_again_ms: int | None = None  # when its observation is to be read once more, Unix ms; None: need not be
    replaced: Mapping[str, int] = MappingProxyType({})  # by redaction, by detector

    @property
    def size(self) -> int:
        """Bytes this span adds to a request, its envelope not counted."""
        return len(self.span)
