"""A disk that is full: said so, nothing half done, and on with it when there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_worker.errors import StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, open_ledger
from tests.ledger.made import letter, note, sent_observations, span
from tests.support.clock import VirtualClock
from tests.support.state import put


def _is_full(error: StateError) -> None:
    assert "is full or failing" in str(error)
    assert "Try: make room" in str(error)
    assert error.exit_code == 1  # `run` tries again at the next cycle


def _fill_with_answers(ledger: Ledger) -> int:
    """Commit answers until the disk is full; return how many went in."""
    for number in range(100_000):
        try:
            ledger.commit_result(1, [span(f"t{number}", f"r{row}", number) for row in range(100)], [])
        except StateError as error:
            _is_full(error)
            return number
    raise AssertionError("the disk is never full")


def test_page_limit_rolls_the_whole_answer_back(ledger: Ledger) -> None:
    """Half an answer would count as done, or the next one would be written into the same transaction."""
    ledger.connection.execute("PRAGMA max_page_count = 40")
    done = _fill_with_answers(ledger)
    assert not ledger.connection.in_transaction
    assert sent_observations(ledger) == {(f"t{number}", f"r{row}") for number in range(done) for row in range(100)}
    ledger.connection.execute("PRAGMA max_page_count = 4000")
    ledger.commit_result(1, [span(f"t{done}", "r", done)], [])
    assert (f"t{done}", "r") in sent_observations(ledger)


def test_interval_is_not_completed_when_its_notes_do_not_fit(ledger: Ledger) -> None:
    """Coverage without the traces that were pending in it: their rows would never be sent."""
    ledger.commit_interval(1, "live", Interval(0, 10), [], [])
    pages = ledger.query("PRAGMA page_count")[0][0]
    ledger.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    notes = [note(f"t{number}", 10, pending=True, context={"text": "x" * 2000}) for number in range(100)]
    with pytest.raises(StateError) as caught:
        ledger.commit_interval(1, "live", Interval(10, 20), notes, [letter()])
    _is_full(caught.value)
    assert ledger.completed_intervals(1, "live") == [Interval(0, 10)]
    assert (ledger.pending(1).count, ledger.dead_letters()) == (0, [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of half a megabyte, where that is permitted."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.process
def test_full_disk_and_room_again(small_disk: Path, clock: VirtualClock) -> None:
    """A disk that is really full fails in other places (the log, its index, the folding in) than SQLite's own limit."""
    ledger = open_ledger(small_disk / "state.db", clock)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(128 * 1024))
    done = _fill_with_answers(ledger)
    assert done > 0
    ledger.close()

    again = open_ledger(small_disk / "state.db", clock)
    assert sent_observations(again) == {(f"t{number}", f"r{row}") for number in range(done) for row in range(100)}
    ballast.unlink()
    again.commit_result(1, [span(f"t{done}", "r", done)], [])
    assert (f"t{done}", "r") in sent_observations(again)
    again.close()


@pytest.mark.process
@pytest.mark.parametrize("left", [0, 4, 8, 12, 16, 24, 32, 40, 48, 64])
def test_first_start_on_a_full_disk(small_disk: Path, clock: VirtualClock, left: int) -> None:
    """Half a new file would be taken for another program's, or for damage, when there is room again."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((512 - left) * 1024))
    try:
        ledger = open_ledger(small_disk / "state.db", clock)
        put(ledger, "scope", "name", "x" * 50_000)
        ledger.close()
    except StateError as error:
        _is_full(error)
    ballast.unlink()
    ledger = open_ledger(small_disk / "state.db", clock)
    put(ledger, "scope", "name", "value")
    assert ledger.stored_key("scope", "name") == "value"
    ledger.close()
