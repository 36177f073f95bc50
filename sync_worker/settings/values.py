"""Text to value: keys, projects, numbers, choices, paths. Every function here is pure and raises WrongValueError."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from sync_worker.printable import is_printable
from sync_worker.settings.wrong import Found, WrongValueError

LANGFUSE_KEYS_ARE_AT: Final = "in Langfuse under Project settings → API keys"
KELET_KEYS_ARE_AT: Final = "at console.kelet.ai → API keys"

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


#: Pairs of quotes that a shell, an editor or a word processor puts around a value.
_QUOTES: Final = ('""', "''", "``", "“”", "„“", "‘’", "«»")


def refuse_leftovers(found: Found, *, path: bool = False) -> None:
    """Refuse what a file of variables leaves around a value where nobody reads the file as a shell would.

    `docker run --env-file` and systemd hand on quotes (also around nothing) and, in the environment, what was meant as
    a comment. No setting begins and ends with quotes. ` #` may be part of a path, ` # ` hardly. Raises WrongValueError.
    """
    text = found.text.strip()
    if any(len(text) > 1 and text[0] == pair[0] and text[-1] == pair[1] for pair in _QUOTES):
        raise WrongValueError(
            "stands in quotes that belong to the value", expected="the value alone", hint="remove the quotes"
        )
    if found.bare and re.search(r"\s#\s" if path else r"\s#", text):
        raise WrongValueError(
            "holds a comment that belongs to the value",
            expected="the value alone",
            hint="put the comment on a line of its own",
        )


def parse_langfuse_public_key(value: str | SecretStr) -> SecretStr:
    """Return the public key of a Langfuse project; raises WrongValueError."""
    key = _key(value, "the public key of a Langfuse project (pk-lf-…)")
    if key.startswith("sk-lf-"):
        raise WrongValueError(
            "this is a Langfuse secret key",
            expected="the public key (pk-lf-…)",
            hint="swap LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY",
        )
    _refuse_kelet_key(key)
    if ":" in key:
        # HTTP Basic ends the user name at the first colon.
        raise WrongValueError("holds a colon", expected="the public key alone (pk-lf-…)")
    return SecretStr(key)


def parse_langfuse_secret_key(value: str | SecretStr) -> SecretStr:
    """Return the secret key of a Langfuse project; raises WrongValueError."""
    key = _key(value, "the secret key of a Langfuse project (sk-lf-…)")
    if key.startswith("pk-lf-"):
        raise WrongValueError(
            "this is a Langfuse public key",
            expected="the secret key (sk-lf-…)",
            hint="swap LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY",
        )
    _refuse_kelet_key(key)
    return SecretStr(key)


def parse_kelet_key(value: str | SecretStr) -> SecretStr:
    """Return the secret key of a Kelet organisation; raises WrongValueError.

    The prefix is not checked, since Kelet has used several.
    """
    key = _key(value, "the secret key of your Kelet organisation")
    if key.startswith(("sk-lf-", "pk-lf-")):
        raise WrongValueError(
            "this is a Langfuse key, which must not be sent to Kelet",
            expected="the secret key of your Kelet organisation",
            hint=f"find it {KELET_KEYS_ARE_AT}",
        )
    return SecretStr(key)


def is_publishable_kelet_key(key: str) -> bool:
    """Whether `key` looks like one that may be published, which Kelet takes for signals but not for traces."""
    return key.lower().startswith(("pk", "kelet_pk"))


def parse_project(text: str) -> str:
    """Return the name of a Kelet project; raises WrongValueError.

    Whether `default` is allowed is decided where that is known.
    """
    project = text.strip()
    if not project:
        raise WrongValueError(
            "empty; a wrong project is silent loss on Kelet's side",
            expected="the name of a Kelet project",
            hint="take it from the console's address bar",
        )
    if not re.fullmatch(r"[\x20-\x7e]+", project):
        raise WrongValueError(
            "holds characters that an HTTP header cannot carry", expected="printable ASCII characters in one line"
        )
    return project


def is_default_project(project: str) -> bool:
    """Whether `project` is the one into which Kelet puts what names no project."""
    return project.strip().lower() == "default"


def parse_switch(text: str) -> bool:
    """Return `true` or `false`, and the usual other words for them; raises WrongValueError."""
    value = _SWITCH.get(text.strip().lower())
    if value is None:
        raise WrongValueError("neither true nor false", expected="true or false")
    return value


def parse_scores(text: str) -> bool:
    """Return the switch for scores, which only `false` can be until scores are sent; raises WrongValueError."""
    if parse_switch(text):
        raise WrongValueError("scores are not sent by this version", expected="false", hint="remove the setting")
    return False


def parse_path(text: str) -> Path:
    """Return a path, `~` resolved, not yet made absolute; raises WrongValueError."""
    text = text.strip()
    if not text or "\0" in text:
        raise WrongValueError("empty" if not text else "not a path", expected="a path")
    # Bytes that are no UTF-8 are half surrogates here; a file system may hold such names.
    if not is_printable(re.sub("[\udc80-\udcff]", "", text)):
        raise WrongValueError("holds characters that cannot be seen", expected="a path", hint="type it again by hand")
    unknown = WrongValueError("the home folder is not known", expected="a path without ~")
    if re.match("~(/|$)", text) and not os.environ.get("HOME", "/").startswith("/"):
        raise unknown  # HOME= would make ~ the root of the file system
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise unknown from None


def parse_hosts(text: str) -> tuple[str, ...]:
    """Return hosts, in lower case and each with its port if one is given; raises WrongValueError."""
    hosts = [part.strip().lower() for part in text.split(",") if part.strip()]
    for host in hosts:
        found = _HOST.fullmatch(host)
        if found is None or (found["port"] and not 0 < int(found["port"]) < 65_536):
            raise WrongValueError(
                f"{host} is no host", expected="hosts such as minio.internal or 10.0.0.5:9000, with commas between them"
            )
    return tuple(hosts)


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Make a parser for a whole number from `least` to `most`, both included; it raises WrongValueError."""
    expected = f"a whole number, at least {least}" if most is None else f"a whole number from {least} to {most}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
            raise WrongValueError("not a whole number", expected=expected)
        number = int(text)
        if number < least:
            raise WrongValueError("too small", expected=expected)
        if most is not None and number > most:
            raise WrongValueError("too large", expected=expected)
        return number

    return parse


def parse_share(text: str) -> Fraction:
    """Return a share written as a whole percentage, from 1% to 100%; raises WrongValueError."""
    text, expected = text.strip(), "a whole percentage from 1% to 100%"
    found = re.fullmatch(r"([0-9]{1,18}) ?%", text)
    if found is None:
        raise WrongValueError("not a share", expected=expected, hint=_percent_of(text))
    percent = int(found[1])
    if not 1 <= percent <= 100:
        raise WrongValueError("too small" if percent < 1 else "too large", expected=expected)
    return Fraction(percent, 100)


def _percent_of(text: str) -> str:
    """Return how a number that was probably meant as a share is written, or an empty text."""
    if re.fullmatch(r"[1-9][0-9]?|100", text):
        return f"write {text}%"
    if re.fullmatch(r"0?\.[0-9]{1,2}", text) and float(text) > 0:
        return f"write {round(float(text) * 100)}%"
    return ""


def choice(*words: str) -> Callable[[str], str]:
    """Make a parser for one of `words`, in any case; it raises WrongValueError with the nearest word."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            near = difflib.get_close_matches(word, words, 1)
            raise WrongValueError("not one of the choices", expected=" or ".join(words), hint=near[0] if near else "")
        return word

    return parse


def _refuse_kelet_key(key: str) -> None:
    if re.match(r"[sp]k[-_]kelet[-_]|kelet_[sp]k_", key):
        raise WrongValueError(
            "this is a Kelet key, which must not be sent to Langfuse",
            expected="a key of a Langfuse project",
            hint=f"find it {LANGFUSE_KEYS_ARE_AT}",
        )


def _key(value: str | SecretStr, expected: str) -> str:
    key = (value if isinstance(value, str) else value.get_secret_value()).strip()
    if not key:
        raise WrongValueError("empty", expected=expected)
    # A key that is no plain ASCII breaks in the HTTP client, whose error would then repeat it.
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise WrongValueError(
            "holds spaces, control characters or characters outside ASCII",
            expected=expected,
            hint="copy the key again, alone and in one line",
        )
    return key
