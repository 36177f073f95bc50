"""`python -m sync_worker`, and the console script `sync-worker`."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from types import FrameType

_CUT_SHORT = (
    "sync-worker: a module that Python has compiled is cut short ({}), as after a full disk. "
    "Try: make room, delete the folders named __pycache__ beside the program, and run again\n"
)


def _stop_at_once(number: int, _: FrameType | None) -> None:
    """Exit before any work has started; Python by itself would print a traceback from an import."""
    with contextlib.suppress(OSError):
        os.write(2, b"sync-worker: stopped before it started\n")
    os._exit(128 + number)


def main() -> int:
    """Run the command of the command line and return its exit code (see `errors.ExitCode`)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop_at_once)
    # Importing the libraries takes most of the start time, so signals are handled before.
    try:
        from sync_worker.cli import load  # noqa: PLC0415
        from sync_worker.cli.process_signals import handle_signals  # noqa: PLC0415
        from sync_worker.garbage import collect_seldom  # noqa: PLC0415

        gc.disable()  # what imports make stays, so there is nothing to find: a tenth of the start
        run = load()
    except EOFError as error:  # of a compiled module: a disk that is full cuts it short, and Python keeps it
        with contextlib.suppress(OSError):
            os.write(2, _CUT_SHORT.format(error).encode())
        return 1
    collect_seldom()
    with handle_signals():
        code = run()
    # Python restores the default handlers at exit: a signal received then would replace the exit code.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    return code


if __name__ == "__main__":
    sys.exit(main())
