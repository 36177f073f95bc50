#!/usr/bin/env python3
"""Starts the program for scripts/sync, with Ctrl-C and SIGTERM seen to before anything is loaded.

Python answers Ctrl-C with a traceback out of whatever it is loading, from its first moments on. So this is run with -S,
which leaves `site` for later, and takes two modules that are built in, where `signal` and `os` would be loaded.
"""

import _signal
import posix


def stop(number, _):  # noqa: D103 - a docstring would not make it clearer
    try:
        posix.write(2, b"sync-worker: stopped before it began\n")
    finally:
        posix._exit(128 + number)  # noqa: SLF001 - os._exit


_signal.signal(_signal.SIGINT, stop)
_signal.signal(_signal.SIGTERM, stop)

import site  # noqa: E402
import sys  # noqa: E402

site.main()

from sync_worker.__main__ import main  # noqa: E402

sys.exit(main())
