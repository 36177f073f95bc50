"""What goes wrong on either side, and what it costs: no row, and no row twice but for an answer that was lost."""

from __future__ import annotations

import gzip

import pytest

from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import ExitCode, StateError
from sync_worker.ledger import open_ledger
from tests.support import faults
from tests.support.rows import Row, recorded_rows, trace
from tests.support.state import put
from tests.sync.conftest import MakeWorld
from tests.sync.world import identities

ALL = {"SYNC_START": "2024-01-01T00:00:00Z"}
LATER = 4.2 * 86_400


def _rows(traces: int = 30) -> list[Row]:
    return [row for number in range(traces) for row in trace(3, start=float(number), seconds=5.0)]


def test_first_run_while_kelet_is_down(make_world: MakeWorld) -> None:
    """A first run against a dead Kelet marks something as done, or the next run leaves something out."""
    rows = _rows()
    made = make_world(rows)
    made.kelet.script = faults.always(faults.status(503))
    report, code = made.once()
    assert (report.spans_sent, code) == (0, ExitCode.TRANSIENT)
    assert "gave up after" in (report.error or "")
    made.kelet.script = None
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert identities(rows) == made.arrived()


def test_retry_after_is_obeyed(make_world: MakeWorld) -> None:
    """A wait that Kelet asked for is shortened."""
    made = make_world(_rows(2))
    made.kelet.script = faults.in_turn(faults.status(429, retry_after=17))
    _, code = made.once()
    assert code == 0
    assert 17.0 in made.clock.waits


def test_retry_after_beyond_patience_ends_the_run(make_world: MakeWorld) -> None:
    """`once` sits out an hour that a server asked for, or comes back before it."""
    made = make_world(_rows(2))
    made.kelet.script = faults.always(faults.status(503, retry_after=3600))
    _, code = made.once()
    assert code == ExitCode.TRANSIENT
    assert len(made.kelet.trace_requests) == 1


def test_lost_answer_repeats_that_batch_alone(make_world: MakeWorld) -> None:
    """When an answer is lost, more than its batch is sent again, or the batch is given up."""
    rows = _rows()
    made = make_world(rows, SYNC_MAX_BATCH_SPANS="40")
    made.kelet.script = faults.in_turn(faults.accept_then_drop())
    _, code = made.once()
    assert code == 0
    arrived = made.arrived()
    assert set(identities(rows)) == set(arrived)
    assert sum(arrived.values()) == 160


def test_rejected_span_is_dead_lettered_alone(make_world: MakeWorld) -> None:
    """One span that Kelet refuses takes others with it, stops the sync, or is sent again and again."""
    rows = _rows()
    rows[37]["name"] = "poison"
    made = make_world(rows)
    made.kelet.script = faults.refuse_span("poison")
    report, code = made.once()
    assert (report.spans_sent, report.dead_letters, code) == (119, 1, ExitCode.DEAD_LETTERS)
    assert identities(row for row in rows if row["name"] != "poison") == made.arrived()
    made.clock.advance(60)
    report, code = made.once()
    assert (report.spans_sent, report.dead_letters, code) == (0, 0, 0)


def test_all_rejected_pauses_and_marks_nothing(make_world: MakeWorld) -> None:
    """A Kelet that refuses everything fills the dead letters, or counts as done what it refused."""
    rows = _rows()
    made = make_world(rows)
    made.kelet.script = faults.always(faults.status(400))
    report, code = made.once()
    assert (report.spans_sent, report.dead_letters, code) == (0, 0, ExitCode.PAUSED)
    made.kelet.script = None
    _, code = made.once()
    assert code == 0
    assert identities(rows) == made.arrived()


def test_partial_success_is_noted_once(make_world: MakeWorld) -> None:
    """Spans that a partial success rejected go unnoticed, or are sent again."""
    made = make_world(_rows(3))
    made.kelet.script = faults.in_turn(faults.partial_success(2, "too old"))
    report, code = made.once()
    assert (report.spans_sent, report.dead_letters, code) == (12, 2, ExitCode.DEAD_LETTERS)
    made.clock.advance(60)
    report, _ = made.once()
    assert report.spans_sent == 0


def test_rejected_key_marks_nothing(make_world: MakeWorld) -> None:
    """A refused Kelet key counts as anything but a pause."""
    rows = _rows(3)
    made = make_world(rows)
    made.environ["KELET_API_KEY"] = "another-key-of-the-test"
    report, code = made.once()
    assert (report.spans_sent, code) == (0, ExitCode.CREDENTIALS)
    assert "KELET_API_KEY" in (report.error or "")
    assert "another-key" not in (report.error or "")


def test_missing_project_pauses(make_world: MakeWorld) -> None:
    """A project that Kelet does not know looks like success or like an outage."""
    made = make_world(_rows(1))
    made.kelet.script = faults.always(faults.no_such_project("support_test"))
    report, code = made.once()
    assert (report.spans_sent, code) == (0, ExitCode.PAUSED)
    assert "support_test" in (report.error or "")


def test_gzip_rejected_is_remembered(make_world: MakeWorld) -> None:
    """A Kelet that takes no gzip refuses each first try of every run."""
    made = make_world(_rows())
    made.kelet.script = faults.refuse_gzip()
    _, code = made.once()
    assert code == 0
    made.langfuse.rows.extend(trace(30, start=3575.0, seconds=5.0))
    made.clock.advance(60)
    before = len(made.kelet.requests)
    report, _ = made.once()
    assert report.spans_sent == 31
    assert len(made.kelet.requests) - before == 1


def test_page_faults_cost_no_row(make_world: MakeWorld) -> None:
    """Pages that fail, time out or are too large lose rows or repeat them."""
    made = make_world(recorded_rows(), LATER, **ALL)
    made.langfuse.script = faults.in_turn(
        None, faults.status(500), faults.status(500), faults.status(422), faults.drop(), faults.status(413), None,
        faults.status(524), faults.rate_limited(retry_after=3),
    )  # fmt: skip
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert identities(recorded_rows()) == made.arrived()


def test_langfuse_down_keeps_the_interval_open(make_world: MakeWorld) -> None:
    """A run that cannot read counts time as covered."""
    rows = _rows(3)
    made = make_world(rows)
    made.langfuse.script = faults.on_path("/api/public/v2/observations", faults.always(faults.status(503)))
    report, code = made.once()
    assert (report.intervals, code) == (0, ExitCode.TRANSIENT)
    made.langfuse.script = None
    made.clock.advance(3 * 86_400)
    made.once()
    assert identities(rows) == made.arrived()


def test_row_that_cannot_be_served_is_dead_lettered(make_world: MakeWorld) -> None:
    """A row that makes its page fail stops the sync, or takes other rows with it."""
    rows = _rows(10)
    poison = rows[17]["id"]
    made = make_world(rows)

    def script(request: Request) -> Reply | None:
        if "io" not in request.query.get("fields", ""):
            return None
        body = made.langfuse.answer(request, None).body
        plain = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        return faults.status(500) if poison.encode() in plain.split(b'"meta"')[0] else None

    made.langfuse.script = script
    report, code = made.once(patience=300)
    assert (report.dead_letters, code) == (1, ExitCode.DEAD_LETTERS)
    assert identities(row for row in rows if row["id"] != poison) == made.arrived()


def test_page_size_a_server_bears_is_remembered(make_world: MakeWorld) -> None:
    """Each run finds out anew, by failing, how large a page a weak server can serve."""
    made = make_world(_rows())
    made.langfuse.script = faults.when(_over_50, faults.status(422))
    made.once()
    made.clock.advance(60)
    before = made.langfuse_requests()
    made.once()
    assert made.langfuse_requests() - before <= 5
    made.langfuse.script = None
    for _ in range(8):
        made.clock.advance(60)
        made.once()
    assert made.langfuse.requests[-1].query["limit"] == "1000"


def _over_50(request: Request) -> bool:
    return int(request.query.get("limit", "0")) > 50


def test_state_of_another_mapping_of_ids_is_refused(make_world: MakeWorld) -> None:
    """After a change of the ids, everything is sent once more under new ones."""
    made = make_world(_rows(2))
    made.once()
    ledger = open_ledger(made.state, made.clock)
    put(ledger, "source 1", "id mapping", "0")
    ledger.close()
    with pytest.raises(StateError, match="mapping of ids"):
        made.once()
