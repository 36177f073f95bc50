"""What a reader hands back, and the draft it is built in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Part: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One side of a model call as messages."""

    messages: list[Message]
    #: Parts of the system and developer messages that open an input, and of instructions beside the messages.
    system: list[Part]
    #: Tool definitions found beside the messages, as their framework writes them.
    tools: list[Any] | None
    #: One for each answer that states why it ended, in the provider's own word. Always empty for an input.
    finish_reasons: list[str]
    #: False when structured text was not understood and stayed one text part. Plain text is understood.
    recognised: bool


@dataclass(slots=True)
class Draft:
    """A conversation under construction."""

    messages: list[Message] = field(default_factory=list)
    system: list[Part] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
