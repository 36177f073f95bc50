"""`python -m sync_worker`, and the console script `sync-worker`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType


def _stop_at_once(number: int, _: FrameType | None) -> None:
    """End before anything has begun; Python's own way would be a traceback out of some module."""
    with contextlib.suppress(OSError):
        os.write(2, b"sync-worker: stopped before it began\n")
    os._exit(128 + number)


def main() -> int:
    """Run the command of the command line and return its exit code (see `errors.ExitCode`)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop_at_once)
    # Loading the libraries takes most of a start, so signals are seen to before.
    from sync_worker.cli import main as run  # noqa: PLC0415
    from sync_worker.cli.stopping import handled  # noqa: PLC0415

    with handled():
        code = run()
    # Python gives signals back to the system while it ends, and one that came then would take the exit code away.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    return code


if __name__ == "__main__":
    sys.exit(main())
