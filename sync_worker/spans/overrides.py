"""Session, user, agent and project of a trace from the fields that the settings name, such as a key of its metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sync_worker.json_text import dump
from sync_worker.records import Observation

#: The field that leaves the name of the agent to each span.
AGENT: Final = "agent"
_METADATA = "metadata."
_MAX_LENGTH = 1_000  # characters: what is longer is a text, no id


@dataclass(frozen=True, slots=True)
class Overrides:
    """By what is decided the fields to look at, in order; empty: nothing is overridden.

    A field is one of an observation, or `metadata.KEY`, where KEY may lead into objects: `metadata.chat.id`.
    """

    session: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    project: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether something is overridden."""
        return bool(self.session or self.user or self.agent or self.project)


NO_OVERRIDES: Final = Overrides()


def value_of(fields: Sequence[str], observation: Observation, session: str | None, user: str | None) -> str | None:
    """Return the first value of an observation in these fields; `session` and `user` are those that it names itself.

    For `agent` it is an empty text: each span has its own.
    """
    for name in fields:
        if name == AGENT:
            return ""
        found = _text(_field(name, observation, session, user))
        if found is not None:
            return found
    return None


def _field(name: str, observation: Observation, session: str | None, user: str | None) -> Any:
    match name:
        case "session":
            return session
        case "user":
            return user
        case "environment":
            return observation.environment
        case "trace_name":
            return observation.trace_name
        case "release":
            return observation.release
        case "version":
            return observation.version
    return _in_metadata(observation.metadata, name.removeprefix(_METADATA))


def _in_metadata(metadata: dict[str, Any], key: str) -> Any:
    """Return the value of a key, which may have dots, or lead into objects."""
    if key in metadata:
        return metadata[key]
    here: Any = metadata
    rest = key
    while isinstance(here, dict) and rest:
        if rest in here:
            return here[rest]
        first, _, rest = rest.partition(".")
        here = here.get(first)
    return None


def _text(value: Any) -> str | None:
    """Return a value as an id; None for what is none: nothing, a list, an object, a long text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value.strip() if isinstance(value, str) else dump(value)
    return text if text and len(text) <= _MAX_LENGTH else None
