"""The program as a process of its own, forked from one that has loaded its libraries: most of its start time.

What a test sees is a process like any other: its own id, signals, streams, working directory and environment, its exit
code or the signal that ended it. Only `python -m sync_worker` and the imports are not done again; a test of the start
itself sets a variable of Python's, and gets a fresh one.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

ROOT = Path(__file__).parents[2]


class Program(Protocol):
    """What of `subprocess.Popen` the tests use."""

    stdout: IO[str] | None
    stderr: IO[str] | None

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def start_program(
    arguments: Sequence[str], folder: Path, environ: Mapping[str, str], stdin: str = os.devnull, small: int = 0
) -> Program:
    """Start `python -W error -m sync_worker` in a folder with exactly these variables, its output in pipes.

    Variables that Python itself reads take effect in a process that is not forked, so they get one. With `small`, its
    intervals have about so many observations.
    """
    if any(name.startswith("PYTHON") for name in environ):
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "sync_worker", *arguments],
            cwd=folder, env={"PYTHONPATH": str(ROOT), **environ}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    pid, *ends = _server().fork(arguments, folder, environ, stdin, small, terminal=None)
    return Forked(arguments, pid, ends)


def start_on_terminal(arguments: Sequence[str], folder: Path, environ: Mapping[str, str], terminal: int) -> Program:
    """Start the program likewise, with the terminal behind a file descriptor as its own, and for its streams."""
    pid, *ends = _server().fork(arguments, folder, environ, os.devnull, 0, terminal=terminal)
    return Forked(arguments, pid, ends)


class Forked:
    """A program that the server forked; its parent there writes how it ended into a pipe."""

    def __init__(self, arguments: Sequence[str], pid: int, ends: Sequence[int]) -> None:
        self.args = arguments
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        *streams, self._ended = ends
        if streams:
            self.stdout, self.stderr = (os.fdopen(end, encoding="utf-8") for end in streams)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams():
            stream.close()
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code, or that of the signal as a negative number, or None while it runs."""
        if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            self.returncode = int(os.read(self._ended, 16))
            os.close(self._ended)
        return self.returncode

    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]:
        """Return all of stdout and stderr once it has ended; raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        read: dict[int, str] = {}

        def read_all(number: int, stream: IO[str]) -> None:
            with contextlib.suppress(ValueError, OSError):  # closed by __exit__ after a timeout
                read[number] = stream.read()

        readers = [
            threading.Thread(target=read_all, args=(number, stream), daemon=True)
            for number, stream in enumerate((self.stdout, self.stderr))
            if stream is not None and not stream.closed
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if until is None else max(0.0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        self.wait(None if until is None else max(0.0, until - time.monotonic()))
        for stream in self._streams():
            stream.close()
        return read.get(0, ""), read.get(1, "")

    def send_signal(self, sig: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _streams(self) -> Iterator[IO[str]]:
        yield from (stream for stream in (self.stdout, self.stderr) if stream is not None)


class _Server:
    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.support.fork_server", str(theirs.fileno())],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._lock = threading.Lock()

    def fork(
        self,
        arguments: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        stdin: str,
        small: int,
        *,
        terminal: int | None,
    ) -> list[int]:
        """Return the process id, where its stdout and stderr are read unless they are a terminal, and its exit code."""
        asked = {
            "arguments": list(arguments), "folder": str(folder), "environ": dict(environ), "stdin": stdin,
            "small": small, "has_terminal": terminal is not None,
        }  # fmt: skip
        request = json.dumps(asked).encode()
        pipes = [os.pipe() for _ in range(3 if terminal is None else 1)]
        theirs = [writing for _, writing in pipes]
        sent = array.array("i", theirs if terminal is None else [terminal, terminal, *theirs])
        with self._lock:
            self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
            pid = int(self._socket.recv(16) or b"0")
        for end in theirs:
            os.close(end)
        if not pid:
            raise RuntimeError("the server that forks programs has ended; its stderr says why")
        return [pid, *(reading for reading, _ in pipes)]

    def close(self) -> None:
        self._socket.close()
        self._process.wait(timeout=30)


_servers: list[_Server] = []


def _server() -> _Server:
    if not _servers:
        _servers.append(_Server())
        atexit.register(_servers[0].close)
    return _servers[0]
