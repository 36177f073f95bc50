"""What is wrong with a value, and how it is said: one line a problem, and never a secret in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from sync_worker.errors import ConfigError
from sync_worker.printable import escaped

MASK = "***"
LONGEST_SHOWN = 80  # characters of a wrong value that a message repeats
SHORTEST_SECRET = 6  # characters; shorter ones would blank out ordinary words

# Keys of both sides by their prefixes: such a text is a key wherever it stands, also where a project was expected.
_KEY_SHAPE = re.compile(r"(?<![a-z0-9])[sp]k[-_](?:lf|kelet)[-_]|kelet_[sp]k_", re.IGNORECASE)
# Everything up to the last @ of an address may be a user and a password, even when the rest is no address at all.
_USER_PART = re.compile(r"^([a-z][a-z0-9+.-]*://)?.*@", re.IGNORECASE | re.DOTALL)


class WrongValueError(ValueError):
    """A value that cannot be used.

    `problem` says what is wrong, `expected` what belongs there, `hint` what to try. None of them holds the value:
    whoever reports the problem knows whether the value may be shown. `show=False` forbids it in any case.
    """

    def __init__(self, problem: str, *, expected: str = "", hint: str = "", show: bool = True) -> None:
        super().__init__(problem)
        self.problem = problem
        self.expected = expected
        self.hint = hint
        self.show = show


@dataclass(frozen=True, slots=True)
class Found:
    """A value as it was written, before it is understood, and the place where it stood."""

    text: str = field(repr=False)
    origin: str
    secret: bool = False  # never show it
    bare: bool = False  # nobody took comments away on the way here
    file: Path | None = None  # which holds the value and nothing else


def mask(secret: str) -> str:
    """Show enough of `secret` to recognise it: six characters, an ellipsis, four; or nothing of a short one."""
    return f"{secret[:6]}…{secret[-4:]}" if len(secret) > 16 else MASK


def looks_like_key(text: str) -> bool:
    """Whether there is something in `text` that has the prefix of a key."""
    return _KEY_SHAPE.search(text) is not None


class Report:
    """Collects all problems and warnings, so that one run tells the operator everything there is to correct."""

    def __init__(self) -> None:
        self._problems: list[tuple[str, WrongValueError, Found | None]] = []
        self._warnings: list[str] = []
        self._secrets: set[str] = set()

    def refuse(self, name: str, wrong: WrongValueError, found: Found | None = None) -> None:
        """Note that the setting `name` cannot be used as it stands; `found` is the value and its place, if any."""
        self._problems.append((name, wrong, found))

    def warn(self, line: str) -> None:
        """Note one line that the operator should see, though the worker can run."""
        self._warnings.append(escaped(line))

    def keep_secret(self, text: str) -> None:
        """Never show `text`, not even where it was put into a setting that is shown."""
        if len(text.strip()) >= SHORTEST_SECRET:
            self._secrets.add(text.strip())

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings so far, each once, in the order in which they were found."""
        return tuple(dict.fromkeys(self._warnings))

    def raise_if_refused(self) -> None:
        """Raise ConfigError with one line for each different problem, if there is any."""
        lines = dict.fromkeys(self._line(name, wrong, found) for name, wrong, found in self._problems)
        if lines:
            raise ConfigError(*lines)

    def show(self, text: str) -> str:
        """`text` as it may appear on a screen: masked if a key is in it."""
        return MASK if looks_like_key(text) or any(secret in text for secret in self._secrets) else text

    def _line(self, name: str, wrong: WrongValueError, found: Found | None) -> str:
        line = f"{name}: {wrong.problem}"
        if found is not None and found.secret:
            line += f"; the value from {found.origin} is not shown"
        elif found is not None and wrong.show:
            line += f"; got {self._quoted(found.text)} from {found.origin}"
        elif found is not None:
            line += f" (from {found.origin})"
        if wrong.expected:
            line += f"; expected {wrong.expected}"
        line += "."
        return escaped(f"{line} Try: {wrong.hint}." if wrong.hint else line)

    def _quoted(self, text: str) -> str:
        shown = _USER_PART.sub(r"\1…@", self.show(text)) if "@" in text else self.show(text)
        # repr() shows where the value ends, which white space at its end would hide.
        return repr(shown if len(shown) <= LONGEST_SHOWN else shown[: LONGEST_SHOWN - 1] + "…")
