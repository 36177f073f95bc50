"""How many jobs there may be, when one sees that nobody leads it, and what it passes on."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from sync_worker.clock import Stopped
from sync_worker.errors import ConfigError, LeaseHeld, SourcePaused, SyncError, TransientError
from sync_worker.measurements import DELIVERY_SECONDS, LANGFUSE_REQUESTS, Measurements
from sync_worker.parallel import machine
from sync_worker.parallel.job import JobClock
from sync_worker.parallel.machine import MOST, Room, room
from sync_worker.parallel.messages import PackedError
from sync_worker.pipeline.report import SourceReport
from sync_worker.watch import logs

MIB = 1024 * 1024
V2 = "0::/a b/c\n", "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = (
    "5:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n",
    """33 1 0:29 /docker/x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct
34 1 0:30 / /sys/fs/cgroup/my\\040memory ro - cgroup cgroup rw,memory
""",
)


def _root(folder: Path, version: tuple[str, str], **files: str | bytes) -> Path:
    """Make a root folder with cgroup files: by their path below the cgroups, with `__` for a slash."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(version[0])
    (folder / "proc/self/mountinfo").write_text(version[1])
    for name, content in files.items():
        file = folder / "sys/fs/cgroup" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture(autouse=True)
def _cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cores", lambda: 16)


@pytest.mark.parametrize(
    ("version", "files", "expected"),
    [
        (V2, {}, Room(16, None)),
        (V2, {"cpu.max": "max 100000\n", "memory.max": "max\n"}, Room(16, None)),
        (V2, {"a b__c__cpu.max": "400000 100000\n", "a b__c__memory.max": f"{600 * MIB}\n"}, Room(4, 600 * MIB)),
        (V2, {"a b__cpu.max": "250000 100000\n", "a b__c__cpu.max": "900000 100000\n"}, Room(2, None)),
        (V2, {"cpu.max": "50000 100000", "memory.max": "0"}, Room(1, None)),
        (V2, {"cpu.max": "-1 0", "memory.max": "9" * 400}, Room(16, None)),
        (V2, {"cpu.max": b"\xff\x00 \xff", "memory.max": b"\x00" * 100_000}, Room(16, None)),
        (V2, {"cpu.max__x": "", "memory.max__x": ""}, Room(16, None)),  # folders
        (V2, {"cpu.max": "100000 0\n"}, Room(16, None)),
        (("0::/../../x\n", V2[1]), {"cpu.max": "300000 100000"}, Room(3, None)),  # outside of its own namespace
        (("0::\n::\n\n:\n0", "x - y\n30 1 0:26 / - cgroup2\n" + "- " * 9), {"cpu.max": "1 1"}, Room(16, None)),
        (
            V1,
            {
                "cpu__cpu.cfs_quota_us": "300000\n", "cpu__cpu.cfs_period_us": "100000\n",
                "my memory__docker__x__memory.limit_in_bytes": str(512 * MIB),
                "my memory__memory.limit_in_bytes": "9223372036854771712\n",
            },
            Room(3, 512 * MIB),
        ),
        (V1, {"cpu__cpu.cfs_quota_us": "-1\n", "cpu__cpu.cfs_period_us": "100000\n"}, Room(16, None)),
    ],
)  # fmt: skip
def test_room(tmp_path: Path, version: tuple[str, str], files: dict[str, str], expected: Room) -> None:
    """A container with two cores and 512 MiB gets a job for each core of its host, and is killed for its memory."""
    assert room(_root(tmp_path, version, **files)) == expected


def test_room_without_cgroups(tmp_path: Path) -> None:
    """Where there is no /proc, a backfill ends before it starts."""
    assert room(tmp_path) == Room(16, None)


def test_jobs_that_fit() -> None:
    """The process that leads the jobs has no memory left."""
    assert Room(16, None).jobs == MOST
    assert Room(2, None).jobs == 2
    assert [Room(16, mib * MIB).jobs for mib in (1, 449, 450, 599, 600)] == [1, 1, 2, 2, 3]


def test_a_job_sees_that_nobody_leads_it() -> None:
    """It sends another request after its run was killed."""
    reading, writing = os.pipe()
    clock = JobClock(reading)
    os.write(writing, b"a message that was not read yet")
    clock.check()
    os.close(writing)
    with pytest.raises(Stopped):
        clock.check()
    assert clock.stopping
    os.close(reading)


@pytest.mark.parametrize(
    "error",
    [
        LeaseHeld("held"), ConfigError("one", "two"), TransientError("later", retry_after=3.5, overloaded=True),
        SourcePaused("paused"),
    ],
)  # fmt: skip
def test_errors_arrive_as_they_were(error: SyncError) -> None:
    """The run ends with another exit code, or does not wait as long as it was asked to."""
    found = pickle.loads(pickle.dumps(PackedError.of(error))).unpack()
    assert (type(found), str(found), found.exit_code, found.lines) == (
        type(error), str(error), error.exit_code, error.lines,
    )  # fmt: skip
    assert vars(found) == vars(error)


def test_other_errors_arrive_as_one_line() -> None:
    """A run ends with a traceback, or without a word, where a job fails unexpectedly."""
    error = TransientError("x")
    vars(error)["held"] = lambda: None  # cannot be sent
    assert str(PackedError.of(error).unpack()) == "x"
    assert str(PackedError.of(KeyError("x")).unpack()).startswith("unexpected KeyError: 'x'. Nothing counts as sent")


def test_what_jobs_count_is_added() -> None:
    """A report or a metric shows one process of several."""
    one, other = Measurements(), Measurements()
    for measured in (one, other):
        measured.count(LANGFUSE_REQUESTS, "s", "e", "200", by=2)
        measured.observe(DELIVERY_SECONDS, 0.2, "s")
    other.count(LANGFUSE_REQUESTS, "s", "e", "500")
    one.add(other.as_json())
    assert one.counters(LANGFUSE_REQUESTS) == {("s", "e", "200"): 4, ("s", "e", "500"): 1}
    (histogram,) = one.histograms(DELIVERY_SECONDS).values()
    assert (sum(histogram.counts), round(histogram.total or 0, 6)) == (2, 0.4)
    report, job = SourceReport("s", spans_sent=1, traces_pending=5), SourceReport("s", spans_sent=2, traces_pending=5)
    job.notes["odd"], job.not_read = 3, ["dev"]
    report.add(job)
    assert (report.spans_sent, report.traces_pending, report.notes["odd"], report.not_read) == (3, 5, 3, ["dev"])


def test_an_entry_of_a_job_is_its_message_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Level and logger stand in it once more: `warning: job 2: WARNING:sync_worker.x: …`."""
    sent: list[dict[str, Any]] = []
    root, ours = logging.getLogger(), logging.getLogger("sync_worker")
    monkeypatch.setattr(root, "handlers", [])
    before = root.level, ours.level
    try:
        logs.set_up_job("info", 2, sent.append)
        logging.getLogger("sync_worker.x").warning("it took %d s", 5)
    finally:
        root.setLevel(before[0])
        ours.setLevel(before[1])
    assert [(one["msg"], one["levelname"], one["job"]) for one in sent] == [("it took 5 s", "WARNING", 2)]
