"""The errors that the worker raises on purpose, classed by what to do next.

    SyncError
    ├── TransientError          retry: the same request may succeed later
    ├── SourcePaused            pause this source, complete nothing; other sources continue
    │   ├── CredentialsRejected  ... because a key was rejected (401, 403)
    │   ├── DeadLettersFull     ... because it has the maximum number of dead letters
    │   ├── PausedByOperator    ... because of `pause`
    │   └── DailyLimitReached   ... until the next day, because of SYNC_MAX_SPANS_PER_DAY
    ├── RecordRejected           make this record a dead letter, and continue
    └── Stop                    end the program: the operator must act
        ├── ConfigError         a setting or an argument is wrong
        ├── StateError          the state file cannot be used
        └── LeaseHeld           another run uses the same state file

A message is one line: what happened, where, and what to try.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final

#: What to try where the system has no more of something.
_CURES: Final[Mapping[int | None, str]] = {
    errno.EMFILE: "allow this process more open files (ulimit -n)",
    errno.ENFILE: "allow this machine more open files",
    errno.ENOMEM: "allow more memory",
}


class ExitCode:
    """Exit codes of the process."""

    OK = 0
    TRANSIENT = 1
    USAGE = 2
    DEAD_LETTERS = 3
    CREDENTIALS = 4
    LEASE = 5
    GAPS = 6
    PAUSED = 75
    SIGINT = 130
    SIGTERM = 143


#: What each exit code means, for the help and the documentation.
MEANINGS: Final[Mapping[int, str]] = {
    ExitCode.OK: "everything is synced",
    ExitCode.TRANSIENT: "a temporary error: run again, nothing is lost",
    ExitCode.USAGE: "an error in usage, settings or the state file",
    ExitCode.DEAD_LETTERS: "synced, but this run made dead letters",
    ExitCode.CREDENTIALS: "credentials rejected",
    ExitCode.LEASE: "another run holds the lease",
    ExitCode.GAPS: "gaps found",
    ExitCode.PAUSED: "paused: by `pause`, or because a retry would not help; nothing is lost",
    ExitCode.SIGINT: "stopped by Ctrl-C, after the requests in flight",
    ExitCode.SIGTERM: "stopped by SIGTERM, after the requests in flight",
}


class SyncError(Exception):
    """Base of all errors raised on purpose; `exit_code` is that of a command that does not handle it."""

    exit_code: int = ExitCode.TRANSIENT

    @property
    def lines(self) -> tuple[str, ...]:
        """The message for the operator, one line for each problem."""
        return (str(self),)


class TransientError(SyncError):
    """A temporary error.

    `retry_after` is the wait in seconds that the server asked for, if any. `took` is how many seconds the failed
    request lasted: an outage begins with the start of the first failed request, not with its end. `overloaded`: the
    server answered 5xx and asked for a wait for itself, not for a quota that ends at a known time.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, took: float = 0.0, overloaded: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.took = took
        self.overloaded = overloaded


class SourcePaused(SyncError):
    """This source cannot continue until an operator acts; what has no response is not synced."""

    exit_code = ExitCode.PAUSED


class CredentialsRejected(SourcePaused):
    """Langfuse or Kelet rejected a key."""

    exit_code = ExitCode.CREDENTIALS


class DeadLettersFull(SourcePaused):
    """A source has the maximum number of dead letters; what would be one more is not synced.

    `stored` is how many spans were dead-lettered all the same: those that there was room for.
    """

    stored = 0


class PausedByOperator(SourcePaused):
    """An operator paused a source, or Kelet projects of it, until `resume` or a time."""


class DailyLimitReached(SourcePaused):
    """A source has sent as many spans as it may on a day; it continues by itself on the next."""


class RecordRejected(SyncError):
    """One record cannot be parsed, or is rejected for its content."""

    exit_code = ExitCode.DEAD_LETTERS


class Stop(SyncError):
    """The program ends: the operator must act."""

    exit_code = ExitCode.USAGE


class ConfigError(Stop):
    """A setting or an argument is wrong; several problems are reported at once, one a line."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    @property
    def lines(self) -> tuple[str, ...]:
        """The message for the operator, one line for each problem."""
        return self.problems


class StateError(Stop):
    """The state file cannot be used."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        if transient:
            self.exit_code = ExitCode.TRANSIENT


class LeaseHeld(Stop):
    """Another run uses the same state file."""

    exit_code = ExitCode.LEASE


def describe_unexpected(error: Exception) -> str:
    """Return, in one line, what an operator should read about an error that was not raised on purpose."""
    cure = _CURES.get(error.errno) if isinstance(error, OSError) else None
    return (
        f"unexpected {type(error).__name__}: {error}. Nothing counts as sent without a response. "
        f"Try: {cure or 'run again with SYNC_LOG_LEVEL=debug, and report the output'}"
    )
