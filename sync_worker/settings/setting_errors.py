"""Setting errors: what is wrong with a value, in one line for each problem and never with a secret in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sync_worker.errors import ConfigError
from sync_worker.printable import escape
from sync_worker.wording import nearest

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
class RawValue:
    """A value as it was written, before it is parsed, and where it stood."""

    text: str = field(repr=False)
    origin: str  # as `config show` names it; empty where there is no value
    toml_table: str = ""  # the table of `sync.toml` that it stands in: sync.toml [[sources]] #2
    secret: bool = False  # never show it
    bare: bool = False  # nobody took comments away on the way here
    file: Path | None = None  # which holds the value and nothing else
    error: WrongValueError | None = None  # why it cannot even be parsed

    def label(self, name: str) -> str:
        """Return how a message calls the setting `name` that has this value."""
        return f"{self.toml_table} {name}" if self.toml_table else name.upper()


def mask(secret: str) -> str:
    """Show enough of `secret` to recognise it: six characters, an ellipsis, four; or nothing of a short one."""
    return f"{secret[:6]}…{secret[-4:]}" if len(secret) > 16 else MASK


def looks_like_key(text: str) -> bool:
    """Whether there is something in `text` that has the prefix of a key."""
    return _KEY_SHAPE.search(text) is not None


def in_our_words(error: ValidationError, fields: Mapping[str, FieldInfo]) -> dict[str, WrongValueError]:
    """Return what is wrong, by setting and in our words instead of the library's."""
    return {
        str(detail["loc"][0]): _setting_error(detail["type"], detail["input"], cause, fields[str(detail["loc"][0])])
        for detail in error.errors(include_url=False)
        for cause in [detail.get("ctx", {}).get("error")]
    }


def _setting_error(kind: str, value: Any, cause: Any, info: FieldInfo) -> WrongValueError:
    least, most = (
        next((getattr(one, end) for one in info.metadata if hasattr(one, end)), None) for end in ("ge", "le")
    )
    number = f"a whole number, at least {least}" if most is None else f"a whole number from {least} to {most}"
    match kind:
        case _ if isinstance(cause, WrongValueError):
            return cause
        case "literal_error":
            words = get_args(info.annotation)
            return WrongValueError("not one of the choices", expected=" or ".join(words), hint=nearest(value, words))
        case "int_parsing":
            return WrongValueError("not a whole number", expected=number)
        case "greater_than_equal":
            return WrongValueError("too small", expected=number)
        case "less_than_equal":
            return WrongValueError("too large", expected=number)
    return WrongValueError("cannot be used")


class Problems:
    """Collects all setting errors and warnings, so that one run reports everything there is to correct."""

    def __init__(self) -> None:
        self._errors: list[tuple[str, WrongValueError, RawValue | None]] = []
        self._warnings: list[str] = []
        self._secrets: set[str] = set()

    def refuse(self, label: str, wrong: WrongValueError, raw: RawValue | None = None) -> None:
        """Note that what messages call `label` cannot be used as it stands; `raw` is the value, if there is any."""
        self._errors.append((label, wrong, raw))

    def warn(self, line: str) -> None:
        """Note one line that the operator should see, though the worker can run."""
        self._warnings.append(escape(line))

    def keep_secret(self, text: str) -> None:
        """Never show `text`, not even where it was put into a setting that is shown."""
        if len(text.strip()) >= SHORTEST_SECRET:
            self._secrets.add(text.strip())

    @property
    def are_found(self) -> bool:
        """Whether anything was refused so far."""
        return bool(self._errors)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings so far, each once, in the order in which they were found."""
        return tuple(dict.fromkeys(self._warnings))

    def raise_if_refused(self) -> None:
        """Raise ConfigError with one line for each different problem, if there is any."""
        lines = dict.fromkeys(self._line(label, wrong, raw) for label, wrong, raw in self._errors)
        if lines:
            raise ConfigError(*lines)

    def show(self, text: str) -> str:
        """Return `text` as it may appear on a screen: masked if a key is in it."""
        return MASK if looks_like_key(text) or any(secret in text for secret in self._secrets) else text

    def _line(self, label: str, wrong: WrongValueError, raw: RawValue | None) -> str:
        line = f"{label}: {wrong.problem}"
        if raw is not None and raw.secret:
            line += f"; the value from {raw.origin} is not shown"
        elif raw is not None and wrong.show:
            line += f"; got {self._quoted(raw.text)} from {raw.origin}"
        elif raw is not None:
            line += f" (from {raw.origin})"
        if wrong.expected:
            line += f"; expected {wrong.expected}"
        # A hint may repeat the value, and that be a key in the wrong place.
        has_hint = bool(wrong.hint) and self.show(wrong.hint) == wrong.hint
        return escape(f"{line}. Try: {wrong.hint}." if has_hint else f"{line}.")

    def _quoted(self, text: str) -> str:
        shown = _USER_PART.sub(r"\1…@", self.show(text)) if "@" in text else self.show(text)
        # repr() shows where the value ends, which white space at its end would hide.
        return repr(shown if len(shown) <= LONGEST_SHOWN else shown[: LONGEST_SHOWN - 1] + "…")
