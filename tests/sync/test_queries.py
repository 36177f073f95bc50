"""What a cycle asks of the state file and of Langfuse."""

from __future__ import annotations

import asyncio
from collections import Counter

from sync_worker.ledger import lease, open_ledger
from sync_worker.ledger.lease import LIVE
from sync_worker.sync.engine import Engine
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld


def test_idle_cycle_asks_little_of_the_state_file(make_world: MakeWorld) -> None:
    """A worker that has nothing to do writes to the disk, and reads each state key for itself, for years."""
    made = make_world([row for number in range(20) for row in trace(3, start=float(number), seconds=5.0)])
    for _ in range(5):
        made.once()
        made.clock.advance(60)
    ledger = open_ledger(made.state, made.clock)
    statements: list[str] = []

    async def cycles() -> None:
        settings = made.settings()
        engine = Engine(settings, ledger, made.clock, 60.0)
        for _ in range(4):
            made.clock.advance(60)
            statements.clear()
            await engine.each(settings.sources, engine.live)

    ledger.lease = lease.take(ledger, LIVE)
    ledger.connection.set_trace_callback(statements.append)
    asyncio.run(cycles())
    ledger.connection.set_trace_callback(None)
    lease.release(ledger, ledger.lease)
    ledger.close()
    counts = Counter(statement.split()[0].upper() for statement in statements)
    assert counts["BEGIN"] <= 3
    assert counts["SELECT"] <= 15, "\n".join(statements)


def test_cycle_asks_little_of_langfuse(make_world: MakeWorld) -> None:
    """Another kind of scan lists in every cycle, or in the first one, when all is yet to be read.

    A first cycle asks for the project, for what is due in two intervals, and for what ended late; one that follows a
    minute later for the last two. A scan that is due less often begins in a later cycle: the first one notes the time.
    """
    made = make_world(trace(2))
    for most in (4, 2):
        before = len(made.langfuse.requests)
        made.once()
        asked = [request.target for request in made.langfuse.requests[before:]]
        assert len(asked) <= most, "\n".join(asked)
        made.clock.advance(60)
