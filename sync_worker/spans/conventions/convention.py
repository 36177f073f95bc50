"""What a convention is: who uses it, and how its attributes are rebuilt from what Langfuse made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.restore import Originals
from sync_worker.spans.span_model import Attributes


@dataclass(slots=True)
class Rebuilt:
    """Original attributes that Langfuse consumed, put back.

    `amended` holds originals of which Langfuse kept a part only, whole again: they win over what it kept. `guessed`
    names attributes that may have been written otherwise. `claimed` names the keys of the observation's own metadata
    (`Originals.user`) that went back under another name, so that they are not written twice. `lost` names attributes
    that the span had with a value that Langfuse did not keep: nothing is made up in their place.
    """

    attributes: Attributes = field(default_factory=dict)
    amended: Attributes = field(default_factory=dict)
    guessed: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, observation: Observation, asked: str | None, answered: str | None) -> Rebuilt:
        """Return an observation's input and output under these keys."""
        found = cls()
        for key, text in ((asked, observation.input), (answered, observation.output)):
            if key is not None:
                found.put(key, text)
        return found

    def put(self, key: str, text: str | None) -> None:
        """Put an input or output back under its key; an empty one was none."""
        if text:
            self.attributes[key] = text


@dataclass(frozen=True, slots=True)
class Convention:
    """One way of naming attributes. `matches` states whether a span is written in it."""

    name: str
    matches: Callable[[Originals], bool]
    rebuild: Callable[[Observation, Originals, TraceContext], Rebuilt]
