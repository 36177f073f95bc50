"""Regular expressions of google-re2, in linear time whatever they meet. It is imported only where there are some."""

from __future__ import annotations

from typing import Any

#: Bytes that RE2 may use for the states of an expression.
MEMORY = 64 * 1024 * 1024


class NoRe2Error(Exception):
    """google-re2 is not installed."""


class PatternError(Exception):
    """An expression that RE2 refuses; the message is RE2's."""


def is_there() -> bool:
    """Whether google-re2 is installed."""
    try:
        import_re2()
    except NoRe2Error:
        return False
    return True


def import_re2() -> Any:
    """Return the module. Raises NoRe2Error."""
    try:
        import re2  # noqa: PLC0415 - only where there are expressions
    except ImportError as error:
        raise NoRe2Error(str(error)) from error
    return re2


def options(*, captures: bool = True, memory: int = MEMORY) -> Any:
    """Return RE2's options: nothing is written to stderr. Raises NoRe2Error."""
    made = import_re2().Options()
    made.max_mem = memory
    made.log_errors = False
    made.never_capture = not captures
    return made


def compile_re2(pattern: str, *, captures: bool = True, memory: int = MEMORY) -> Any:
    """Return the compiled expression. Raises NoRe2Error or PatternError."""
    re2 = import_re2()
    try:
        return re2.compile(pattern, options(captures=captures, memory=memory))
    except re2.error as error:
        message = error.args[0] if error.args else error
        raise PatternError(message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)) from None
