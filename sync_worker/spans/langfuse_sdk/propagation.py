"""Metadata that an SDK propagates from a span to all below it.

The v2 API shows it merged with the observations' own, so an observation does not show which is which: what a span has
in common with its parent was propagated. The v1 API shows it on the trace alone, that is on the synthetic root,
together with the real root's own; observations of the ingestion API have no other root, and v2 merges its metadata into
each of them. LangChain propagates its own metadata as well: the Python handler writes what its outermost chain is given
under both names, the others only as the observation's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sync_worker.json_text import dump
from sync_worker.records import Observation
from sync_worker.spans.langfuse_sdk.sdks import Sdk, names_sdk, sdk_of
from sync_worker.spans.restore import own_metadata, take_apart

#: The SDKs do not propagate longer values; quotes and escapes of the JSON text come on top.
_MAX_CHARS = 2 * 200 + 2
_MAX_KEYS = 64
_MAX_TEXTS = 16

#: Keys that LangChain, LangGraph and the handlers put on their runs.
_LANGCHAIN = frozenset({"is_langchain_root", "ls_model_type", "ls_provider", "langgraph_step", "langgraph_node"})
#: Of LangChain's own making on each run, so never propagated.
_PER_RUN = frozenset({"tags", "is_langchain_root"})
_CHAINS = frozenset({"CHAIN", "AGENT"})


@dataclass(slots=True)
class Propagated:
    """By key, the values (as JSON text, long ones by their hash) that were propagated.

    `both` names the keys that stand under both names; `stated` those that the trace shows, whether or not an
    observation shows them. `fields` states whether a session, user or tags were propagated: then a span that has them
    need not have set them itself.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    both: list[str] = field(default_factory=list)
    stated: list[str] = field(default_factory=list)
    fields: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what is kept, as plain JSON values; empty where nothing was propagated."""
        kept = {item.name: getattr(self, item.name) for item in fields(self)}
        return kept if any(kept.values()) else {}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Propagated:
        """Read back what was kept; keys of another version are passed over."""
        return cls(**{item.name: stored[item.name] for item in fields(cls) if item.name in stored})

    def holds(self, key: str, value: object) -> bool:
        """Whether this value of this key was propagated."""
        return key in self.values and _short(dump(value)) in self.values[key]


def propagated_by(observations: Iterable[Observation], known: Propagated) -> Propagated:
    """Return what the observations of a trace show to be propagated, added to what was known."""
    found = Propagated(
        {key: list(texts) for key, texts in known.values.items()}, list(known.both), list(known.stated), known.fields
    )
    observations = list(observations)
    synthetic = next((observation for observation in observations if observation.is_synthetic_root), None)
    payload = {} if synthetic is None else _texts(own_metadata(synthetic.metadata), any_length=True)
    _add_stated(found, _of_trace_alone(payload, observations))
    stated: dict[str, Observation] = {}
    own: dict[str, dict[str, str]] = {}
    members: list[tuple[Observation, Sdk]] = []
    is_langchain = False
    for observation in observations:
        if names_sdk(observation.metadata):
            originals = take_apart(observation.metadata)
            sdk = sdk_of(originals)
            if sdk is not None and not sdk.is_legacy:
                members.append((observation, sdk))
                own[observation.id] = _texts(originals.user, any_length=sdk.updates_traces)
                stated[observation.id] = observation
                is_langchain = is_langchain or not _LANGCHAIN.isdisjoint(originals.user)
    chains = _chains(members, own) if is_langchain else set()
    for observation, sdk in members:
        above = own.get(observation.parent_id or "", {})
        found.fields = found.fields or _share_fields(observation, stated.get(observation.parent_id or ""))
        shared = {key: text for key, text in own[observation.id].items() if above.get(key) == text}
        if observation.parent_id in chains or (is_langchain and (sdk.language != "python" or sdk.major < 4)):
            continue  # LangChain's own inheritance
        if observation.id in chains:
            given = {
                key: text for key, text in own[observation.id].items() if key not in _PER_RUN and key not in shared
            }
            found.both += [key for key in given if key not in found.both][: _MAX_KEYS - len(found.both)]
            if observation.api == "v1":
                _add_stated(found, given)
            _add(found, given)
        if observation.api != "v1":
            _add(found, shared)
    _add_stated(found, {key: text for key, text in payload.items() if text in found.values.get(key, ())})
    return found


def _of_trace_alone(payload: Mapping[str, str], observations: Sequence[Observation]) -> Mapping[str, str]:
    """Return what the synthetic root states that is not the real root's own; nothing where that cannot be stated.

    Observations of v2 that came over OpenTelemetry show it all, their real root too.
    """
    if not any(observation.came_over_otel for observation in observations):
        return payload
    roots = [
        observation for observation in observations if observation.is_trace_root and not observation.is_synthetic_root
    ]
    if not payload or not roots or any(observation.api != "v1" for observation in roots):
        return {}
    theirs = [_texts(own_metadata(observation.metadata), any_length=True) for observation in roots]
    return {key: text for key, text in payload.items() if all(own.get(key) != text for own in theirs)}


def _add_stated(found: Propagated, given: Mapping[str, str]) -> None:
    found.stated += [key for key in given if key not in found.stated][: _MAX_KEYS - len(found.stated)]
    _add(found, given)


def _share_fields(observation: Observation, parent: Observation | None) -> bool:
    if parent is None or parent is observation:
        return False
    pairs = (
        (observation.session_id, parent.session_id),
        (observation.user_id, parent.user_id),
        (observation.tags, parent.tags),
    )
    return any(one and one == other for one, other in pairs)


def _chains(members: Sequence[tuple[Observation, Sdk]], own: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Return the observations at or below LangChain's outermost chains."""
    below: dict[str, list[str]] = {}
    for observation, _ in members:
        below.setdefault(observation.parent_id or "", []).append(observation.id)
    found: set[str] = set()
    pending = [observation.id for observation, sdk in members if _is_outermost(observation, own[observation.id], sdk)]
    while pending:
        observation_id = pending.pop()
        if observation_id not in found:
            found.add(observation_id)
            pending += below.get(observation_id, ())
    return found


def _is_outermost(observation: Observation, own: Mapping[str, str], sdk: Sdk) -> bool:
    """Whether an observation is LangChain's outermost chain; before 4.5 the handler did not mark it."""
    is_marked = own.get("is_langchain_root") == "true" or (sdk.version < (4, 5) and observation.is_trace_root)
    return is_marked and observation.type in _CHAINS


def _texts(metadata: Mapping[str, object], *, any_length: bool) -> dict[str, str]:
    """Return metadata as JSON texts, without long ones or with their hashes."""
    found: dict[str, str] = {}
    for key, value in metadata.items():
        if any_length or not isinstance(value, str) or len(value) <= _MAX_CHARS:
            text = dump(value)
            if any_length or len(text) <= _MAX_CHARS:
                found[key] = _short(text)
    return found


def _short(text: str) -> str:
    """Return a text that can be kept in place of it, and distinguishes as much."""
    if len(text) <= _MAX_CHARS:
        return text
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _add(found: Propagated, given: Mapping[str, str]) -> None:
    for key, text in given.items():
        if key in found.values or len(found.values) < _MAX_KEYS:
            texts = found.values.setdefault(key, [])
            if text not in texts and len(texts) < _MAX_TEXTS:
                texts.append(text)
