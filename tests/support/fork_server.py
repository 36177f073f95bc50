"""Loads the program once and forks a process of it for each request: `python -m tests.support.fork_server SOCKET`.

A request is a JSON object with `arguments`, `folder`, `environ` and the file that is `stdin`, and three file
descriptors: stdout, stderr, and where the exit code goes. The response is the process id.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
import time
from dataclasses import fields
from typing import Any

import sync_worker
from sync_worker.__main__ import main
from sync_worker.pipeline.limits import Limits

#: What the program and its libraries import only when they need it: half of the work of a run without observations.
_IMPORTED_LATE = (
    "anyio._backends._asyncio",
    "google.protobuf.json_format",
    "httpcore",
    "langfuse.api.client",
    "langfuse.api.health.client",
    "langfuse.api.media.client",
    "langfuse.api.projects.client",
    "opentelemetry.proto.collector.logs.v1.logs_service_pb2",
    "sqlite3.dump",
)
_LIMITS = [one.name for one in fields(Limits)]


def serve(requests: socket.socket) -> int:
    """Fork until the socket is closed; where it returns in a process of the program, the exit code of that."""
    # httpcore looks for this optional package at each request, which costs a walk over sys.path where it is not there.
    if importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]
    for module in pkgutil.walk_packages(sync_worker.__path__, "sync_worker."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _IMPORTED_LATE:
        importlib.import_module(name)
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended: dict[int, int] = {}  # by process id, where its exit code goes
    gc.collect()
    gc.freeze()  # shared with every process forked from here
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            woken.recv(1 << 12)
            _report(ended)
        if requests not in ready:
            continue
        body, streams = _receive(requests)
        if not body:
            _close(requests, woken, wake)
            return 0
        pid = os.fork()
        if not pid:
            break
        *others, ended[pid] = streams
        for stream in others:
            os.close(stream)
        requests.send(str(pid).encode())
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _close(requests, woken, wake)
    for end in ended.values():
        os.close(end)
    return _program(json.loads(body), streams)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()


def _report(ended: dict[int, int]) -> None:
    """Write the exit codes of those that have ended: the only one who can wait for them is their parent."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with contextlib.suppress(BrokenPipeError):
                os.write(ended[pid], str(os.waitstatus_to_exitcode(status)).encode())
            os.close(ended.pop(pid))


def _receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    body, messages, _, _ = requests.recvmsg(1 << 20, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i")
    for _, _, data in messages:
        streams.frombytes(data)
    return body, list(streams)


def _program(request: dict[str, Any], streams: list[int]) -> int:
    out, err, ended = streams
    os.close(ended)
    for end, number in ((out, 1), (err, 2)):
        os.dup2(end, number)
        os.close(end)
    os.chdir(request["folder"])
    if request["has_terminal"]:
        os.login_tty(os.dup(1))
    else:
        end = os.open(request["stdin"], os.O_RDONLY)
        os.dup2(end, 0)
        os.close(end)
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["small"]:
        _shrink(request["small"])
    sys.argv = ["sync-worker", *request["arguments"]]
    try:
        code = main()
    except SystemExit as asked:  # of argparse
        if not isinstance(asked.code, int):
            raise
        code = asked.code
    _end(code)
    return code


def _end(code: int) -> None:
    """End as Python does, but without taking apart what is loaded, for which each page of it would be copied.

    Returns where a stream cannot be flushed: what Python makes of that is up to Python.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # what was left open warns
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


def _shrink(observations: int) -> None:
    """Have intervals of so few observations that a small project is a large one; jobs get these limits from here."""
    defaults = {
        **dict(zip(_LIMITS, Limits.__init__.__defaults__ or (), strict=True)),
        "interval_observations": observations,
        "jobs_above": 3 * observations,
    }
    Limits.__init__.__defaults__ = tuple(defaults.values())


if __name__ == "__main__":
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
