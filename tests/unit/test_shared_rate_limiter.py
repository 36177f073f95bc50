"""Requests a minute of several processes on one state file."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from sync_worker.errors import StateError
from sync_worker.langfuse.rate_limiter import LEAD, RateLimited, quota_beside_live
from sync_worker.ledger.lease import BACKFILL, LIVE, RETRY
from sync_worker.ledger.requests import Requests
from tests.support.machine import NOON, ORGANIZATION, Machine, Process


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with a state file to be."""
    return Machine(tmp_path / "state.db")


def _requests(machine: Machine) -> list[tuple[str, int, int]]:
    """Return what the file says of requests: organisation, milliseconds after the beginning, whether live."""
    with closing(sqlite3.connect(machine.state)) as raw, raw:
        rows = raw.execute("SELECT bucket, sent_ms, live FROM requests ORDER BY id").fetchall()
    raw.close()
    return [(organization, sent - NOON, live) for organization, sent, live in rows]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_no_minute_holds_more_than_the_limit(machine: Machine, seed: int) -> None:
    """A backfill beside the live sync would take the limit once more, and the customer's application be refused."""
    chance = machine.chance = random.Random(seed)
    limit, estimated_limit = chance.choice([(1, None), (7, None), (24, None), (None, 3), (None, 15), (None, 100)])
    allowed = limit or (estimated_limit or 0) * 4 // 5
    end = machine.moments.seconds + 300

    async def lives(role: str) -> None:
        """Be a process of that role again and again, each for a while."""
        while machine.moments.seconds < end:
            with machine.process(role, limit=limit) as process:
                if estimated_limit is not None and process.budget.estimated_limit is None:
                    process.budget.set_limit(estimated_limit)
                until = machine.moments.seconds + chance.choice([1, 20, 70, 300])
                await process.press(min(end, until), at_once=chance.choice([1, 3]))
                await process.clock.sleep(chance.choice([0.1, 5, 61]))

    machine.run(*[lives(role) for role in chance.sample([LIVE, BACKFILL, RETRY, ""], chance.choice([2, 3, 4]))])
    assert machine.most_in_a_minute() <= allowed
    assert len(machine.sent) >= allowed  # they did not just wait


def test_run_counts_what_the_last_one_sent(machine: Machine) -> None:
    """Runs of cron a minute apart would each take a whole limit, two of them within sixty seconds."""

    async def cron() -> None:
        for _ in range(5):
            with machine.process(LIVE, limit=10) as process:
                await process.ask(9)
            machine.moments.advance(30)

    machine.run(cron())
    assert machine.most_in_a_minute() == 10


def test_idle_cron_does_not_wait(machine: Machine) -> None:
    """On the smallest plan an idle run every minute would wait for what the last one sent."""
    waits: list[float] = []

    async def cron() -> None:
        for _ in range(60):
            with machine.process(LIVE) as process:
                process.budget.set_limit(15)
                waits.extend(await process.ask(3))
            machine.moments.advance(60)

    machine.run(cron())
    assert set(waits) == {0.0}
    assert len(_requests(machine)) <= 9  # what is older goes


def test_nothing_is_written_while_no_limit_is_known(machine: Machine) -> None:
    """A self-hosted server, which has no limit, would cost a write for every request."""
    with machine.process(LIVE) as process, machine.process(BACKFILL) as other:
        watcher = sqlite3.connect(machine.state)
        before = watcher.execute("PRAGMA data_version").fetchone()
        machine.run(_asking(process, 100), _asking(other, 100))
        assert watcher.execute("PRAGMA data_version").fetchone() == before
        watcher.close()
    assert _requests(machine) == []


def test_limit_that_is_learnt_counts_what_went_out_before(machine: Machine) -> None:
    """After the first 429 another process would send a whole limit more within the same minute."""

    async def work() -> None:
        with machine.process(BACKFILL) as filling, machine.process() as asking:
            await filling.ask(6, between=1.0)
            await asking.ask(3, between=1.0)
            filling.budget.set_limit(15)
            assert await filling.ask() == [0.0]  # writes down the six before
            assert await asking.ask() == [0.0]  # hears the limit, writes down the three before
            assert asking.budget.per_minute == 12
            assert await filling.ask() == [0.0]
            assert await asking.ask() == [51.0]  # the first of all was 9 s ago
            assert await filling.ask() == [1.0]  # what went out one second later

    machine.run(work())
    assert {bucket for bucket, _, _ in _requests(machine)} == {f"{ORGANIZATION} public-api"}


@pytest.mark.parametrize("known", [True, False])
def test_block_of_one_holds_all(machine: Machine, known: bool) -> None:
    """Denied requests count too: the others would go on asking, and the limit's interval would never end."""

    async def work() -> None:
        with machine.process(LIVE) as live, machine.process(RETRY) as other:
            if known:
                live.budget.set_limit(100)
            await other.ask()
            live.budget.block(40.0)
            live.budget.block(5.0)  # does not shorten it
            await live.clock.sleep(10.0)
            other.budget.block(3.0)  # neither does that of another
            with machine.process() as late:
                waits = [*await late.ask(), *await other.ask(), *await live.ask()]
            assert [round(wait, 2) for wait in waits] == [30.0 + LEAD, 0.0, 0.0]

    machine.run(work())


def test_live_sync_goes_first_after_a_block(machine: Machine) -> None:
    """A backfill that waits for the same moment would take all that there is, and the live sync wait once more."""
    order: list[str] = []

    async def one(process: Process) -> None:
        await process.ask(9)
        order.append(process.role)

    with machine.process(BACKFILL, limit=12) as filling, machine.process(LIVE, limit=12) as live:
        filling.budget.block(30.0)
        machine.run(one(filling), one(live))
    assert order == [LIVE, BACKFILL]
    assert [role for _, role in sorted(machine.sent)[:9]] == [LIVE] * 9
    assert machine.most_in_a_minute() == 12


def test_block_beyond_patience_is_reported(machine: Machine) -> None:
    """`once` would hang for an hour, with its lease, because another run was told to come back then."""

    async def work() -> None:
        with machine.process(BACKFILL) as filling:
            filling.budget.block(3600.0)
        with machine.process(LIVE) as live:
            with pytest.raises(RateLimited) as caught:
                await live.ask(longest=300.0)
            assert caught.value.retry_after is not None
            assert 3599 < caught.value.retry_after <= 3600
            assert await live.ask(longest=None) == [pytest.approx(3600.0, abs=0.01)]
            assert await live.ask(longest=-5.0) == [0.0]  # patience is at its end, and nothing is in the way

    machine.run(work())


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 12, 24, 800])
def test_part_of_a_backfill_beside_a_live_sync(limit: int) -> None:
    """Of a small limit nothing would be left for the live sync, or nothing for the backfill."""
    assert 1 <= quota_beside_live(limit) <= max(1, limit - 1)
    assert quota_beside_live(limit) <= max(1, limit * 3 // 4)


@pytest.mark.parametrize(("limit", "others"), [(100, 75), (12, 9), (3, 2), (2, 1), (1, 1)])
def test_others_get_three_quarters_beside_a_live_sync(limit: int, others: int) -> None:
    """A backfill would be slower than the documentation says, or leave the live sync less."""
    assert quota_beside_live(limit) == others


def test_a_wait_is_no_longer_where_a_clock_was_set_back(machine: Machine) -> None:
    """A process whose clock is behind would wait for that much longer than Langfuse asked for."""

    async def work() -> None:
        with machine.process(BACKFILL) as filling:
            filling.budget.block(30.0)
        machine.moments.skew_ms = -50_000
        with machine.process(RETRY) as other:
            assert sum(await other.ask()) == pytest.approx(30.0, abs=0.1)

    machine.run(work())


@pytest.mark.slow
@pytest.mark.parametrize("limit", [2, 12, 24])
def test_busy_backfill_does_not_starve_the_live_sync(machine: Machine, limit: int) -> None:
    """A cycle of the live sync would wait for a minute with each of its requests while a backfill is at work."""
    waits: list[float] = []
    per_cycle = max(1, limit // 4)
    end = machine.moments.seconds + 1_200

    async def cycles(live: Process) -> None:
        while machine.moments.seconds < end:
            waits.append(sum(await live.ask(per_cycle)))
            await live.clock.sleep(60)

    async def begin(filling: Process) -> None:
        """Begin when the backfill, alone so far, has taken all that there is."""
        await filling.clock.sleep(7)
        with machine.process(LIVE, limit=limit) as live:
            await asyncio.gather(cycles(live), live.heartbeat(end))

    with machine.process(BACKFILL, limit=limit) as filling, machine.process(limit=limit) as verifying:
        machine.run(begin(filling), filling.press(end), verifying.press(end))
    assert waits[0] <= 60
    assert max(waits[1:]) < 0.5
    assert machine.most_in_a_minute() <= limit
    assert len([role for _, role in machine.sent if role != LIVE]) > 15 * quota_beside_live(limit)


def test_live_sync_takes_all_that_is_left(machine: Machine) -> None:
    """The live sync would catch up after an outage with a quarter of the limit although nobody takes the rest."""
    end = machine.moments.seconds + 300
    with machine.process(LIVE, limit=12) as live, machine.process(BACKFILL, limit=12) as filling:
        machine.run(live.press(end), live.heartbeat(end), filling.ask_now_and_then(end))
    assert machine.most_in_a_minute(LIVE) == 12
    assert machine.most_in_a_minute() == 12


def test_backfill_alone_takes_all(machine: Machine) -> None:
    """A backfill would leave a quarter to a live sync that does not run, or was killed long ago."""
    with machine.process(LIVE, limit=12) as live:
        left = live.ledger.query("SELECT role, token, host, boot, pid, taken_ms, heartbeat_ms FROM leases")[0]
    machine.moments.advance(121)
    with machine.process(BACKFILL, limit=12) as filling:
        filling.ledger.connection.execute(f"INSERT INTO leases VALUES ({','.join('?' * 7)})", left)
        machine.run(_asking(filling, 24))
    assert machine.most_in_a_minute() == 12


@pytest.mark.parametrize("jump", [3_600_000, -3_600_000, 30_000, -30_000])
def test_clock_that_is_set(machine: Machine, jump: int) -> None:
    """A time server that sets the clock would make processes wait for an hour, or forget what they knew was sent."""

    async def work() -> None:
        with machine.process(BACKFILL, limit=10) as one, machine.process(RETRY, limit=10) as other:
            await other.ask(3)
            await one.ask(3)
            await other.ask(1)
            one.budget.refresh()
            machine.moments.skew_ms += jump
            await one.ask(1)
            await other.ask(2)
            assert await one.ask(1) == [pytest.approx(60.0, abs=0.01)]
            other.budget.block(20.0)
            machine.moments.skew_ms -= jump
            with machine.process(limit=10) as new:
                assert sum(await new.ask(10)) <= 120

    machine.run(work())
    assert machine.most_in_a_minute(BACKFILL, RETRY) <= 10


@pytest.mark.parametrize(("ahead_s", "counts"), [(59, True), (61, False)])
def test_requests_dated_by_a_clock_that_is_ahead(machine: Machine, ahead_s: int, *, counts: bool) -> None:
    """A clock set back by seconds would let a minute be spent twice, one that was days ahead would block all."""

    async def work() -> None:
        machine.moments.skew_ms = ahead_s * 1000
        with machine.process(limit=5) as fast:
            await fast.ask(5)
        machine.moments.skew_ms = 0
        with machine.process(limit=5) as right:
            waits = await right.ask(5)
            assert waits[0] == pytest.approx(60.0 if counts else 0.0, abs=0.1)
            assert waits[1:] == [pytest.approx(0.0, abs=0.1)] * 4

    machine.run(work())


def test_what_a_wrong_clock_wrote_is_removed(machine: Machine) -> None:
    """Requests of the next century would count for ever, or the file grow with them."""

    async def work() -> None:
        machine.moments.skew_ms = 10**12
        with machine.process(limit=5) as wrong:
            await wrong.ask(5)
            wrong.budget.block(50.0)
        machine.moments.skew_ms = 0
        with machine.process(limit=5) as right:
            assert await right.ask(5) == [0.0] * 5

    machine.run(work())
    assert [sent for _, sent, _ in _requests(machine)] == [0] * 5


def test_busy_file_makes_no_request_fail(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """A lock of another program ends the run, or a request that nobody counted is never told to the others."""
    blocker = sqlite3.connect(machine.state, isolation_level=None)

    async def work() -> None:
        with machine.process(BACKFILL, limit=10) as one, machine.process(RETRY, limit=10) as other:
            one.ledger.unflushed().execute("PRAGMA busy_timeout = 1")
            await one.ask(2)
            blocker.execute("BEGIN IMMEDIATE")
            (wait,) = await one.ask()
            assert 2 < wait < 6  # it was hoped for
            assert await one.ask(3) == [0.0] * 3  # and then not any more
            one.budget.block(3.0)  # cannot be told now
            blocker.execute("ROLLBACK")
            assert await one.ask() == [pytest.approx(3.0, abs=0.01)]
            assert await other.ask(3) == [0.0] * 3
            (wait,) = await other.ask()
            assert wait > 50

    machine.run(work())
    blocker.close()
    assert machine.most_in_a_minute() == 10
    assert [record.levelno for record in caplog.records if "requests of other runs" in record.message] == [
        logging.WARNING
    ]


def test_file_that_is_busy_for_a_moment_is_waited_for(machine: Machine) -> None:
    """A transaction of another process, milliseconds long, makes a request go past the others' count."""
    blocker = sqlite3.connect(machine.state, isolation_level=None)

    async def work() -> None:
        with machine.process(BACKFILL, limit=10) as one, machine.process(RETRY, limit=10) as other:
            one.ledger.unflushed().execute("PRAGMA busy_timeout = 1")
            await other.ask(9)
            blocker.execute("BEGIN IMMEDIATE")
            asyncio.get_running_loop().call_later(1.0, blocker.execute, "ROLLBACK")
            assert await one.ask() == [pytest.approx(1.2, abs=0.01)]
            (wait,) = await one.ask()
            assert wait > 50

    machine.run(work())
    blocker.close()
    assert machine.most_in_a_minute() == 10


def test_turn_that_fails_loses_no_count(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk undoes what was numbered; another process gives the same number, and this one never reads that."""

    async def work() -> None:
        with machine.process(BACKFILL, limit=5) as one, machine.process(RETRY, limit=5) as other:
            await one.ask()
            store = one.budget._store
            assert isinstance(store, Requests)
            turn = store.transaction

            @contextmanager
            def turn_and_fail() -> Iterator[None]:
                with turn():
                    yield
                    raise StateError("the disk is full", transient=True)

            with monkeypatch.context() as patch:
                patch.setattr(store, "transaction", turn_and_fail)
                await one.ask()
            await other.ask(2)
            assert await one.ask() == [0.0]
            (wait,) = await one.ask()
            assert wait > 50

    machine.run(work())
    assert machine.most_in_a_minute() == 5


def test_own_share_of_each_process(machine: Machine) -> None:
    """A shard of a backfill would take the whole limit although it is one of four."""
    with machine.process(BACKFILL, parts=4) as shard, machine.process(RETRY, share=Fraction(1, 2)) as other:
        shard.budget.set_limit(100)
        other.budget.refresh()
        assert (shard.budget.per_minute, other.budget.per_minute) == (20, 50)


async def _asking(process: Process, times: int) -> None:
    await process.ask(times)
