"""Reading beside a run, and where nothing can be written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sync_worker.errors import ExitCode, StateError
from sync_worker.ledger import Ledger, file, open_ledger, open_scratch, snapshot
from sync_worker.ledger.reading import open_to_read
from tests.ledger.made import another_program, picture, sent_observations, span
from tests.support.clock import VirtualClock


def _until() -> float:
    return time.monotonic() + 60.0


def test_a_reader_sees_one_moment_and_writes_nothing(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A page of numbers would mix two moments, or a reader change the state file."""
    ledger.commit_result(1, [span("t", "r")], [])
    with open_to_read(path, clock, _until()) as reader:
        assert sent_observations(reader) == {("t", "r")}
        ledger.commit_result(1, [span("t", "s")], [])
        assert sent_observations(reader) == {("t", "r")}
    with open_to_read(path, clock, _until()) as reader:
        assert sent_observations(reader) == {("t", "r"), ("t", "s")}
    with pytest.raises(StateError), open_to_read(path, clock, _until()) as reader:
        reader.connection.execute("DELETE FROM sent")
    assert sent_observations(ledger) == {("t", "r"), ("t", "s")}


def test_what_cannot_be_read_is_reported(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A file that is gone would be said to be slow, or time that is over to be a file that is gone."""
    with pytest.raises(StateError, match="is not there") as gone, open_to_read(Path(f"{path}x"), clock, _until()):
        pass
    assert gone.value.exit_code == ExitCode.USAGE
    with pytest.raises(StateError, match="cannot be read in time") as late, open_to_read(path, clock, 0.0):
        pass
    assert late.value.exit_code == ExitCode.TRANSIENT
    ledger.close()
    another_program(path, "PRAGMA user_version = 1")
    with pytest.raises(StateError, match="no state file of this version"), open_to_read(path, clock, _until()):
        pass


def test_a_query_ends_when_its_time_is_over(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A page would hang on a large state file."""
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with (
        pytest.raises(StateError, match="cannot be read in time"),
        open_to_read(path, clock, time.monotonic() + 0.2) as reader,
    ):
        reader.query(endless)


@pytest.fixture
def unwritable(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a state file on a read-only mount, used by nobody."""
    ledger.commit_result(1, [span("t", "r")], [])
    ledger.close()
    for module in (file, snapshot):
        monkeypatch.setattr(module, "is_writable", lambda _: False)
    return path


def test_where_nothing_can_be_written_a_copy_is_read(unwritable: Path, clock: VirtualClock) -> None:
    """`status` on a read-only mount would fail, leave files beside the state file, or change it."""
    before = picture(unwritable.parent)
    opened = open_ledger(unwritable, clock, only_reads=True)
    assert sent_observations(opened) == {("t", "r")}
    opened.commit_result(1, [span("t", "s")], [])
    opened.close()
    assert picture(unwritable.parent) == before


def test_a_scratch_copy_holds_all_and_leaves_nothing(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A dry run would lack the latest commits, or store what it only tried."""
    ledger.commit_result(1, [span("t", "r")], [])
    scratch = open_scratch(path, clock)
    assert sent_observations(scratch) == {("t", "r")}
    scratch.commit_result(1, [span("t", "s")], [])
    scratch.close()
    assert sent_observations(ledger) == {("t", "r")}
    ledger.close()
    before = picture(path.parent)
    scratch = open_scratch(path, clock)
    assert sent_observations(scratch) == {("t", "r")}
    scratch.close()
    assert picture(path.parent) == before
    empty = open_scratch(path.with_name("none.db"), clock)
    assert sent_observations(empty) == set()
    empty.close()
    assert not path.with_name("none.db").exists()
