"""What the rest of the worker sees of redaction: cheap to import and to use where there are no rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

from sync_worker.records import Observation

#: Receives what was found where: the field, and its text or JSON value before and after.
Watch = Callable[[str, Any, Any], None]


class RedactionFailed(Exception):
    """What could not be checked, without its content."""


class Protection(Protocol):
    """What of a source may leave, and how."""

    #: How much was replaced so far, by detector.
    replaced: Counter[str]

    @property
    def digest(self) -> str:
        """The digest of the rules, an empty text where there are none."""

    def observation(self, observation: Observation) -> Observation:
        """Return what may leave of an observation. Raises RedactionFailed."""

    def text(self, text: str) -> str:
        """Return a text, redacted. Raises RedactionFailed."""

    def value(self, value: Any, key: str = "") -> Any:
        """Return a JSON value, redacted. Raises RedactionFailed."""

    def metadata(self, metadata: Any) -> Any:
        """Return metadata of a score without keys that are left out, and without user ids; None where nothing stays.

        It is not redacted yet.
        """

    def identifier(self, text: str) -> str:
        """Return an id with pseudonyms for what was found in it. Raises RedactionFailed."""

    def user(self, text: str) -> str | None:
        """Return a user id as it may leave, None where user ids are left out. Raises RedactionFailed."""

    def may_show(self, text: str, user: str | None) -> bool:
        """Whether a text may leave as it is, for example in the name of a project; `user` is the trace's user id."""

    def report(self, text: str) -> str:
        """Return a text for a log, a report or a dead letter, redacted; nothing of one that cannot be checked."""

    def raw(self, text: str) -> str | None:
        """Return the raw text of an observation for a dead letter, redacted; None where it may not be kept."""


class _Nothing:
    """No rules: everything leaves as it is."""

    digest = ""

    def __init__(self) -> None:
        self.replaced: Counter[str] = Counter()

    def observation(self, observation: Observation) -> Observation:
        return observation

    def text(self, text: str) -> str:
        return text

    def value(self, value: Any, key: str = "") -> Any:
        del key
        return value

    def metadata(self, metadata: Any) -> Any:
        return metadata

    def identifier(self, text: str) -> str:
        return text

    def user(self, text: str) -> str | None:
        return text

    def may_show(self, text: str, user: str | None) -> bool:
        del text, user
        return True

    def report(self, text: str) -> str:
        return text

    def raw(self, text: str) -> str | None:
        return text


NOTHING: Final[Protection] = _Nothing()
