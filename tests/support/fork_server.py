"""Loads the program once and forks a process of it for each request: `python -m tests.support.fork_server SOCKET`.

A request is a JSON object with `arguments`, `folder`, `environ` and the file that is `stdin`, and three file
descriptors: stdout, stderr, and where the exit code goes. The response is the process id.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import signal
import socket
import sys
import time
from dataclasses import fields
from typing import Any

import sync_worker
from sync_worker.__main__ import main
from sync_worker.pipeline.limits import Limits

_LIMITS = [one.name for one in fields(Limits)]


def serve(requests: socket.socket) -> int:
    """Fork until the socket is closed; returns, in a process of the program, its exit code."""
    # httpcore looks for this optional package at each request, which costs a walk over sys.path where it is not there.
    if importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]
    for module in pkgutil.walk_packages(sync_worker.__path__, "sync_worker."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # shared with every process forked from here
    while True:
        body, streams = _receive(requests)
        _reap()
        if not body:
            requests.close()
            return 0
        if not os.fork():
            break
        for end in streams:
            os.close(end)
    return _parent(requests, json.loads(body), streams)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    body, messages, _, _ = requests.recvmsg(1 << 20, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i")
    for _, _, data in messages:
        streams.frombytes(data)
    return body, list(streams)


def _parent(requests: socket.socket, request: dict[str, Any], streams: list[int]) -> int:
    """Fork the program, and wait for it: the only one who can is its parent."""
    pid = os.fork()
    if not pid:
        requests.close()
        return _program(request, streams)
    out, err, ended = streams
    for end in (out, err):
        os.close(end)
    requests.send(str(pid).encode())
    requests.close()
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _program(request: dict[str, Any], streams: list[int]) -> int:
    out, err, ended = streams
    os.close(ended)
    for end, number in ((out, 1), (err, 2)):
        os.dup2(end, number)
        os.close(end)
    os.chdir(request["folder"])
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
    return main()


def _shrink(observations: int) -> None:
    """Have intervals of so few observations that a small project is a large one; jobs get these limits from here."""
    defaults = {
        **dict(zip(_LIMITS, Limits.__init__.__defaults__ or (), strict=True)),
        "interval_observations": observations,
    }
    Limits.__init__.__defaults__ = tuple(defaults.values())


if __name__ == "__main__":
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
