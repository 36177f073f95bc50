"""Several targets of one source: each gets all of it once, and none waits for another."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import pytest

from sync_worker.errors import ExitCode
from sync_worker.ledger import open_ledger
from sync_worker.ledger.lease import LIVE, release, take
from sync_worker.pipeline.report import SourceReport
from sync_worker.sync.engine import Engine
from tests.support import faults
from tests.support.programs import Program
from tests.support.receivers import AnyReceiver
from tests.support.rows import Row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

KEY = "Bearer phoenix-key-of-the-test"
#: Of traces as old as those of the tests, by the clock of this machine.
LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}

PHOENIX = """
[[sources.targets]]
sync_target = "phoenix"
sync_target_url = "{url}"
sync_target_key = "phoenix-key-of-the-test"
sync_target_project = "lab"
sync_target_encoding = "{encoding}"
"""
KELET = '\n[[sources.targets]]\nsync_target = "kelet"\n'


@pytest.fixture
def phoenix() -> Iterator[AnyReceiver]:
    """A receiver like Phoenix."""
    with ExitStack() as stack:
        yield stack.enter_context(AnyReceiver("/v1/traces", KEY))


def _to(made: World, *targets: str, phoenix: AnyReceiver | None = None, encoding: str = "protobuf") -> None:
    """Have the source sent to these targets."""
    written = "".join(targets).format(url=phoenix.url if phoenix else "", encoding=encoding)
    (made.folder / "sync.toml").write_text(f'[[sources]]\nname = "prod"\n{written}')


def _arrived(receiver: AnyReceiver) -> Counter[tuple[str, str]]:
    return Counter((span.trace_id, span.span_id) for span in receiver.spans)


def _once(made: World, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code, result = made.program_json("once", *arguments)
    return code, {one["source"]: one for one in result["sources"]}


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_each_target_gets_everything_once(make_world: MakeWorld, phoenix: AnyReceiver, encoding: str) -> None:
    """What was sent to one target counts for the other, or one gets what is meant for the other."""
    rows = [*trace(3), *trace(2)]
    made = make_world(rows, **LONG_AGO)
    name = {"protobuf": "phoenix", "json": "otlp"}[encoding]  # Phoenix takes no JSON
    _to(made, KELET, PHOENIX.replace('"phoenix"', f'"{name}"'), phoenix=phoenix, encoding=encoding)
    code, reports = _once(made)
    assert code == 0
    assert {source: (one["target"], one["spans_sent"]) for source, one in reports.items()} == {
        "prod": ("kelet", len(rows)),
        f"prod/{name}": (name, len(rows)),
    }
    assert made.arrived() == _arrived(phoenix) == identities(rows)
    if name == "phoenix":
        assert {span.resource["openinference.project.name"] for span in phoenix.spans} == {"lab"}
    assert not any(key.startswith("kelet.") for span in phoenix.spans for key in {**span.attributes, **span.resource})
    assert {span.project for span in made.kelet.spans} == {"support_test"}
    assert _once(made)[1][f"prod/{name}"]["spans_sent"] == 0
    assert made.arrived() == _arrived(phoenix) == identities(rows)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (faults.status(401), ExitCode.CREDENTIALS),
        (faults.status(404), ExitCode.PAUSED),
        (faults.status(503), ExitCode.TRANSIENT),
        (faults.drop(), ExitCode.TRANSIENT),
    ],
)
def test_target_that_fails_stops_no_other(
    make_world: MakeWorld, phoenix: AnyReceiver, reply: Any, expected: int
) -> None:
    """A target that is down keeps spans from another, or does not get them when it is back."""
    rows = [*trace(3), *trace(2)]
    made = make_world(rows, **LONG_AGO, SYNC_PATIENCE="1s")
    _to(made, PHOENIX, KELET, phoenix=phoenix)
    phoenix.script = faults.always(reply)
    code, reports = _once(made)
    assert code == expected
    assert "target phoenix" in reports["prod"]["error"]
    assert (reports["prod/kelet"]["error"], reports["prod/kelet"]["spans_sent"]) == (None, len(rows))
    assert made.arrived() == identities(rows)
    phoenix.script = None
    code, reports = _once(made)
    assert (code, reports["prod"]["spans_sent"], reports["prod/kelet"]["spans_sent"]) == (0, len(rows), 0)
    assert made.arrived() == _arrived(phoenix) == identities(rows)


def _recent(children: int) -> list[Row]:
    """Return a trace that starts and ends now, by the clock of this machine."""
    return trace(children, start=datetime.now(UTC), seconds=0.0)


def _cycle(made: World) -> dict[str, SourceReport]:
    """Do one live cycle of all sources in this process, by the virtual clock."""
    settings = made.settings()
    ledger = open_ledger(settings.state_path, made.clock)
    try:
        lease = take(ledger, LIVE)
        engine = Engine(settings, ledger, made.clock, 1.0)
        reports, code = asyncio.run(engine.each(settings.sources, engine.live))
        assert code == 0
        release(ledger, lease)
        return {report.source: report for report in reports}
    finally:
        ledger.close()


def _wait(until: Callable[[], bool], process: Program) -> None:
    ends = time.monotonic() + 60.0
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)


def _sent(made: World) -> dict[str, int]:
    """Return the observations that the state file knows as sent, by target."""
    with closing(sqlite3.connect(made.state)) as db, db:
        return dict(
            db.execute("SELECT target, count(sent.source_id) FROM sources LEFT JOIN sent ON source_id = id GROUP BY 1")
        )


def test_target_that_hangs_slows_no_other(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """Cycles of `run` wait for a target that accepts connections and never answers, and its backlog is buffered."""
    first = _recent(3)
    made = make_world(first, SYNC_INTERVAL="1s", SYNC_SETTLE="0s", SYNC_START="1h")
    _to(made, PHOENIX, KELET, phoenix=phoenix)
    phoenix.script = faults.always(faults.slow(600.0))
    with made.start("run") as process:
        try:
            _wait(lambda: len(phoenix.requests) > 0 and len(made.kelet.spans) == len(first), process)
            for _ in range(3):  # several cycles later
                made.langfuse.rows.extend(_recent(2))
                _wait(lambda: len(made.kelet.spans) == len(made.langfuse.rows), process)
            assert phoenix.spans == []
            _wait(lambda: _sent(made)["kelet"] == len(made.langfuse.rows), process)
        finally:
            process.kill()
    # Nothing is kept for the one that fell behind: the state file has no record of it, and it reads for itself.
    assert _sent(made) == {"phoenix": 0, "kelet": len(made.langfuse.rows)}
    phoenix.script = None
    phoenix.clear()
    assert _once(made)[0] == 0
    assert _arrived(phoenix) == made.arrived()
    assert set(_arrived(phoenix).values()) == {1}


def test_target_that_is_added_gets_all_from_its_own_start(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """A new target gets nothing of what another already has, or that one gets it again."""
    rows = trace(3)
    made = make_world(rows, **LONG_AGO)
    assert _once(made)[1]["default"]["spans_sent"] == len(rows)
    _to(made, KELET, PHOENIX, phoenix=phoenix)
    code, reports = _once(made)
    assert (code, reports["prod"]["spans_sent"], reports["prod/phoenix"]["spans_sent"]) == (0, 0, len(rows))
    assert made.arrived() == _arrived(phoenix) == identities(rows)


def test_target_that_was_removed_comes_back(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """What was sent to a target is forgotten while it is in no settings, or what came meanwhile never reaches it."""
    made = make_world(trace(3), SYNC_START="2h")
    phoenix.now = lambda: made.clock.now_ms() / 1000
    _to(made, KELET, PHOENIX, phoenix=phoenix)
    _cycle(made)
    _to(made, KELET)
    made.clock.advance(300)
    made.langfuse.rows.extend(trace(2, start=3700))
    assert list(_cycle(made)) == ["prod"]
    assert len(phoenix.spans) == 4
    _to(made, PHOENIX, KELET, phoenix=phoenix)  # in another order, and so under other names
    reports = _cycle(made)
    assert (reports["prod"].spans_sent, reports["prod/kelet"].spans_sent) == (3, 0)
    assert made.arrived() == _arrived(phoenix)
    assert set(made.arrived().values()) == {1}


def test_one_target_alone(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """`--source prod` leaves out a target of it, or one target cannot be named alone."""
    made = make_world(trace(1), **LONG_AGO)
    _to(made, KELET, PHOENIX, phoenix=phoenix)
    assert list(_once(made, "--source", "prod/phoenix")[1]) == ["prod/phoenix"]
    assert made.kelet.spans == []
    assert list(_once(made, "--source", "prod")[1]) == ["prod", "prod/phoenix"]
    assert len(made.kelet.spans) == len(phoenix.spans) == 2


def test_status_has_a_line_for_each_target(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """An operator would not see which target is behind."""
    made = make_world(trace(1), **LONG_AGO, SYNC_PATIENCE="1s")
    _to(made, KELET, PHOENIX, phoenix=phoenix)
    phoenix.script = faults.always(faults.status(503))
    _once(made)
    _, state = made.program_json("status")
    by_target = {one["target"]: one for one in state["sources"]}
    assert by_target["phoenix"]["watermark"] < by_target["kelet"]["watermark"]


def test_a_key_of_a_target_is_shown_nowhere(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """The key of a target gets into logs, reports, the state file or `config show`."""
    made = make_world(trace(1), **LONG_AGO, SYNC_PATIENCE="1s", SYNC_LOG_LEVEL="debug")
    _to(made, KELET, PHOENIX, phoenix=phoenix)
    phoenix.script = faults.always(faults.status(400, message="phoenix-key-of-the-test is not right"))
    texts = [
        part for command in (("once",), ("status",), ("check",), ("config", "show")) for part in _output(made, command)
    ]
    assert "phoenix-key-of-the-test" not in "".join(texts)
    assert b"phoenix-key-of-the-test" not in b"".join(
        file.read_bytes() for file in made.folder.iterdir() if file.name.startswith(made.state.name)
    )


def _output(made: World, command: tuple[str, ...]) -> tuple[str, str]:
    _, out, err = made.program(*command, "--json")
    return out, err


def test_check_tests_each_target(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """A target with a wrong key, or at a wrong address, is found out by the first span."""
    made = make_world([], **LONG_AGO)
    _to(made, KELET, PHOENIX, phoenix=phoenix)
    code, out, _ = made.program("check", "--json")
    found = {line["check"]: line for line in json.loads(out)["checks"]}
    assert code == 0, out
    assert found["prod: Kelet key"]["ok"]
    assert found["prod/phoenix: Target phoenix key"]["found"] == (
        f"{phoenix.url}/v1/traces accepted an empty request for project 'lab'"
    )
    phoenix.authorization = "Bearer another"
    code, out, _ = made.program("check", "--json")
    (line,) = (line for line in json.loads(out)["checks"] if not line["ok"])
    assert code == ExitCode.CREDENTIALS
    assert line["check"] == "prod/phoenix: Target phoenix key"
    assert "SYNC_TARGET_KEY" in line["found"]


def test_gzip_that_one_target_refuses(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """One target that takes no gzip has the other's requests go uncompressed."""
    made = make_world(trace(40), SYNC_START="2h")
    phoenix.now = lambda: made.clock.now_ms() / 1000
    _to(made, KELET, PHOENIX, phoenix=phoenix)
    phoenix.script = faults.refuse_gzip(415)
    for start in (3700, 4000):
        _cycle(made)
        phoenix.clear()
        made.clock.advance(300)
        made.langfuse.rows.extend(trace(40, start=start))
    _cycle(made)
    assert {request.headers.get("content-encoding") for request in phoenix.trace_requests} == {None}
    assert {request.headers.get("content-encoding") for request in made.kelet.trace_requests} == {"gzip"}


def test_run_ends_gently_while_a_target_hangs(make_world: MakeWorld, phoenix: AnyReceiver) -> None:
    """SIGTERM waits for ever for a target that never answers."""
    made = make_world(trace(1), SYNC_INTERVAL="1s", **LONG_AGO)
    _to(made, KELET, PHOENIX, phoenix=phoenix)
    phoenix.script = faults.always(faults.slow(600.0))
    with made.start("run") as process:
        _wait(lambda: len(phoenix.requests) > 0, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == ExitCode.OK
