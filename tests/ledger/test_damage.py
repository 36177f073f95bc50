"""Values that cannot be what was written, whatever SQLite says of its pages."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path

import pytest

from sync_worker.errors import StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import open_ledger
from tests.ledger.made import another_program, letter, note, span
from tests.support.clock import VirtualClock
from tests.support.state import put


def _filled(path: Path, clock: VirtualClock) -> None:
    ledger = open_ledger(path, clock)
    source = ledger.store_source("k", "https://a", "p", "kelet", "Name", "org").id
    for number in range(40):
        trace = f"trace-{number}"
        ledger.commit_interval(
            source, "live", Interval(0, 10 + number), [note(trace, number, pending=True, context={"a": "b"})], []
        )
        ledger.commit_result(source, [span(trace, "row", number)], [letter(trace, "bad", source_id=source)])
    put(ledger, f"source {source}", "interval_ms", "10")
    put(ledger, f"source {source}", "page limits", '{"core": 1000}')
    ledger.store_run("once", 0, 0, {"sources": []})
    ledger.close()


AT_ONCE = {
    "text that is no UTF-8": "UPDATE sources SET project_name = CAST(x'ff00fe' AS TEXT)",
    "bytes": "UPDATE sources SET langfuse_url = x'6868'",
    "text for a number": "UPDATE coverage SET to_ms = 'soon'",
    "state key in bytes": "UPDATE state_keys SET value = x'31' WHERE name = 'interval_ms'",
    "state key that is no number": "UPDATE state_keys SET value = '1x' WHERE name = 'interval_ms'",
    "state key that is no JSON": "UPDATE state_keys SET value = '{\"core\": 1000' WHERE name = 'page limits'",
    "report that is no JSON": "UPDATE runs SET report = '{'",
    "nothing": "UPDATE keys SET hash = NULL",
}


@pytest.mark.parametrize("statement", AT_ONCE.values(), ids=AT_ONCE.keys())
def test_value_that_is_reported_at_opening(path: Path, clock: VirtualClock, statement: str) -> None:
    """Each command ends with another "unexpected" error and 1, and a supervisor starts it again for ever."""
    _filled(path, clock)
    another_program(path, "PRAGMA ignore_check_constraints = 1", statement)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (known,) = connection.execute("SELECT hash FROM keys").fetchone()
    if "NULL" in statement and known is not None:
        pytest.skip("SQLite does not let this happen")
    with pytest.raises(StateError, match=r"is damaged \(.*\)\. Nothing was changed\. Try: restore") as caught:
        open_ledger(path, clock)
    assert caught.value.exit_code == 2


LATER = {
    "context that is no JSON": "UPDATE traces SET context = '{' WHERE trace_id = 'trace-3'",
    "context in bytes": "UPDATE traces SET context = x'ff' WHERE trace_id = 'trace-3'",
    "id that is no UTF-8": "UPDATE sent SET observation_id = CAST(x'ff' AS TEXT) WHERE trace_id = 'trace-3'",
    "reason in bytes": "UPDATE dead_letters SET reason = x'ff' WHERE trace_id = 'trace-3'",
}


@pytest.mark.parametrize("statement", LATER.values(), ids=LATER.keys())
def test_value_that_is_reported_when_something_broke(path: Path, clock: VirtualClock, statement: str) -> None:
    """A damaged row of a large table is never found, since all of it is not read at each opening."""
    _filled(path, clock)
    another_program(path, statement)
    ledger = open_ledger(path, clock)
    with pytest.raises(StateError, match="is damaged"):
        ledger.check_damage()
    ledger.close()


def test_sound_file_is_sound(path: Path, clock: VirtualClock) -> None:
    """A file that is well counts as damaged, and nothing runs any more."""
    _filled(path, clock)
    ledger = open_ledger(path, clock)
    ledger.check_damage()
    ledger.close()


def test_text_that_cannot_be_read_is_damage(path: Path, clock: VirtualClock) -> None:
    """Python's own words for it reach the operator, with a customer's bytes in them."""
    _filled(path, clock)
    another_program(path, "UPDATE sent SET observation_id = CAST(x'ff' AS TEXT) WHERE trace_id = 'trace-3'")
    ledger = open_ledger(path, clock)
    with pytest.raises(StateError, match=r"is damaged \(it holds text that is no UTF-8\)"):
        ledger.completed_observations(1, ["trace-3"])
    ledger.close()


@pytest.mark.slow
def test_any_flipped_byte(path: Path, tmp_path: Path, clock: VirtualClock) -> None:
    """A byte of a disk that fails ends a command with an error that nobody foresaw."""
    _filled(path, clock)
    sound = path.read_bytes()
    chance = random.Random(7)
    reported = 0
    for number in range(150):
        broken = bytearray(sound)
        for _ in range(chance.choice([1, 4, 40])):
            broken[chance.randrange(100, len(broken))] = chance.randrange(256)
        file = tmp_path / f"{number}.db"
        file.write_bytes(broken)
        try:
            ledger = open_ledger(file, clock)
        except StateError:
            reported += 1
            continue
        try:
            for source in ledger.sources():
                ledger.traces(source.id, [f"trace-{one}" for one in range(40)])
                ledger.completed_observations(source.id, [f"trace-{one}" for one in range(40)])
                ledger.completed_intervals(source.id, "live")
            ledger.dead_letters()
            ledger.last_run()
            ledger.store_run("once", 0, 0, {})
        except StateError:
            reported += 1
        except Exception:  # noqa: BLE001 - what it is, is what the file is asked for
            with pytest.raises(StateError):
                ledger.check_damage()
            reported += 1
        finally:
            ledger.close()
    assert reported > 30
