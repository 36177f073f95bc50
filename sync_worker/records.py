"""What Langfuse says, in one shape for every API generation: the input of the conversion.

Empty strings and null mean the same to Langfuse (its store has no null strings), so both are None here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sync_worker.choices import Api

#: A number as it stands in JSON: 9 and 9.0 are written again as they came, so it is not always a float.
Number: TypeAlias = int | float

#: Prefix of the synthetic root that Langfuse makes from a trace when old SDKs wrote it (dual write mode).
SYNTHETIC_ROOT_PREFIX = "t-"

#: Stands before a character of an id that UTF-8 cannot hold (`U+FDD0`, which no text has a use for), and before itself.
_ESCAPE = "\ufdd0"
_UNSTORABLE = re.compile(f"[\ud800-\udfff{_ESCAPE}]")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")

_HEX_TRACE = re.compile(r"[0-9a-fA-F]{32}\Z")
_HEX_SPAN = re.compile(r"[0-9a-fA-F]{16}\Z")


@dataclass(slots=True)
class Observation:
    """One Langfuse observation. Times are Unix milliseconds (Langfuse keeps no more)."""

    id: str
    trace_id: str | None
    project_id: str
    type: str  # SPAN, GENERATION, EVENT, AGENT, TOOL, … ; unknown types are kept as they came
    start_ms: int
    end_ms: int | None = None
    parent_id: str | None = None
    name: str | None = None
    level: str = "DEFAULT"  # DEBUG, DEFAULT, WARNING, ERROR; unknown levels are kept
    status_message: str | None = None
    version: str | None = None
    environment: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    is_root: bool = False
    public: bool = False
    completion_start_ms: int | None = None
    updated_ms: int | None = None
    input: str | None = None  # raw text; JSON stays JSON text
    output: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)  # values as JSON-parsed by Langfuse
    model: str | None = None
    model_parameters: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Number] = field(default_factory=dict)
    cost: dict[str, Number] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)  # of the model, a unit: input, output, total
    prompt_name: str | None = None
    prompt_version: int | None = None
    tags: tuple[str, ...] = ()
    release: str | None = None
    trace_name: str | None = None
    trace_input: str | None = None  # the trace's own input, where a generation of the API shows it
    trace_output: str | None = None
    api: Api = "v2"  # which generation returned it
    unsettled: bool = False  # listed twice with this start: two versions that the store has yet to merge
    had_surrogates: bool = False  # half surrogate pairs of its texts were replaced when it was parsed
    #: What `spans.fingerprint` made of it: comparing and sending ask for it, and a copy has its own.
    own_fingerprint: bytes | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def is_synthetic_root(self) -> bool:
        """Whether Langfuse made it from a trace; it ends with the last observation of its trace."""
        return self.trace_id is not None and self.id == SYNTHETIC_ROOT_PREFIX + self.trace_id

    @property
    def came_over_otel(self) -> bool:
        """Whether both ids are OpenTelemetry's own, as Langfuse received them."""
        return self.trace_id is not None and is_otel_trace_id(self.trace_id) and is_otel_span_id(self.id)

    @property
    def is_trace_root(self) -> bool:
        """Whether this observation is a root of its trace: Langfuse says so, or it has no parent but itself."""
        return self.is_root or self.parent_id in {None, self.id}

    @property
    def is_open(self) -> bool:
        """Whether the observation still waits for its end (events and synthetic roots never have one)."""
        return self.end_ms is None and self.type != "EVENT" and not self.is_synthetic_root

    @property
    def last_ms(self) -> int:
        """The last time that is known of the observation: the latest of its start, end and last update."""
        return max(self.start_ms, self.end_ms or 0, self.updated_ms or 0)


def storable_id(text: str) -> str:
    """Return an id with half surrogate pairs written as text, so that SQLite, protobuf and an address can hold it.

    Two ids never become one, and `langfuse_id` gives each back.
    """
    return text if text.isascii() else _UNSTORABLE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def langfuse_id(text: str) -> str:
    """Return the id that Langfuse knows for what `storable_id` made of it."""
    return text if text.isascii() else _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def is_otel_trace_id(trace_id: str) -> bool:
    """Whether the trace id is OpenTelemetry's own, as Langfuse received it."""
    return _HEX_TRACE.match(trace_id) is not None and bool(trace_id.strip("0"))


def is_otel_span_id(observation_id: str) -> bool:
    """Whether the observation id is OpenTelemetry's own, as Langfuse received it."""
    return _HEX_SPAN.match(observation_id) is not None and bool(observation_id.strip("0"))


@dataclass(frozen=True, slots=True)
class Score:
    """A score of Langfuse, the same whichever API returned it. Times are Unix milliseconds.

    `trace_id` is set for one on a trace or an observation, `session_id` for one on a session, `experiment_id` for one
    on an experiment.
    """

    id: str
    name: str
    type: str  # NUMERIC, BOOLEAN, CATEGORICAL, TEXT, CORRECTION; unknown types are kept as they came
    source: str  # API, EVAL, ANNOTATION; unknown ones are kept
    timestamp_ms: int  # when it was given, or is dated; an edit keeps it
    value: Number | bool | str | None
    trace_id: str | None = None
    observation_id: str | None = None
    session_id: str | None = None
    experiment_id: str | None = None
    comment: str | None = None
    config_id: str | None = None
    metadata: Any = None  # a JSON value; None where there is none
    environment: str | None = None
    created_ms: int | None = None
    updated_ms: int | None = None  # an edit by a person does not move it
    author_id: str | None = None
    queue_id: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """What Langfuse knows of the values of a score: a range, or categories with a number each. None: open."""

    minimum: Number | None = None
    maximum: Number | None = None
    categories: tuple[tuple[str, Number], ...] = ()
