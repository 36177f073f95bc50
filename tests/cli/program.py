"""The program as a person or a script starts it, without any server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.programs import ROOT, start_program

#: As little as a service manager or a container hands on.
BARE = {"PATH": "/usr/bin:/bin"}


def run(folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run the program with pipes for output and nothing on stdin; return its exit code, stdout and stderr."""
    with start_program(arguments, folder, {**BARE, **(environ or {})}) as process:
        out, err = process.communicate(timeout=60)
    return process.wait(), out, err


def run_anew(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program in a fresh process; `options` are those of `subprocess.run`."""
    environ = {**BARE, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "timeout": 60, "text": True, **options}
    command = [sys.executable, "-W", "error", "-m", "sync_worker", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, check=False, **options)
