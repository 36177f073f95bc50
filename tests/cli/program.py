"""The program as a person or a script starts it, without any server."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.programs import ROOT, start_on_terminal, start_program

#: As little as a service manager or a container hands on.
BARE = {"PATH": "/usr/bin:/bin"}


def run(folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run the program with pipes for output and nothing on stdin; return its exit code, stdout and stderr."""
    with start_program(arguments, folder, {**BARE, **(environ or {})}) as process:
        out, err = process.communicate(timeout=60)
    return process.wait(), out, err


def run_fresh(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program in a fresh process; `options` are those of `subprocess.run`."""
    environ = {**BARE, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "timeout": 60, "text": True, **options}
    command = [sys.executable, "-W", "error", "-m", "sync_worker", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, check=False, **options)


def on_terminal(
    folder: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    size: tuple[int, int] = (24, 80),
    dialog: Sequence[tuple[str, str]] = (),
) -> tuple[int, str]:
    """Run the program on a terminal of `size` lines and columns; return its exit code and all that it showed.

    `dialog` is what somebody types, each after the program has shown something: `\\x03` is Ctrl-C, `\\x04` Ctrl-D.
    """
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, size)
    with start_on_terminal(arguments, folder, {**BARE, "TERM": "xterm", **(environ or {})}, slave) as process:
        os.close(slave)
        try:
            shown = _exchange(master, list(dialog))
        finally:
            process.kill()  # where it has not ended by itself
            os.close(master)
    return process.wait(), shown


def _exchange(master: int, dialog: list[tuple[str, str]]) -> str:
    shown, seen = b"", 0
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if dialog and (at := shown.find(dialog[0][0].encode(), seen)) >= 0:
            seen = at + len(dialog[0][0].encode())
            os.write(master, dialog.pop(0)[1].encode("utf-8", "surrogateescape"))
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            part = os.read(master, 65536)
        except OSError:  # how Linux says that the last process is gone
            break
        shown += part
    return shown.decode().replace("\r\n", "\n")
