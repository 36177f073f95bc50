"""Which scores are wanted, which override is theirs, and slugs of their names."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from sync_worker.configured import ScoreOverride

#: Words of a name by which people, and not programs, give such scores.
_FEEDBACK = re.compile(
    r"\w*(feedback|thumbs?|csat)\w*|(up|down)?(vote|voted|votes)|ratings?|nps|(dis)?likes?|(un)?helpful"
)
#: Where words of a name part: at what is no letter or digit, and before a capital letter behind a small one.
_PARTS = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")
_NO_SLUG = re.compile(r"[\W_]+")


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
