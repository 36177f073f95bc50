"""Results go to stdout, messages to stderr; in both, control characters from outside are escaped.

Either stream may be closed, on a full disk, or a pipe without a reader. A message that cannot be written is dropped. A
result that cannot be written is recorded for the exit code (`finish`). Neither stops the work.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TextIO

from sync_worker.cli.terminal import BOLD, is_terminal, moves_cursor, styled
from sync_worker.errors import ExitCode, SyncError
from sync_worker.printable import escape, escape_json, supports_unicode
from sync_worker.watch.live_line import above

_Name = Literal["stdout", "stderr"]

#: Characters to which the last cell of a table is cut at most.
_LEAST_CELL = 20

#: A colour or weight that this program set itself (`ESC [ … m`): it cannot move the cursor or hide a line.
_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
#: The write error of each stream that failed, by name; it is not written to again.
_errors: dict[_Name, OSError] = {}
_quiet = False


class OutputEnded(SyncError):
    """Nobody takes the result any more; `finish` knows why."""

    exit_code = ExitCode.OK

    @property
    def lines(self) -> tuple[str, ...]:
        """No message: `finish` has one."""
        return ()


def prepare(*, quiet: bool = False) -> None:
    """Make both streams accept every character, and forget the write errors of an earlier command.

    With `quiet`, no summaries are printed.
    """
    global _quiet  # noqa: PLW0603 - one command line a process
    _quiet = quiet
    _errors.clear()
    with contextlib.suppress(OSError):
        # No file or connection may get the descriptor of a closed stream: later writes to the stream would go there.
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a message of one line on stderr."""
    _write("stderr", escape(line) + "\n")


def is_quiet() -> bool:
    """Whether `-q` was given."""
    return _quiet


def summarise(line: str) -> None:
    """Print a line of a summary on stderr, unless it was asked for quiet."""
    if not _quiet:
        say(line)


def print_line(line: str = "", *, styled: bool = False, tabs: bool = False) -> None:
    """Print a line of the result; with `styled` the program's own colours, with `tabs` its tabs are not escaped."""
    text = "\t".join(map(escape, line.split("\t"))) if tabs else _escape_except_styles(line) if styled else escape(line)
    _write("stdout", text + "\n")


def print_json(value: Any) -> None:
    """Print the result as one JSON object."""
    text = json.dumps(value, indent=2, ensure_ascii=not supports_unicode(sys.stdout))
    _write("stdout", escape_json(text) + "\n")


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in aligned columns on a terminal, the last one cut at its edge; elsewhere with tabs between cells.

    A tab in a cell is escaped, so that `cut` finds the columns.
    """
    everything = [[escape(cell) for cell in row] for row in (head, *rows)]
    if not is_terminal(sys.stdout):
        for row in everything:
            print_line("\t".join(row), tabs=True)
        return
    widths = [max(len(row[column]) for row in everything) for column in range(len(head))]
    room = shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = min(widths[-1], max(_LEAST_CELL, room))
    for number, row in enumerate(everything):
        cells = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        print_line(line if number else styled(line, BOLD, sys.stdout), styled=True)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 3] + "..."


def print_help(text: str, *, on_stdout: bool) -> None:
    """Print a text of argparse line by line, with its own indentation."""
    for line in text.removesuffix("\n").split("\n"):
        if on_stdout:
            print_line(line)
        else:
            say(line)


def clear_screen() -> None:
    """Clear a terminal; where lines cannot be replaced, begin with an empty line."""
    _write("stdout", "\x1b[H\x1b[2J" if moves_cursor(sys.stdout) else "\n")


def flush() -> None:
    """Hand on what was printed. Raises OutputEnded where nobody reads it any more, as after `| head`."""
    _flush("stdout")
    if "stdout" in _errors:
        raise OutputEnded("the result could not be written")


def finish(code: int) -> int:
    """Flush both streams and return the exit code: 1 in place of 0 if the result could not be written.

    A reader that closes its pipe early (`| head -1`) is no error. The work itself is kept, so any other code than 0 is
    returned as it is.
    """
    _flush("stderr")
    _flush("stdout")
    error = _errors.get("stdout")
    if error is None or isinstance(error, BrokenPipeError):
        return code
    say(
        f"sync-worker: the result could not be written to stdout ({(error.strerror or str(error)).lower()}); what the "
        "command did is kept. Try: the same command with stdout on a disk with free space, or a terminal"
    )
    return ExitCode.TRANSIENT if code == ExitCode.OK else code


def _write(name: _Name, text: str) -> None:
    if name in _errors:
        return
    stream: TextIO | None = getattr(sys, name)
    try:
        if stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        with above():
            stream.write(text)
            if name == "stderr":
                stream.flush()
    except OSError as error:
        _give_up(name, stream, error)
    except ValueError:  # closed by other code in this process
        _give_up(name, stream, OSError(errno.EBADF, os.strerror(errno.EBADF)))


def _flush(name: _Name) -> None:
    stream: TextIO | None = getattr(sys, name)
    if stream is None or name in _errors:
        return
    try:
        stream.flush()
    except OSError as error:
        _give_up(name, stream, error)
    except ValueError:
        return


def _give_up(name: _Name, stream: TextIO | None, error: OSError) -> None:
    """Record the error, and redirect the stream to null: Python flushes its buffer once more at exit."""
    _errors[name] = error
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _escape_except_styles(line: str) -> str:
    return "".join(part if at % 2 else escape(part) for at, part in enumerate(_STYLE.split(line)))
