"""Logfire's own spans: any attributes that the caller likes, described by `logfire.json_schema`.

Read in `logfire` 5.4. The description names every attribute that the caller gave, so one that it names and that is gone
is what Langfuse made input or output of.
"""

from __future__ import annotations

from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.conventions import semconv
from sync_worker.spans.conventions.convention import Convention, Rebuilt
from sync_worker.spans.restore import Originals

_EVENT = "event.name"
_EVENTS = "events"
_CHOICE = "gen_ai.choice"

#: Pairs of input and output in the order in which Langfuse 4 looks for them; the first of which a span has one counts.
_PAIRS = (
    ("prompt", "all_messages_events"),
    (_EVENTS, _EVENTS),
    ("input", "output"),
    ("tool_arguments", "tool_response"),
    (semconv.INPUT, semconv.OUTPUT),
)


def is_events(text: str | None) -> bool:
    """Whether a text is a list of GenAI events, as Logfire and pydantic-ai write them into one attribute."""
    return _event_list(text) is not None


def events_of(asked: str | None, answered: str | None) -> list[Any] | None:
    """Return the one list of events of which Langfuse made input and output; None where they are none.

    The answer is the first `gen_ai.choice`, and stood last.
    """
    events = _event_list(asked) if asked else []
    choice = _event(answered)
    if events is None or (answered and choice is None) or not (events or choice):
        return None
    return [*events, choice] if choice is not None else events


def _event_list(text: str | None) -> list[Any] | None:
    is_json, value = parse(text) if text and text.startswith("[") and f'"{_EVENT}"' in text else (False, None)
    if not is_json or not isinstance(value, list):
        return None
    return value if all(isinstance(item, dict) and _EVENT in item for item in value) else None


def _event(text: str | None) -> dict[str, Any] | None:
    is_json, value = parse(text) if text and f'"{_EVENT}"' in text else (False, None)
    return value if is_json and isinstance(value, dict) and value.get(_EVENT) == _CHOICE else None


def _rebuild(observation: Observation, originals: Originals, context: TraceContext) -> Rebuilt:
    missing = _described(originals) - originals.attributes.keys()
    pair = next((pair for pair in _PAIRS if not missing.isdisjoint(pair)), None)
    if pair is None:
        return Rebuilt()
    if pair[0] == semconv.INPUT:
        return semconv.rebuild(observation, originals, context)
    if pair[0] == _EVENTS:
        found = Rebuilt()
        events = events_of(observation.input, observation.output)
        if events is not None:
            found.attributes[_EVENTS] = dump(events)
            found.guessed.add(_EVENTS)  # of several answers Langfuse keeps the first
        return found
    asked, answered = (key if key in missing else None for key in pair)
    return Rebuilt.of(observation, asked, answered)


def _described(originals: Originals) -> set[str]:
    schema = originals.attributes.get("logfire.json_schema")
    is_json, value = parse(schema) if isinstance(schema, str) else (False, None)
    properties = value.get("properties") if is_json and isinstance(value, dict) else None
    return set(properties) if isinstance(properties, dict) else set()


CONVENTION: Convention = Convention(
    "logfire", lambda originals: originals.scope is not None and originals.scope.name.startswith("logfire"), _rebuild
)
