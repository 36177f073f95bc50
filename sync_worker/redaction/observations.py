"""All fields of an observation, redacted; and what is left out of it.

Ids of observations, traces and projects stay: Langfuse is asked by them, and OTLP's ids are hashes of them. What shows
them in an attribute asks for `identifier`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import orjson

from sync_worker.records import Observation
from sync_worker.redaction.leaving_out import without
from sync_worker.redaction.protection import NOTHING, Protection, RedactionFailed, Watch
from sync_worker.redaction.pseudonyms import pseudonym
from sync_worker.redaction.redaction_rules import LeaveOut, RedactionRules
from sync_worker.redaction.redactor import MAX_TEXT, Redactor

_TEXTS: Final = (
    "name", "status_message", "input", "output", "trace_input", "trace_output", "trace_name", "environment", "release",
    "version", "model", "prompt_name", "type", "level",
)  # fmt: skip
_IDS: Final = ("session_id", "user_id")
_VALUES: Final = ("metadata", "model_parameters")
_COUNTS: Final = ("usage", "cost", "prices")  # numbers by keys of anybody's
#: A version of four numbers is no address.
_VERSIONS: Final = frozenset({"release", "version"})
_PUBLIC_KEY: Final = "scope.attributes.public_key"  # on every span of Langfuse's SDKs
_USER_KEYS: Final = frozenset({"user", "userid", "enduser"})

_MOST_KEYS: Final = 1_000

#: Returns the session, or the user, that an observation names in its fields or metadata.
Named = Callable[[Observation], str | None]


def protection_for(
    rules: RedactionRules, key: bytes, session_of: Named, user_of: Named, watch: Watch | None = None
) -> Protection:
    """Return the protection by these rules. Raises NoRe2Error or PatternError."""
    if not rules.finds_something and rules.leave_out.is_empty:
        return NOTHING
    return _Rules(rules, key, session_of, user_of, watch)


class _Rules:
    def __init__(
        self, rules: RedactionRules, key: bytes, session_of: Named, user_of: Named, watch: Watch | None
    ) -> None:
        self.digest = rules.digest(key)
        self._leave_out: LeaveOut | None = None if rules.leave_out.is_empty else rules.leave_out
        self.replaced: Counter[str] = Counter()
        self._redactor = Redactor(rules, key, self.replaced) if rules.finds_something else None
        without_ip = replace(rules, detectors=tuple(name for name in rules.detectors if name != "ip"))
        self._of_versions = Redactor(without_ip, key, self.replaced) if without_ip.finds_something else None
        self._key = key
        self._session_of = session_of
        self._user_of = user_of
        self._watch = watch
        self._public_keys: dict[str, tuple[str, Counter[str]]] = {}

    def text(self, text: str) -> str:
        return text if self._redactor is None else self._redactor.text(text)

    def value(self, value: Any, key: str = "") -> Any:
        return value if self._redactor is None else self._redactor.value(value, key)

    def metadata(self, metadata: Any) -> Any:
        leave_out = self._leave_out
        if leave_out is None:
            return metadata
        if isinstance(metadata, list):
            items = [self.metadata(item) for item in metadata]
            return [item for item in items if item is not None] or None
        if not isinstance(metadata, dict):
            return None if leave_out.only_metadata else metadata
        kept = without(metadata, leave_out)
        return (kept if leave_out.user_ids == "keep" else _without_user(kept, set(), self.user)) or None

    def identifier(self, text: str) -> str:
        return text if self._redactor is None else self._redactor.identifier(text)

    def user(self, text: str) -> str | None:
        if self._leave_out is None or self._leave_out.user_ids == "keep":
            return self.identifier(text)
        return self._user_pseudonym(text) if self._leave_out.user_ids == "pseudonym" else None

    def _user_pseudonym(self, user: str) -> str:
        return f"[redacted:user:{pseudonym(self._key, 'user', user.encode('utf-8', 'surrogatepass'))}]"

    def may_show(self, text: str, user: str | None) -> bool:
        try:
            return self.text(text) == self.identifier(text) == text and (text != user or self.user(text) == text)
        except Exception:  # noqa: BLE001 - whatever it is, what could not be checked is not shown
            return False

    def report(self, text: str) -> str:
        try:
            return self.text(text)
        except RedactionFailed as error:
            return f"(a text that cannot be shown: {error})"
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing of the text is shown
            return f"(a text that cannot be shown: {type(error).__name__})"

    def raw(self, text: str) -> str | None:
        if self._leave_out is not None:
            return None  # it holds what is to be left out
        try:
            return self.text(text)
        except Exception:  # noqa: BLE001 - whatever it is, nothing of the text is kept
            return None

    def observation(self, observation: Observation) -> Observation:
        if self._leave_out is not None:
            observation = self._left_in(observation, self._leave_out)
        redactor = self._redactor
        if redactor is None:
            return observation
        if observation.had_surrogates:
            raise RedactionFailed("it holds half a surrogate pair")
        observation = self._without_public_key(observation, redactor)
        if not self._may_match(observation, redactor):
            return observation
        return self._redacted(observation, redactor)

    def _may_match(self, observation: Observation, redactor: Redactor) -> bool:
        """Whether anything in an observation may match: one walk over all of it."""
        texts = [text for name in (*_TEXTS, *_IDS) if (text := getattr(observation, name))]
        try:
            data = b"\0".join(
                [
                    "\0".join([*texts, *observation.tags]).encode(),
                    *(orjson.dumps(value) for name in (*_VALUES, *_COUNTS) if (value := getattr(observation, name))),
                ]
            )
        except (TypeError, UnicodeEncodeError):  # integers of more than 64 bits; half a surrogate pair, found below
            return True
        return len(data) > MAX_TEXT or redactor.may_match(data)

    def _redacted(self, observation: Observation, redactor: Redactor) -> Observation:
        changes: dict[str, Any] = {}
        for name in _TEXTS:
            text = getattr(observation, name)
            if text:
                by = self._of_versions if name in _VERSIONS else redactor
                changes[name] = text if by is None else by.text(text)
        for name in _IDS:
            text = getattr(observation, name)
            if text:
                changes[name] = redactor.identifier(text)
        if observation.tags:
            changes["tags"] = tuple(redactor.text(tag) for tag in observation.tags)
        for name in _VALUES:
            value = getattr(observation, name)
            if value:
                changes[name] = redactor.value(value)
        for name in _COUNTS:
            counts = getattr(observation, name)
            if counts:
                changes[name] = {redactor.text(key): count for key, count in counts.items()}
        changes = {name: new for name, new in changes.items() if new != getattr(observation, name)}
        if not changes:
            return observation
        if self._watch is not None:
            for name, new in changes.items():
                self._watch(name, getattr(observation, name), new)
        return replace(observation, **changes)

    def _without_public_key(self, observation: Observation, redactor: Redactor) -> Observation:
        """Redact what stands on every span of Langfuse's SDKs, so that they pass the gate without being decoded."""
        metadata = observation.metadata
        key, scope = metadata.get(_PUBLIC_KEY), metadata.get("scope")
        if isinstance(key, str):
            new = self._public_key(key, redactor)
            return observation if new == key else replace(observation, metadata={**metadata, _PUBLIC_KEY: new})
        attributes = scope.get("attributes") if isinstance(scope, dict) else None
        key = attributes.get("public_key") if isinstance(attributes, dict) else None
        if not isinstance(scope, dict) or not isinstance(attributes, dict) or not isinstance(key, str):
            return observation
        new = self._public_key(key, redactor)
        if new == key:
            return observation
        scope = {**scope, "attributes": {**attributes, "public_key": new}}
        return replace(observation, metadata={**metadata, "scope": scope})

    def _public_key(self, key: str, redactor: Redactor) -> str:
        """Return a key, redacted; remembered, since all spans of a project have the same."""
        known = self._public_keys.get(key)
        if known is None:
            before = self.replaced.copy()
            new = redactor.text(key)
            if len(self._public_keys) < _MOST_KEYS:
                self._public_keys[key] = new, self.replaced - before
        else:
            new = known[0]
            self.replaced.update(known[1])
        if new != key and self._watch is not None:
            self._watch("metadata", {_PUBLIC_KEY: key}, {_PUBLIC_KEY: new})
        return new

    def _left_in(self, observation: Observation, leave_out: LeaveOut) -> Observation:
        """Return an observation without what is left out. Session and user are read from its metadata before."""
        session, user = self._session_of(observation), self._user_of(observation)
        metadata = without(observation.metadata, leave_out)
        changes: dict[str, Any] = {"metadata": metadata, "session_id": session, "user_id": user}
        if leave_out.user_ids != "keep":
            new = None
            if leave_out.user_ids == "pseudonym" and user:
                new = self._user_pseudonym(user)
            changes["user_id"] = new
            changes["metadata"] = _without_user(metadata, {user, observation.user_id} - {None, ""}, lambda _: new)
        for part in leave_out.content:
            changes |= {part: None, f"trace_{part}": None}
        return replace(observation, **changes)


def _without_user(value: dict[str, Any], users: set[str | None], shown: Callable[[str], str | None]) -> dict[str, Any]:
    """Return metadata in which no key names a user, and no value is one; what is `shown` of each is there instead."""
    made: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, str | int) and not isinstance(item, bool):
            if str(item) not in users and not _names_user(key):
                made[key] = item
            elif (new := shown(str(item))) is not None:
                made[key] = new
        elif isinstance(item, dict):
            made[key] = _without_user(item, users, shown)
        elif isinstance(item, list):
            made[key] = list(_without_user(dict(_numbered(item)), users, shown).values())
        else:
            made[key] = item
    return made


def _numbered(items: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the items of a list, each under its number."""
    return ((str(number), item) for number, item in enumerate(items))


def _names_user(key: str) -> bool:
    letters = "".join(filter(str.isalnum, key)).lower()
    return letters.endswith("userid") or key.rpartition(".")[2].lower() in _USER_KEYS
