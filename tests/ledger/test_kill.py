"""`kill -9` at random moments: what a commit returned for is there, and the file is whole."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sync_worker.intervals import Interval
from sync_worker.ledger import open_ledger
from tests.ledger.made import Other, sent_observations
from tests.support.clock import VirtualClock


def _killed_rounds(path: Path, seed: int, rounds: int) -> int:
    chance = random.Random(seed)
    printed: list[int] = []
    for _ in range(rounds):
        with Other("commit", path) as other:
            printed += [int(other.line()) for _ in range(chance.randint(1, 40))]
            time.sleep(chance.uniform(0.0, 0.004))  # so that it dies anywhere within a commit
            lines = other.kill().split("\n")
        printed += [int(line) for line in lines[:-1]]  # a line without its end was cut off in the middle

        ledger = open_ledger(path, VirtualClock())  # recovers what the dead process left, and checks all pages
        kept = {int(row.removeprefix("r")) for _, row in sent_observations(ledger)}
        (completed,) = ledger.completed_intervals(1, "live")
        letters = len(ledger.dead_letters())
        traces = ledger.query("SELECT count(*) FROM traces")[0][0]
        assert ledger.query("PRAGMA integrity_check") == [("ok",)]
        ledger.close()

        assert set(printed) <= kept
        assert kept == set(range(len(kept)))
        assert len(kept) - 1 <= letters <= len(kept)
        assert completed.start == 0
        assert max(printed) + 1 <= completed.end <= len(kept)
        assert traces in {(len(kept) + 4) // 5, len(kept) // 5 + 1}
    return len(printed)


@pytest.mark.process
def test_what_was_committed_survives_a_kill(tmp_path: Path) -> None:
    """What Kelet answered would be forgotten and sent again, or time would count as covered that is not."""
    with ThreadPoolExecutor() as lanes:
        runs = [lanes.submit(_killed_rounds, tmp_path / f"{seed}.db", seed, 5) for seed in (1, 2)]
    assert sum(run.result() for run in runs) >= 100


@pytest.mark.process
def test_state_of_a_killed_run_is_read_by_a_interval(tmp_path: Path) -> None:
    """The intervals of two runs, one killed, would not be one interval."""
    path = tmp_path / "state.db"
    with Other("commit", path) as other:
        while int(other.line()) < 3:
            pass
        other.kill()
    ledger = open_ledger(path, VirtualClock())
    (before,) = ledger.completed_intervals(1, "live")
    ledger.commit_interval(1, "live", Interval(before.end, before.end + 5), [], [])
    assert ledger.completed_intervals(1, "live") == [Interval(0, before.end + 5)]
    ledger.close()
