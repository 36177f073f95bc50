"""What an operator chose: which detectors, which patterns of their own, and what is left out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

#: The ready detectors, by name.
DETECTORS: Final = (
    "email", "phone", "card", "iban", "ip", "ssn", "jwt", "private_key", "api_key", "url_credentials",
)  # fmt: skip
#: The content of an observation that can be left out.
CONTENT: Final = ("input", "output")
#: Counted up when the same rules begin to find something else: stored contexts are then read again.
VERSION: Final = 1

UserIds = Literal["keep", "pseudonym", "drop"]
Replacement = Literal["label", "pseudonym"]


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """What of an observation is not sent at all. Globs are those of `fnmatch`, compared with case."""

    content: tuple[str, ...] = ()  # of "input" and "output"
    only_metadata: tuple[str, ...] = ()  # globs; empty: all
    no_metadata: tuple[str, ...] = ()
    user_ids: UserIds = "keep"

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left out."""
        return self == LeaveOut()


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """What is replaced, and by what. `patterns` are pairs of a name and an expression of RE2."""

    detectors: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()
    replacement: Replacement = "label"
    leave_out: LeaveOut = field(default_factory=LeaveOut)

    @property
    def finds_something(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self.detectors or self.patterns)

    @property
    def need_key(self) -> bool:
        """Whether pseudonyms may be made: of session and user ids they always are."""
        return self.finds_something or self.leave_out.user_ids == "pseudonym"

    def digest(self, key: bytes) -> str:
        """Return 16 hexadecimal digits that differ when these rules, or the key, give another result."""
        proof = hashlib.blake2b(b"rules", key=key[:64], digest_size=16).hexdigest() if self.need_key else ""
        described = json.dumps([VERSION, asdict(self), proof], sort_keys=True)
        return hashlib.blake2b(described.encode(), digest_size=8).hexdigest()
