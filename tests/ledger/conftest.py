"""State files for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.lease import LIVE, release, take
from tests.support.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that the test owns."""
    return VirtualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a state file may be."""
    return tmp_path / "state.db"


@pytest.fixture
def ledger(path: Path, clock: VirtualClock) -> Iterator[Ledger]:
    """Return a new state file, open."""
    opened = open_ledger(path, clock)
    yield opened
    opened.close()


@pytest.fixture
def live(ledger: Ledger) -> Iterator[Ledger]:
    """Return the state file under the lease of a live sync."""
    lease = take(ledger, LIVE)
    yield ledger
    release(ledger, lease)
