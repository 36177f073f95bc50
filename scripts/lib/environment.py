#!/usr/bin/env python3
"""Makes a virtual environment that holds exactly what a lock file pins; environment.sh calls it when there is need.

    environment.py PLACE LOCK SETTING

Standard library only. It works in place, since an environment cannot be moved, under a lock that the operating system
frees when its holder dies; whoever waited for the lock looks again before doing anything. Exit codes are those of
sync-worker: 1 run again, 2 something has to be set right first, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

MADE_FROM = ".made-from"  # empty while the environment is being made; then a copy of the lock
#: Beside the lock: what has no build for every system.
OPTIONAL = "redaction.txt"
OWN_PARTS = ("bin", "include", "lib", "lib64", "share", "etc", "pyvenv.cfg")  # all that is ever deleted


class Refused(Exception):
    """The environment cannot be made before somebody acts."""


class Interrupted(KeyboardInterrupt):
    """SIGTERM came, or Ctrl-C; `number` says which."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def interrupt(number: int, _: FrameType | None) -> None:
    """End what was begun; a second signal must not break that off."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, lambda *_: None)  # not SIG_IGN: Python complains of it where one came a moment before
    raise Interrupted(number)


def say(line: str) -> None:
    """Say one line on stderr, if there is one."""
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def whole(place: Path, lock: bytes) -> bool:
    """Tell whether the environment is ready and belongs to this lock."""
    try:
        return (place / MADE_FROM).read_bytes() == lock and os.access(place / "bin" / "python", os.X_OK)
    except FileNotFoundError:
        return False


def claim(place: Path) -> None:
    """Make the folder, marked as ours; a folder that holds anything else is left alone."""
    place.mkdir(parents=True, exist_ok=True)
    if not (place / MADE_FROM).exists() and any(place.iterdir()) and not (place / MADE_FROM).exists():
        raise Refused(f"{place} was made by something else and is left alone.")
    (place / MADE_FROM).touch()
    (place / ".gitignore").write_text("*\n")


@contextlib.contextmanager
def only_one(place: Path) -> Iterator[int]:
    """Wait until nobody else is at work on this environment."""
    with (place / ".lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another start is making {place}; waiting for it.")
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:  # a file system without locks, as some network mounts are
            say(f"{place} cannot be locked ({error.strerror}); do not start two at the same time.")
        yield held.fileno()


def make(place: Path, lock: Path, pins: bytes, held: int) -> None:
    """Empty the place, make the environment, install, and only then call it whole."""
    (place / MADE_FROM).write_bytes(b"")
    for part in OWN_PARTS:
        path = place / part
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    # The real file, as /usr/bin/python3.11: when an upgrade of the system takes it away, the environment is seen to be
    # broken, where a link named python3 would quietly lead to another version.
    base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    # -I: what PYTHONPATH offers must not count as installed. The held lock is passed on, so that it outlives this
    # process for as long as pip is still writing.
    quiet = dict(os.environ, PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    install = ["pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)]
    create = [base, "-I", "-m", "venv", str(place)]
    subprocess.run(create, check=True, capture_output=True, text=True, env=quiet, pass_fds=[held])  # noqa: S603
    install = [str(place / "bin" / "python"), "-I", "-m", *install]
    subprocess.run(install, check=True, stdout=sys.stderr, env=quiet, pass_fds=[held])  # noqa: S603
    optional = lock.with_name(OPTIONAL)
    if optional.exists():
        install[-1] = str(optional)
        try:
            subprocess.run(install, check=True, capture_output=True, env=quiet, pass_fds=[held])  # noqa: S603
        except subprocess.CalledProcessError:
            say(f"{OPTIONAL} cannot be installed here: the worker runs without rules of redaction.")
    ready = place / (MADE_FROM + ".new")
    ready.write_bytes(pins)
    ready.replace(place / MADE_FROM)


def main(place: Path, lock: Path, setting: str) -> int:
    """Make the environment unless it is whole; answer with an exit code."""
    try:
        pins = lock.read_bytes()
        claim(place)
        with only_one(place) as held:
            if not whole(place, pins):
                version = ".".join(map(str, sys.version_info[:3]))
                say(f"Making {place} with Python {version} from {lock.name}; only the first start takes this long.")
                make(place, lock, pins, held)
    except subprocess.CalledProcessError as error:
        step = "pip" if "pip" in error.cmd else "venv"
        printed = (error.stdout or "") + (error.stderr or "")
        if printed:
            say(printed.rstrip("\n"))
        say(
            f"{step} failed (exit {error.returncode}), see above. Try: once more if it was the network (pip reads "
            "HTTPS_PROXY, PIP_CERT, PIP_INDEX_URL), another PYTHON if there is no file for this one."
        )
        return 1
    except KeyboardInterrupt as stop:
        say(f"Interrupted; the next start makes {place} anew.")
        return 128 + getattr(stop, "number", signal.SIGINT)
    except Refused as error:
        say(f"{error} Try: {setting}=/another/folder, or remove {place} if nothing in it is needed.")
        return 2
    except OSError as error:
        say(f"Cannot make {place}: {error}. Try: {setting}=/a/folder/that/can/be/written.")
        return 2
    return 0


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, interrupt)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
