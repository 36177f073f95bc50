"""stdout belongs to results, stderr to talk; nothing from outside gets through either to steer a terminal.

Neither stream need be there: both may be closed, on a full disk, or a pipe that nobody reads. Talk that cannot be
written is dropped. A result that cannot be written is noted, so that the command can end with what that means
(`finish`), and nothing of it stops the work.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TextIO

from sync_worker.errors import ExitCode
from sync_worker.printable import escape, escape_json, supports_unicode

_Name = Literal["stdout", "stderr"]

#: A colour or weight that this program set itself (`ESC [ … m`): it can neither move the cursor nor hide a line.
_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
#: What went wrong with a stream, by its name; it is not written to again.
_faults: dict[_Name, OSError] = {}


def prepare() -> None:
    """Make both streams take every character, and forget what went wrong with those of an earlier command."""
    _faults.clear()
    with contextlib.suppress(OSError):
        # No file or connection may get the number of a closed stream: whatever still writes there would write into it.
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Tell the person something, in one line."""
    _write("stderr", escape(line) + "\n")


def print_line(line: str = "", *, styled: bool = False) -> None:
    """Print a line of the result; `styled` lets the program's own colours through."""
    _write("stdout", (_escaped_but_styles(line) if styled else escape(line)) + "\n")


def print_json(value: Any) -> None:
    """Print the result as one JSON object."""
    text = json.dumps(value, indent=2, ensure_ascii=not supports_unicode(sys.stdout))
    _write("stdout", escape_json(text) + "\n")


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in aligned columns."""
    everything = [[escape(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(head))]
    for row in everything:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_help(text: str, *, on_stdout: bool) -> None:
    """Print what argparse has to say, line by line as it set it."""
    for line in text.removesuffix("\n").split("\n"):
        if on_stdout:
            print_line(line)
        else:
            say(line)


def finish(code: int) -> int:
    """Write out what is left, and return the exit code: success is none when the result did not get out.

    A reader that has seen enough (`| head -1`) is no fault. What the command did stands all the same, so a code that
    tells more than 0 is kept.
    """
    _flush("stderr")
    _flush("stdout")
    fault = _faults.get("stdout")
    if fault is None or isinstance(fault, BrokenPipeError):
        return code
    say(
        f"sync-worker: the result could not be written to stdout ({(fault.strerror or str(fault)).lower()}); what the "
        "command did is kept. Try: the same command with stdout on a disk with room, or a terminal"
    )
    return ExitCode.TRANSIENT if code == ExitCode.OK else code


def _write(name: _Name, text: str) -> None:
    if name in _faults:
        return
    stream: TextIO | None = getattr(sys, name)
    try:
        if stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        stream.write(text)
        if name == "stderr":
            stream.flush()
    except OSError as fault:
        _give_up(name, stream, fault)
    except ValueError:  # closed by somebody else in this process
        _give_up(name, stream, OSError(errno.EBADF, os.strerror(errno.EBADF)))


def _flush(name: _Name) -> None:
    stream: TextIO | None = getattr(sys, name)
    if stream is None or name in _faults:
        return
    try:
        stream.flush()
    except OSError as fault:
        _give_up(name, stream, fault)
    except ValueError:
        return


def _give_up(name: _Name, stream: TextIO | None, fault: OSError) -> None:
    """Note the fault, and lead what is still in the stream's buffer nowhere: Python flushes it once more at its end."""
    _faults[name] = fault
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _escaped_but_styles(line: str) -> str:
    return "".join(part if at % 2 else escape(part) for at, part in enumerate(_STYLE.split(line)))
