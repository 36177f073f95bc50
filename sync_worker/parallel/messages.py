"""What the process that leads a run and its jobs say to each other, over pipes: pickled, each with its length.

Both are the same program, and nobody else has the ends of these pipes, so what arrives can be trusted.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_worker.errors import SyncError, TransientError, describe_unexpected
from sync_worker.intervals import Interval
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.division import Synced
from sync_worker.settings import Settings, Source
from sync_worker.waits import Wait

#: Seconds in which a job has ended that was asked to stop: what is in flight has ten.
STOP_SECONDS = 20.0

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Setup:
    """To a job, first: what it works with. `role` and `token` are of the lease that it works under.

    `max_elapsed` and `parts` are as of `Engine`.
    """

    number: int
    settings: Settings
    source: Source
    state: Path
    role: str
    token: str
    file_id: str
    max_elapsed: float | None
    parts: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class Sync:
    """To a job: sync this interval."""

    interval: Interval


@dataclass(frozen=True, slots=True)
class Granted:
    """To a job: a request may go to this server."""

    server: str


@dataclass(frozen=True, slots=True)
class StopJob:
    """To a job: finish what is in flight, and end."""


@dataclass(frozen=True, slots=True)
class Finish:
    """To a job: there are no more intervals; end when all are synced."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From a job: it has connected its source."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """From a job: it wants to send a request to this server."""

    server: str


@dataclass(frozen=True, slots=True)
class Freed:
    """From a job: a request has ended, after so many seconds, None if none was sent; `failed`: the server failed."""

    server: str
    seconds: float | None
    failed: bool


@dataclass(frozen=True, slots=True)
class JobCounts:
    """From a job: all that it has counted so far, `measured` as `Measurements.as_json`; and what it waits for."""

    report: SourceReport
    measured: dict[str, Any]
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """From a job: what it read of an interval, as of `Progress.read`."""

    interval: Interval
    down_to_ms: int
    observations: int


@dataclass(frozen=True, slots=True)
class Logged:
    """From a job: a line for the log, as the attributes of its record."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """From a job: what of an interval is synced."""

    interval: Interval
    synced: Synced


@dataclass(frozen=True, slots=True)
class Ended:
    """From a job, last: what ended it, if not the end of its work; and what it left undelivered."""

    error: PackedError | None = None
    undelivered: PackedError | None = None


@dataclass(frozen=True, slots=True)
class PackedError:
    """An error of this program, to be raised in another process."""

    kind: type[SyncError]
    arguments: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: Exception) -> PackedError:
        """Pack an error; one that is not raised on purpose becomes a temporary one that names it."""
        if isinstance(error, SyncError):
            packed = cls(type(error), error.args, dict(vars(error)))
            try:
                pickle.dumps(packed)
            except Exception:  # noqa: BLE001 - whatever it holds; its text and exit code are what counts
                return cls(type(error), (str(error),), {"exit_code": error.exit_code})
            return packed
        return cls.of(TransientError(describe_unexpected(error)))

    def unpack(self) -> SyncError:
        """Return the error."""
        error = self.kind.__new__(self.kind, *self.arguments)
        vars(error).update(self.attributes)
        return error


def pack(message: object) -> bytes:
    """Return a message as it goes through a pipe."""
    body = pickle.dumps(message)
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> Any:
    """Return the next message; None at the end of the pipe, also in the middle of a message."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return pickle.loads(await reader.readexactly(length))  # noqa: S301 - from a process of this run
    except (asyncio.IncompleteReadError, ConnectionError, pickle.UnpicklingError):
        return None
