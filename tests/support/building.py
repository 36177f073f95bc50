"""Builds the source distribution and the wheel, as for an index."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

from sync_worker import __version__

ROOT = Path(__file__).parents[2]
NAME = f"langfuse_kelet_sync-{__version__}"
WHEEL = f"{NAME}-py3-none-any.whl"


def python(*arguments: object, cwd: Path) -> str:
    """Run this Python, away from the checkout's modules; return its stdout."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environ, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(folder: Path) -> None:
    """Put the sdist, its content, and the wheel that is built from that into a folder."""
    python("-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    with tarfile.open(folder / f"{NAME}.tar.gz") as packed:
        packed.extractall(folder, filter="data")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=folder / NAME)
