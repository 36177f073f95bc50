"""What systemd is told, by a socket in its place."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.watch.port import PATIENCE


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(PATIENCE)

    def until(self, start: str) -> list[str]:
        """Return what was told up to the first message that starts so."""
        found = [self._socket.recv(4096).decode()]
        while not found[-1].startswith(start):
            found.append(self._socket.recv(4096).decode())
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"{tmp_path}/notify"
    made = Manager(name if request.param == "path" else f"@{name}")
    yield made
    made.close()


def test_a_worker_that_waits_is_alive(make_world: MakeWorld, manager: Manager) -> None:
    """systemd would restart a worker that waits for Kelet, or never learn that it has started or ends."""
    made = make_world(trace(1, seconds=5.0), SYNC_START="2026-11-20T00:00:00Z", SYNC_SETTLE="0s")
    gate = threading.Event()
    made.kelet.script = faults.held(gate)
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "800000"}
    with made.start("run", environ=environ) as process:
        reported = manager.until("READY=1")
        assert reported == ["READY=1"]
        assert manager.until("STATUS=")[-1].startswith("STATUS=default: ")
        deadline = time.monotonic() + PATIENCE
        while not made.kelet.requests:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for _ in range(5):
            manager.until("WATCHDOG=1")
        gate.set()
        process.terminate()
        manager.until("STOPPING=1")
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err


def test_the_lag_is_shown(make_world: MakeWorld, tmp_path: Path) -> None:
    """`systemctl status` would show nothing of how far it is."""
    made = make_world([], SYNC_SETTLE="0s")
    assert made.program("once")[0] == 0
    manager = Manager(str(tmp_path / "notify"))
    with made.start("run", environ={"NOTIFY_SOCKET": manager.address}) as process:
        reported = manager.until("STATUS=")
        process.kill()
    manager.close()
    assert reported[-1].startswith("STATUS=default: lag ")
    assert not any(message.startswith("WATCHDOG") for message in reported), "no watchdog was asked for"


def test_a_manager_that_is_gone(make_world: MakeWorld) -> None:
    """The worker would end for somebody who no longer listens."""
    made = make_world([])
    with made.start("run", environ={"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "400000"}) as process:
        time.sleep(1.0)
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "Traceback" in err) == (0, False)
