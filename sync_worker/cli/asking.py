"""Asks somebody at a terminal; keys are not shown while they are typed."""

from __future__ import annotations

import sys

from sync_worker.cli.terminal import is_terminal
from sync_worker.errors import ConfigError
from sync_worker.printable import escape


def can_ask() -> bool:
    """Whether somebody is at a terminal, to be asked and to answer."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def ask(question: str, *, hidden: bool = False) -> str:
    """Return the answer, without white space around it. Raises ConfigError at the end of the input (Ctrl-D).

    One that is not UTF-8 text is asked for again.
    """
    text = f"{escape(question)}: "
    if hidden:
        from getpass import getpass  # noqa: PLC0415 - only for keys

        while True:
            try:
                return getpass(text).strip()
            except EOFError:
                raise _ended() from None
            except UnicodeDecodeError:
                sys.stderr.write("  not UTF-8 text\n")
    sys.stderr.write(text)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise _ended()
    return line.strip()


def confirm(question: str) -> bool:
    """Return whether the answer is yes; anything but y and yes is no."""
    return ask(f"{question} [y/N]").lower() in {"y", "yes"}


def _ended() -> ConfigError:
    sys.stderr.write("\n")
    return ConfigError("the input ended before the last answer; nothing was changed. Try: again, on a terminal")
