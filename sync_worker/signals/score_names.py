"""Which scores are wanted, which override is theirs, and slugs of their names."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sync_worker.configured import ScoreOverride

#: Words of a name by which people, and not programs, give such scores.
_FEEDBACK = re.compile(
    r"\w*(feedback|thumbs?|csat)\w*|(up|down)?(vote|voted|votes)|ratings?|nps|(dis)?likes?|(un)?helpful"
)
#: Where words of a name part: at what is no letter or digit, and before a capital letter behind a small one.
_PARTS = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")
_NO_SLUG = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which scores are sent, by their names: those that `wanted` takes and whose first override does not skip them.

    `overrides` are name or glob of each, and whether it skips.
    """

    wanted: tuple[str, ...]
    overrides: tuple[tuple[str, bool], ...] = ()

    def takes(self, name: str) -> bool:
        """Whether scores of this name are sent."""
        skips = next((skip for match, skip in self.overrides if fnmatchcase(name, match)), False)
        return is_wanted(name, self.wanted) and not skips

    def as_text(self) -> str:
        """Return it as it is stored; equal texts choose the same scores."""
        skipping = [number for number, (_, skip) in enumerate(self.overrides) if skip]
        effective = self.overrides[: skipping[-1] + 1] if skipping else ()  # what stands behind changes nothing
        return json.dumps([self.wanted, effective], separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Selection:
        """Read back what `as_text` gave."""
        wanted, overrides = json.loads(text)
        return cls(tuple(wanted), tuple((match, skip) for match, skip in overrides))


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether scores of this name are sent: by names and globs, of which those with `!` leave out.

    A list of such alone leaves out what it names and takes the rest; an empty one takes nothing.
    """
    out = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    into = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    return bool(patterns) and not _fits(name, out) and _fits(name, into)


def override_for(name: str, overrides: Iterable[ScoreOverride]) -> ScoreOverride | None:
    """Return the first override whose name or glob the name fits."""
    return next((one for one in overrides if fnmatchcase(name, one.match)), None)


def words(name: str) -> list[str]:
    """Return the words of a name in lower case: `userFeedback` and `user-feedback` have the same two."""
    return [word.lower() for word in _PARTS.split(name) if word]


def is_feedback(name: str) -> bool:
    """Whether a name says that a user gave the score."""
    return any(_FEEDBACK.fullmatch(word) for word in words(name))


def slug(name: str) -> str:
    """Return a name in lower case with hyphens, the same for ever; of one without letters and digits, a short hash."""
    text = _NO_SLUG.sub("-", unicodedata.normalize("NFKC", name).casefold()).strip("-")
    return text or hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=4).hexdigest()


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
