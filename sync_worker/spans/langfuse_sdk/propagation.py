"""Metadata that an SDK hands down from a span to all below it.

Langfuse merges it with the observations' own, so a row does not tell which is which. What a span has in common with
its parent was handed down. LangChain hands its own metadata down as well: the Python handler writes what its outermost
chain is given under both names, the others only as the observation's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sync_worker.json_text import dump
from sync_worker.records import Observation
from sync_worker.spans.langfuse_sdk.sdks import Sdk, sdk_of
from sync_worker.spans.restore import take_apart

#: The SDKs refuse to hand down longer values; quotes and escapes of the JSON text come on top.
_MAX_CHARS = 2 * 200 + 2
_MAX_KEYS = 64
_MAX_TEXTS = 16

#: Keys that LangChain, LangGraph and the handlers put on their runs.
_LANGCHAIN = frozenset({"is_langchain_root", "ls_model_type", "ls_provider", "langgraph_step", "langgraph_node"})
#: Of LangChain's own making on each run, so never handed down.
_PER_RUN = frozenset({"tags", "is_langchain_root"})
_CHAINS = frozenset({"CHAIN", "AGENT"})


@dataclass(slots=True)
class HandedDown:
    """By key, the values (as JSON text) that were handed down; `both` names the keys that stand under both names.

    `fields` says whether a session, user or tags were: then a span that has them need not have told them itself.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    both: list[str] = field(default_factory=list)
    fields: bool = False

    def holds(self, key: str, value: object) -> bool:
        """Whether this value of this key was handed down."""
        return key in self.values and dump(value) in self.values[key]


def handed_down(rows: Iterable[Observation], known: HandedDown) -> HandedDown:
    """Return what the rows of a trace show to be handed down, added to what was known."""
    found = HandedDown({key: list(texts) for key, texts in known.values.items()}, list(known.both), known.fields)
    told: dict[str, Observation] = {}
    own: dict[str, dict[str, str]] = {}
    members: list[tuple[Observation, Sdk]] = []
    is_langchain = False
    for row in rows:
        if "scope.name" in row.metadata or "scope" in row.metadata:
            originals = take_apart(row.metadata)
            sdk = sdk_of(originals)
            if sdk is not None and not sdk.is_legacy:
                members.append((row, sdk))
                own[row.id] = _texts(originals.user)
                told[row.id] = row
                is_langchain = is_langchain or not _LANGCHAIN.isdisjoint(originals.user)
    chains = _chains(members, own) if is_langchain else set()
    for row, sdk in members:
        above = own.get(row.parent_id or "", {})
        found.fields = found.fields or _share_fields(row, told.get(row.parent_id or ""))
        shared = {key: text for key, text in own[row.id].items() if above.get(key) == text}
        if row.parent_id in chains or (is_langchain and (sdk.language != "python" or sdk.major < 4)):
            continue  # LangChain's own inheritance
        if row.id in chains:
            given = {key: text for key, text in own[row.id].items() if key not in _PER_RUN and key not in shared}
            found.both += [key for key in given if key not in found.both][: _MAX_KEYS - len(found.both)]
            _add(found, given)
        _add(found, shared)
    return found


def _share_fields(row: Observation, parent: Observation | None) -> bool:
    if parent is None or parent is row:
        return False
    pairs = ((row.session_id, parent.session_id), (row.user_id, parent.user_id), (row.tags, parent.tags))
    return any(one and one == other for one, other in pairs)


def _chains(members: Sequence[tuple[Observation, Sdk]], own: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Return the rows at or below LangChain's outermost chains."""
    below: dict[str, list[str]] = {}
    for row, _ in members:
        below.setdefault(row.parent_id or "", []).append(row.id)
    found: set[str] = set()
    pending = [row.id for row, sdk in members if _is_outermost(row, own[row.id], sdk)]
    while pending:
        row_id = pending.pop()
        if row_id not in found:
            found.add(row_id)
            pending += below.get(row_id, ())
    return found


def _is_outermost(row: Observation, own: Mapping[str, str], sdk: Sdk) -> bool:
    """Whether a row is LangChain's outermost chain; before 4.5 the handler did not mark it."""
    is_marked = own.get("is_langchain_root") == "true" or (sdk.version < (4, 5) and row.is_trace_root)
    return is_marked and row.type in _CHAINS


def _texts(metadata: Mapping[str, object]) -> dict[str, str]:
    short = ((key, value) for key, value in metadata.items() if not isinstance(value, str) or len(value) <= _MAX_CHARS)
    texts = ((key, dump(value)) for key, value in short)
    return {key: text for key, text in texts if len(text) <= _MAX_CHARS}


def _add(found: HandedDown, given: Mapping[str, str]) -> None:
    for key, text in given.items():
        if key in found.values or len(found.values) < _MAX_KEYS:
            texts = found.values.setdefault(key, [])
            if text not in texts and len(texts) < _MAX_TEXTS:
                texts.append(text)
