"""Reads files of settings, which may be pipes, so that none is waited for in vain or fills the memory."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

#: Bytes of a file of settings; a larger one is a wrong path.
LARGEST_FILE = 1024 * 1024
#: Seconds for which the first byte of a pipe that no process has open is waited for.
PIPE_SECONDS = 5.0

_PAUSE = 0.05


def read_bytes(file: Path, most: int = LARGEST_FILE) -> bytes:
    """Return the content of a file, at most one byte more than `most`. Raises OSError.

    A pipe is read until its writers close it. Raises BrokenPipeError where nothing is written to it.
    """
    parts: list[bytes] = []
    left = most + 1
    deadline = time.monotonic() + PIPE_SECONDS
    with open(file, "rb", buffering=0, opener=_open) as stream:
        is_pipe = stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
        while left:
            part = stream.read(left)
            if part is None:  # a writer is there, and has written nothing yet
                select.select([stream], [], [])
            elif part:
                parts.append(part)
                left -= len(part)
            elif is_pipe and not parts and time.monotonic() < deadline:
                time.sleep(_PAUSE)
            elif is_pipe and not parts:
                raise BrokenPipeError(errno.EPIPE, "nothing was written to this pipe")
            else:
                break
    return b"".join(parts)


def read_text(file: Path) -> str:
    """Return the content of a file of settings, with any ends of lines. Raises OSError and UnicodeDecodeError."""
    content = read_bytes(file)
    if len(content) > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"larger than {LARGEST_FILE:,} bytes")
    return content.decode("utf-8-sig")


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # or opening a pipe waits for a writer for ever
