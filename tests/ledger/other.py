"""What a second process does with a state file: `python -m tests.ledger.other VERB FILE …`."""

from __future__ import annotations

import itertools
import sqlite3
import sys
from pathlib import Path

from sync_worker.clock import SystemClock
from sync_worker.errors import SyncError
from sync_worker.intervals import Interval
from sync_worker.ledger import copies, open_ledger
from sync_worker.ledger.lease import release, take
from tests.ledger.made import letter, note, span
from tests.support.state import put


def _say(text: str) -> None:
    print(text, flush=True)


def lease(path: Path, role: str) -> None:
    """Take a lease, say so, wait, give it back."""
    ledger = open_ledger(path, SystemClock())
    held = take(ledger, role)
    _say("held")
    sys.stdin.readline()
    release(ledger, held)
    ledger.close()


def start(path: Path) -> None:
    """Open a state file at the word, many new ones one after the other, and write into each."""
    _say("ready")
    sys.stdin.readline()
    for number in range(20):
        ledger = open_ledger(path.with_name(f"{number}-{path.name}"), SystemClock())
        put(ledger, "scope", str(number), sys.argv[3])
        ledger.close()
    _say("done")


def lock(path: Path) -> None:
    """Hold a transaction until the word."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    _say("locked")
    sys.stdin.readline()
    connection.execute("COMMIT")


def commit(path: Path) -> None:
    """Commit answers and intervals without end; say each number when the call that keeps it has returned."""
    ledger = open_ledger(path, SystemClock())
    first = ledger.query("SELECT coalesce(max(start_ms) + 1, 0) FROM sent")[0][0]
    for number in itertools.count(first):
        trace = f"t{number // 5}"
        ledger.store_traces(1, [note(trace, number)])
        ledger.commit_result(1, [span(trace, f"r{number}", number)], [letter(trace, f"bad{number}")])
        ledger.commit_interval(1, "live", Interval(max(0, number - 1), number + 1), [], [])
        _say(str(number))


def adopt(path: Path) -> None:
    """Commit without end as a run does, counting the commits; say each number."""
    ledger = open_ledger(path, SystemClock())
    held = take(ledger, "live")
    copies.check_latest(ledger)
    copies.adopt(ledger)
    for number in itertools.count():
        put(ledger, "scope", "name", str(number))
        _say(str(number))
    release(ledger, held)


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:4] if sys.argv[1] == "lease" else ())
    except SyncError as fault:
        _say(f"{fault.exit_code} {fault}")
        sys.exit(fault.exit_code)
