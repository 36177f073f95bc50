"""One job as the process that leads it sees it: started, handed intervals, listened to, and awaited."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from typing import Any

from sync_worker.errors import SyncError
from sync_worker.intervals import Interval
from sync_worker.parallel import messages
from sync_worker.parallel.slots import JobSlots, LentSlots
from sync_worker.runs.division import Synced
from sync_worker.waits import Wait, show
from sync_worker.watch.logs import log_of_job

#: Seconds that a process may take to end after its last message.
_END_SECONDS = 10.0
#: The program of a job's interpreter. Signals are ignored before anything is imported; where modules are is passed by
#: the process that starts it, since a job must run the same program from wherever that was started.
_PROGRAM = """\
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
import gc, json
sys.path[:] = json.loads(sys.argv[1])
gc.disable()
from sync_worker.garbage import collect_seldom
from sync_worker.parallel.job import main
collect_seldom()
main()
"""


class Died(Exception):
    """A job ended in the middle of its work; the message says how: `was killed by signal 9`."""


class JobProcess:
    """A job that was started. `intervals` are those that it works on."""

    def __init__(self, number: int, popen: subprocess.Popen[bytes], slots: LentSlots) -> None:
        self.number = number
        self.intervals: dict[Interval, asyncio.Future[Synced]] = {}
        self.is_alone = False  # it works on one interval that jobs died at, and takes no other
        self.was_ready = False
        self.counts: messages.JobCounts | None = None  # the last it sent
        self.died: str | None = None  # how, if it ended before its work did
        self.undelivered: SyncError | None = None
        self._reads: dict[Interval, Callable[[int, int], None]] = {}
        self._error: SyncError | None = None
        self._popen = popen
        self._slots: JobSlots = slots.of_job(lambda server: self.send(messages.Granted(server)))

    @classmethod
    def start(cls, setup: messages.Setup, slots: LentSlots) -> JobProcess:
        """Start a job. Raises OSError."""
        # Blocked while the process is made, so that none reaches it before it ignores them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            popen = subprocess.Popen(  # noqa: S603 - this program
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        started = cls(setup.number, popen, slots)
        started.send(setup)
        return started

    def send(self, message: object) -> None:
        """Send a message to the job; one that has ended gets none."""
        if self._popen.stdin is None:
            return
        left = memoryview(messages.pack(message))
        with contextlib.suppress(OSError, ValueError):
            while left:
                left = left[self._popen.stdin.write(left) or 0 :]

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(OSError):
            self._popen.kill()

    async def sync(self, interval: Interval, read: Callable[[int, int], None]) -> Synced:
        """Have an interval synced; `read` gets how far it was read, Unix ms, and how many observations.

        Raises Died, and what ended the job.
        """
        future: asyncio.Future[Synced] = asyncio.get_running_loop().create_future()
        self.intervals[interval] = future
        self._reads[interval] = read
        self.send(messages.Sync(interval))
        try:
            return await future
        finally:
            self.intervals.pop(interval, None)
            self._reads.pop(interval, None)
            self.is_alone = False

    async def follow(self, news: Callable[[], None]) -> None:
        """Take what the job says until it has ended; `news` is called where an interval is done."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._popen.stdout
        )
        ended = False
        try:
            while (message := await messages.receive(reader)) is not None:
                ended = ended or isinstance(message, messages.Ended)
                self._take(message)
                news()
        finally:
            transport.close()
            self._slots.end()
            self._show(())
            if self._popen.stdin is not None:
                with contextlib.suppress(OSError):
                    self._popen.stdin.close()
        try:
            code = await asyncio.to_thread(self._popen.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = await asyncio.to_thread(self._popen.wait)
        if not ended:
            self.died = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def fail_open(self) -> None:
        """Pass what ended the job to those who wait for its intervals."""
        for future in self.intervals.values():
            if not future.done():
                future.set_exception(self._error or Died(self.died or "ended"))

    def _show(self, now: Collection[Wait]) -> None:
        show(self.counts.waits if self.counts is not None else (), now)

    def _take(self, message: Any) -> None:
        match message:
            case messages.Ready():
                self.was_ready = True
            case messages.JobCounts():
                self._show(message.waits)
                self.counts = message
            case messages.Read(interval, down_to_ms, observations):
                if interval in self._reads:
                    self._reads[interval](down_to_ms, observations)
            case messages.Logged(entry):
                log_of_job(entry)
            case messages.Wanted(server):
                self._slots.want(server)
            case messages.Freed(server, seconds, failed):
                self._slots.free(server, seconds, failed=failed)
            case messages.Done(interval, synced):
                future = self.intervals.get(interval)
                if future is not None and not future.done():
                    future.set_result(synced)
            case messages.Ended(error, undelivered):
                self._error = None if error is None else error.unpack()
                self.undelivered = None if undelivered is None else undelivered.unpack()
