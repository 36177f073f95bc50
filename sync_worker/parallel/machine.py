"""How many jobs this process may have: by the cores and the memory that are its own, as affinity and cgroups say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

#: Without a number of the operator's, at most so many.
MOST = 8
#: What a process of the worker may take, in bytes: a job, and the process that leads them too.
PROCESS_BYTES = 150 * 1024 * 1024

_READ = 65_536  # bytes of a file
_NO_LIMIT = 1 << 60  # bytes: what cgroup v1 says for none, and more


@dataclass(frozen=True, slots=True)
class Room:
    """What this process may use: cores, by affinity and quota, and bytes of memory; None means no limit."""

    cores: int
    memory: int | None

    @property
    def jobs(self) -> int:
        """How many jobs that is; 1 where there is no room for two beside the process that leads them."""
        fitting = MOST if self.memory is None else self.memory // PROCESS_BYTES - 1
        return max(1, min(MOST, self.cores, fitting))


def room(root: Path = Path("/")) -> Room:
    """Return what this process may use. What cannot be read, or makes no sense, limits nothing."""
    quotas, limits = list[float](), list[int]()
    for group in _groups(root):
        quota = _quota(group)
        if quota is not None:
            quotas.append(quota)
        limits += [found for name in ("memory.max", "memory.limit_in_bytes") if (found := _bytes(group / name))]
    cores = _cores()
    if quotas:
        cores = max(1, min(cores, int(min(quotas))))
    return Room(cores, min(limits, default=None))


def _cores() -> int:
    """Return on how many cores this process may run."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return int(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the cgroups of this process, each with those above it: every one of them limits."""
    paths: dict[str, str] = {}  # by controller; "" is that of v2
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in {"cgroup", "cgroup2"}:
            continue
        names = {""} if kind[0] == "cgroup2" else set(kind[2].split(",")) & {"cpu", "memory"}
        mounted, at = PurePosixPath(_unescape(fields[3])), root / _unescape(fields[4]).lstrip("/")
        for path in {paths[name] for name in names & paths.keys()}:
            yield from _within(at, mounted, PurePosixPath(path))


def _within(at: Path, mounted: PurePosixPath, path: PurePosixPath) -> Iterator[Path]:
    """Yield the folder of a cgroup below a mount point, and those above; without a namespace only that may be there."""
    yield at
    parts = path.relative_to(mounted).parts if path.is_relative_to(mounted) else ()
    if ".." in parts:
        return
    for part in parts:
        at /= part
        yield at


def _quota(group: Path) -> float | None:
    """Return how many cores a cgroup may use; None without a limit."""
    words = _text(group / "cpu.max").split()  # "200000 100000", "max 100000"
    if not words:
        words = [_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    numbers = [_number(word) for word in words]
    if len(numbers) != 2:
        return None
    quota, period = numbers
    return None if not quota or not period else quota / period


def _bytes(file: Path) -> int | None:
    found = _number(_text(file).strip())
    return None if not found or found >= _NO_LIMIT else found


def _number(text: str) -> int | None:
    """Return a whole number above zero; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _text(file: Path) -> str:
    """Return the beginning of a file as text; empty where it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(_READ).decode("utf-8", "replace")
    except (OSError, ValueError):  # a name may hold a null character
        return ""


def _unescape(path: str) -> str:
    """Return a path of mountinfo, in which blanks are written as octal numbers."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
