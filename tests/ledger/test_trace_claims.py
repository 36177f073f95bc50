"""Which traces a run is sending, and how many spans: never two runs at once, and nobody's once its run is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger
from sync_worker.ledger.claims import claim, claimed_by
from sync_worker.ledger.daily_spans import (
    count_sending,
    count_sending_later,
    count_spans,
    spans_of_day,
    spans_of_others,
    today,
)
from sync_worker.ledger.lease import LIVE, SEND, pretend
from sync_worker.ledger.trace_claims import release_job
from tests.ledger.made import beside, die, note
from tests.support.clock import VirtualClock


@pytest.fixture
def send(live: Ledger, path: Path) -> Iterator[Ledger]:
    """Return the state file, open in another process, under the lease of `send`."""
    with beside(live, path, SEND) as opened:
        yield opened


def test_a_trace_is_sent_by_one_run_at_a_time(live: Ledger, send: Ledger) -> None:
    """Two runs would send the same observations, or one wait for ever for what the other has done."""
    assert send.begin_sending(1, [note("t"), note("u")]).others == set()
    assert live.begin_sending(1, [note("t"), note("v")]).others == {"t"}
    assert live.begin_sending(2, [note("t")], holder=1).others == set()
    assert send.begin_sending(1, [note("v"), note("w")]).others == {"v"}
    assert live.begin_sending(1, [note("t"), note("w")]).others == {"w"}  # `send` has another batch by now
    send.end_sending(1)
    assert live.begin_sending(1, [note("w")]).others == set()


def test_what_a_dead_run_was_sending_is_free(live: Ledger, send: Ledger) -> None:
    """A trace that a killed run was sending would never be sent, and its claims stay in the file."""
    send.begin_sending(1, [note("t"), note("u")])
    die(send)
    assert live.begin_sending(1, [note("t")]).others == set()
    assert live.query("SELECT DISTINCT role FROM trace_claims") == [(LIVE,)]


def test_holders_and_jobs_release_their_own(live: Ledger) -> None:
    """An interval that is done would release what another one is sending; or a dead job's traces stay taken."""
    live.begin_sending(1, [note("t")], holder=1)
    live.begin_sending(1, [note("u")], holder=2)
    live.end_sending(1, holder=1)
    assert live.query("SELECT trace_id FROM trace_claims") == [("u",)]
    release_job(live, 3)
    assert live.query("SELECT trace_id FROM trace_claims") == [("u",)]
    release_job(live, 0)
    assert live.query("SELECT trace_id FROM trace_claims") == []


def test_rerouted_traces_follow(live: Ledger) -> None:
    """Traces whose project the settings changed would go on to the old one."""
    live.store_traces(1, [note("t", project="old", origin="a"), note("u", project="old", origin="a")])
    live.begin_sending(1, [], [note("t", project="new", origin="b")])
    found = live.traces(1, ["t", "u"])
    assert [(found[trace].project, found[trace].origin) for trace in "tu"] == [("new", "b"), ("old", "a")]


def test_a_pretended_lease_sees_nobody_at_work(live: Ledger) -> None:
    """A dry run would leave out what a real run, at work on the file, is about to send."""
    claim(live, 1, [Interval(0, 10)])
    live.begin_sending(1, [note("t")])
    held = live.lease
    pretend(live, LIVE)
    assert claimed_by(live, 1, LIVE) == []
    assert live.query("SELECT * FROM trace_claims") == []
    pretend(live, SEND)
    assert live.begin_sending(1, [note("t")]).others == set()
    live.lease = held


def test_spans_in_flight_are_counted_by_run(live: Ledger, send: Ledger) -> None:
    """A daily limit would be passed by what another run is sending, or be held by what this one sends itself."""
    with send.transaction():
        count_sending(send, 1, 70)
    with live.transaction():
        count_sending(live, 1, 5)
        count_sending(live, 2, 900)
    assert spans_of_others(live, 1, live.leases()) == 70
    assert spans_of_others(send, 1, send.leases()) == 5
    count_sending_later(send, 1, 30)
    assert spans_of_others(live, 1, live.leases()) == 70
    with send.transaction():
        pass
    assert spans_of_others(live, 1, live.leases()) == 30
    die(send)
    assert spans_of_others(live, 1, live.leases()) == 0


def test_without_a_lease_nothing_is_in_flight(ledger: Ledger) -> None:
    """A command that only reads would count as one that sends."""
    with ledger.transaction():
        count_sending(ledger, 1, 5)
    count_sending_later(ledger, 1, 5)
    assert spans_of_others(ledger, 1, ledger.leases()) == 0


def test_spans_of_a_day(ledger: Ledger, clock: VirtualClock) -> None:
    """A daily limit would begin at the wrong hour, forget what was sent, or count another source."""
    day = today(ledger)
    assert spans_of_day(ledger, 1, day) == 0
    for spans in (3, 4):
        with ledger.transaction():
            count_spans(ledger, 1, spans)
    assert (spans_of_day(ledger, 1, day), spans_of_day(ledger, 2, day)) == (7, 0)
    clock.advance(86_400 * 8)
    with ledger.transaction():
        count_spans(ledger, 1, 1)
    assert (spans_of_day(ledger, 1, day), spans_of_day(ledger, 1, day + 8)) == (7, 1)
    clock.advance(86_400)
    with ledger.transaction():
        count_spans(ledger, 1, 1)
    assert spans_of_day(ledger, 1, day) == 0
