"""Every error the worker raises on purpose, sorted by what is to be done next.

    SyncError
    ├── TransientError          try again: the same request may succeed later
    ├── SourcePaused            pause this source, mark nothing done; others go on
    │   ├── CredentialsRefused  ... because a key was refused (401, 403)
    │   └── DeadLettersFull     ... because it has as many dead letters as may be kept
    ├── RecordRefused           set this one record aside as a dead letter, go on
    └── Stop                    stop the program: nothing can be done without the operator
        ├── ConfigError         a setting or an argument is wrong
        ├── StateError          the state file cannot be used
        └── LeaseHeld           another run is at work on the same state file

A message is one line: what happened, where, and what to try.
"""

from __future__ import annotations


class ExitCode:
    """What the process answers to its caller; `docs/` and the README print this table."""

    OK = 0  # everything that was due is done
    TRANSIENT = 1  # a fault that may pass: run again, nothing is lost
    USAGE = 2  # usage or configuration
    DEAD_LETTERS = 3  # done, and dead letters were made in this run
    CREDENTIALS = 4  # credentials refused
    LEASE = 5  # another run holds the lease
    GAPS = 6  # gaps found
    PAUSED = 75  # paused safely: the other side refuses for a reason that retrying does not cure
    SIGINT = 130  # stopped by Ctrl-C after finishing what was in flight
    SIGTERM = 143  # stopped by SIGTERM after finishing what was in flight


class SyncError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what a command ends with when nobody handles it."""

    exit_code: int = ExitCode.TRANSIENT

    @property
    def lines(self) -> tuple[str, ...]:
        """What to tell the person, one line for each problem."""
        return (str(self),)


class TransientError(SyncError):
    """A fault that may pass.

    `retry_after` is the wait in seconds the other side asked for, if it did, and `took` how many seconds passed before
    it was one: an outage begins with the try that failed first, not with its end. `overloaded`: it asked by a 5xx, for
    itself, and not for a quota that ends at a known time.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, took: float = 0.0, overloaded: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.took = took
        self.overloaded = overloaded


class SourcePaused(SyncError):
    """This source cannot go on until somebody acts; what was not answered stays undone."""

    exit_code = ExitCode.PAUSED


class CredentialsRefused(SourcePaused):
    """A key was refused, by Langfuse or by Kelet."""

    exit_code = ExitCode.CREDENTIALS


class DeadLettersFull(SourcePaused):
    """A source has as many dead letters as may be kept; what was to be one more stays undone."""


class RecordRefused(SyncError):
    """One record cannot be understood or delivered for what it is."""

    exit_code = ExitCode.DEAD_LETTERS


class Stop(SyncError):
    """Nothing can be done before the operator acts."""

    exit_code = ExitCode.USAGE


class ConfigError(Stop):
    """A setting or an argument is wrong; several problems are told at once, each in a line of its own."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    @property
    def lines(self) -> tuple[str, ...]:
        """What to tell the person, one line for each problem."""
        return self.problems


class StateError(Stop):
    """The state file cannot be used."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        if transient:
            self.exit_code = ExitCode.TRANSIENT


class LeaseHeld(Stop):
    """Another run is at work on the same state file."""

    exit_code = ExitCode.LEASE
