"""A job: the process that syncs the intervals which it is handed, until there are no more, or nobody hands them out.

It is led through two pipes. It ignores SIGINT and SIGTERM, which reach it beside the process that leads it: that one
says what they mean. When that one is gone, which the pipe shows, the job sends no further request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
from collections.abc import Callable
from typing import Any

from sync_worker import event_loop
from sync_worker.clock import Stopped, SystemClock, first_of
from sync_worker.errors import SyncError
from sync_worker.intervals import Interval
from sync_worker.ledger import copies
from sync_worker.ledger.file import open_beside
from sync_worker.ledger.lease import share
from sync_worker.parallel import messages
from sync_worker.parallel.messages import PackedError, Setup
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.progress import Progress
from sync_worker.sync.engine import Engine
from sync_worker.sync.source_sync import SourceSync
from sync_worker.waits import Wait, collect
from sync_worker.watch import logs

#: Seconds between two messages about what was counted: a job that is killed takes no more with it.
_COUNTS_SECONDS = 1.0

log = logging.getLogger(__name__)


class JobClock(SystemClock):
    """The clock of a job: it is asked to stop as soon as the process that leads it is gone."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._poll = select.poll()
        self._poll.register(pipe, 0)  # reports a hang-up, and no data

    def check(self) -> None:
        """Raise Stopped when the run was asked to stop, or nobody leads this job any more."""
        if not self.stopping and self._poll.poll(0):
            self.stop()
        super().check()


class Pipe:
    """The way to the process that leads this job."""

    def __init__(self, number: int, clock: SystemClock) -> None:
        self._number = number
        self._clock = clock

    def send(self, message: object) -> None:
        """Send a message; where nobody reads any more, the job is asked to stop."""
        left = memoryview(messages.pack(message))
        try:
            while left:
                left = left[os.write(self._number, left) :]
        except OSError:
            self._clock.stop()


class _JobProgress(Progress):
    """The progress of a job, which the leading process adds to that of the others."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def read(self, interval: Interval, down_to_ms: int, observations: int) -> None:
        """Pass on what was read of an interval."""
        self._pipe.send(messages.Read(interval, down_to_ms, observations))


class _Slot:
    """The places for requests to one server, which the leading process gives to all jobs."""

    def __init__(self, server: str, pipe: Pipe, clock: SystemClock) -> None:
        self._server = server
        self._pipe = pipe
        self._clock = clock
        self._waiting: list[asyncio.Future[None]] = []

    async def acquire(self) -> None:
        """Wait until a request may go out. Raises Stopped."""
        self._clock.check()
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._pipe.send(messages.Wanted(self._server))
        try:
            async with first_of(place, self._clock.stopped()):
                self._clock.check()
        except BaseException:
            if place.done() and not place.cancelled():
                self.release(None, failed=False)
            raise

    def granted(self) -> None:
        """Pass a place to the request that waits longest; it goes back where none does any more."""
        while self._waiting:
            place = self._waiting.pop(0)
            if not place.done():
                place.set_result(None)
                return
        self.release(None, failed=False)

    def release(self, seconds: float | None, *, failed: bool) -> None:
        """Record how long a request took, and whether the server failed on it; None: none was sent."""
        self._pipe.send(messages.Freed(self._server, seconds, failed))


class SlotQueue:
    """The places for requests, by server."""

    def __init__(self, pipe: Pipe, clock: SystemClock) -> None:
        self._pipe = pipe
        self._clock = clock
        self._slots: dict[str, _Slot] = {}

    def of(self, base_url: str) -> _Slot:
        """Return those of a server."""
        return self._slots.setdefault(base_url, _Slot(base_url, self._pipe, self._clock))


class Job:
    """Syncs intervals of one source, several at once."""

    def __init__(self, setup: Setup, pipe: Pipe, clock: SystemClock, slots: SlotQueue) -> None:
        self._setup = setup
        self._pipe = pipe
        self._clock = clock
        self._slots = slots
        self._report = SourceReport(setup.source.name, setup.source.target)
        self._open: list[Interval] = []  # what was handed out and is not synced
        self._finishing = False
        self._news = asyncio.Event()
        self._undelivered: PackedError | None = None
        self._waits: set[Wait] = set()

    async def run(self) -> None:
        """Work until the end; what the end was is the last message."""
        setup = self._setup
        ended = messages.Ended()
        ledger = open_beside(setup.state, self._clock)
        try:
            lease = share(ledger, setup.role, setup.token, setup.number)
            try:
                ledger.counted = copies.Counter(setup.state, setup.file_id)
                engine = Engine(
                    setup.settings, ledger, self._clock, setup.max_elapsed, parts=setup.parts, limits=setup.limits,
                    server_slots=self._slots,
                )  # fmt: skip
                try:
                    with collect() as self._waits:
                        await engine.attempt(setup.source, self._report, lambda sync: self._work(engine, sync))
                finally:
                    self._send_counts(engine, self._report)
                ended = messages.Ended(undelivered=self._undelivered)
            finally:
                lease.lock.close()
        except Exception as error:
            if not isinstance(error, SyncError):
                log.debug("unexpected", exc_info=error)
            ended = messages.Ended(PackedError.of(error))
        finally:
            ledger.close()
        self._pipe.send(ended)

    def receive(self, message: Any) -> None:
        """Take a message of the leading process; None: it is gone."""
        match message:
            case messages.Sync(interval):
                self._open.append(interval)
            case messages.Granted(server):
                self._slots.of(server).granted()
            case messages.Finish():
                self._finishing = True
            case _:
                self._clock.stop()
        self._news.set()

    async def _work(self, engine: Engine, sync: SourceSync) -> None:
        """Sync what is handed out, and what an attempt with other keys or another generation of the API left open."""
        sync.begin_job()
        self._pipe.send(messages.Ready())
        counting = asyncio.create_task(self._count(engine, sync))
        stopped = asyncio.create_task(self._clock.stopped())
        tasks: dict[asyncio.Task[None], Interval] = {}
        error: BaseException | None = None
        try:
            while not (error is not None or (self._finishing and not self._open)) or tasks:
                if error is None:
                    for interval in self._open:
                        if interval not in tasks.values():
                            tasks[asyncio.create_task(self._sync(engine, sync, interval))] = interval
                news = asyncio.create_task(self._news.wait())
                waits = {*tasks, news} if stopped.done() else {*tasks, news, stopped}
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                self._news.clear()
                for task in [task for task in tasks if task in done]:
                    del tasks[task]
                    failed = task.exception()  # each is taken, or asyncio complains of it
                    error = error or failed
                if stopped.done() and error is None:
                    error = Stopped("asked to stop")
        finally:
            counting.cancel()
            stopped.cancel()
        if error is not None:
            raise error
        try:
            sync.session.delivery.check()
        except SyncError as left:
            self._undelivered = PackedError.of(left)

    async def _sync(self, engine: Engine, sync: SourceSync, interval: Interval) -> None:
        synced = await sync.sync_interval(interval, _JobProgress(self._pipe))
        self._open.remove(interval)
        self._send_counts(engine, sync.counts())
        self._pipe.send(messages.Done(interval, synced))

    async def _count(self, engine: Engine, sync: SourceSync) -> None:
        while True:
            await asyncio.sleep(_COUNTS_SECONDS)
            self._send_counts(engine, sync.counts())

    def _send_counts(self, engine: Engine, report: SourceReport) -> None:
        measured = engine.transports.measurements.as_json()
        self._pipe.send(messages.JobCounts(report, measured, tuple(self._waits)))


async def _serve(reading: int, writing: int) -> None:
    clock = JobClock(reading)
    pipe = Pipe(writing, clock)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        setup = await messages.receive(reader)
        if setup is None:
            return
        logs.set_up_job(setup.settings.log_level, setup.number, lambda entry: pipe.send(messages.Logged(entry)))
        job = Job(setup, pipe, clock, SlotQueue(pipe, clock))
        listening = asyncio.create_task(_listen(reader, job.receive))
        try:
            await job.run()
        finally:
            listening.cancel()
    finally:
        transport.close()


async def _listen(reader: asyncio.StreamReader, receive: Callable[[Any], None]) -> None:
    while (message := await messages.receive(reader)) is not None:
        receive(message)
    receive(None)


def main() -> None:
    """Work as a job, led through stdin and stdout; what else is printed goes to stderr."""
    reading, writing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    event_loop.run(_serve(reading, writing))
