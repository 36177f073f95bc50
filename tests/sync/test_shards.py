"""A backfill on several machines: together they do what one does, and one state file knows it all afterwards."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sync_worker.clock import Stopped
from sync_worker.demo.receiver import ReceivedSpan, TraceRequest
from sync_worker.errors import ExitCode
from sync_worker.intervals import Interval
from sync_worker.ledger import open_ledger
from sync_worker.ledger.lease import BACKFILL, release, take
from sync_worker.sync.shards import Shard
from sync_worker.times import moment_ms
from tests.support import faults
from tests.support.rows import NOON, Row, row, trace
from tests.support.state import put
from tests.sync.conftest import MakeWorld
from tests.sync.scored import score_on
from tests.sync.world import World, identities, world

START = moment_ms(NOON)
HOURS = 6
END = START + HOURS * 3_600_000
RANGE = ("--from", "2026-11-20T12:00:00Z", "--to", "2026-11-20T18:00:00Z")
#: Long enough after the range that what was sent of it is forgotten but for its count.
LONG_AFTER = 40 * 86_400.0


def history(every: float = 600.0) -> list[Row]:
    """Return traces that begin every so many seconds and last for 360, so that many cross the borders of parts."""
    return [
        one
        for number in range(int((HOURS * 3600 - 400) / every))
        for one in trace(
            3, start=number * every + number % 7, seconds=360.0, session=f"s{number}", user=f"u{number % 5}",
            tags=["t"] if number % 2 else [],
        )
    ]  # fmt: skip


def shards(of: int) -> list[Shard]:
    """Return all shards of a backfill."""
    return [Shard(index, of) for index in range(of)]


def arrived(made: World) -> dict[tuple[str, str], ReceivedSpan]:
    """Return the spans that arrived, none of them twice; where this Langfuse is differs from test to test."""
    assert set(made.arrived().values()) == {1}
    for span in made.kelet.spans:
        for name, value in span.attributes.items():
            if isinstance(value, str):
                span.attributes[name] = value.replace(made.langfuse.url, "")
    return {(span.trace_id, span.span_id): span for span in made.kelet.spans}


def all_shards(made: World, of: int) -> int:
    """Backfill the range by shards, one after the other; returns how many spans were sent."""
    return sum(made.shard(shard, START, END)[0].spans_sent for shard in shards(of))


def merged(made: World, of: int, *more: str) -> dict[str, Any]:
    """Merge the shards' state files into the one of the settings."""
    code, out = made.program_json("state", "merge", *(str(made.shard_state(shard)) for shard in shards(of)), *more)
    assert code == 0, out
    return dict(out)


def content(made: World) -> dict[str, list[Any]]:
    """Return all that a state file holds, but for leases and runs."""
    connection = sqlite3.connect(made.state)
    tables = (
        "sources",
        "keys",
        "state_keys",
        "coverage",
        "traces",
        "sent",
        "deliveries",
        "hourly_counts",
        "dead_letters",
    )
    found = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in tables}
    connection.close()
    found["state_keys"] = [fact for fact in found["state_keys"] if fact[:2] != ("file", "sequence")]  # counts commits
    return found


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Row], dict[tuple[str, str], ReceivedSpan]]]:
    """Return a history, and how it arrives by one backfill."""
    rows = history(240.0)  # so that each border is crossed by one or two
    with world(tmp_path_factory.mktemp("one"), rows, END + 86_400_000) as made:
        made.backfill(START, END)
        yield rows, arrived(made)


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_each_span_arrives_once_and_as_by_one_backfill(
    make_world: MakeWorld, by_one: tuple[list[Row], dict[tuple[str, str], ReceivedSpan]], of: int
) -> None:
    """A row at a border is sent by two machines or by none, or lacks its session since its root is another's."""
    rows, expected = by_one
    outside = [*trace(1, start=-3600.0, seconds=5.0), *trace(1, start=HOURS * 3600.0, seconds=5.0)]
    made = make_world([*rows, *outside], after_noon=HOURS * 3600.0 + 86_400)
    sent = [made.shard(shard, START, END)[0].spans_sent for shard in shards(of)]
    assert made.arrived() == identities(rows)
    assert arrived(made) == expected
    assert min(sent) > 0.7 * len(rows) / of


def test_rows_of_others_are_read_for_context_only(make_world: MakeWorld) -> None:
    """A root that another machine sends is sent again by the one that looks it up."""
    made = make_world(history(), after_noon=LONG_AFTER)
    for shard in shards(3):
        before = len(made.kelet.spans)
        made.shard(shard, START, END)
        own = shard.partitions(Interval(START, END))
        starts = [span.start_ns // 1_000_000 for span in made.kelet.spans[before:]]
        assert starts
        assert all(any(part.contains(start) for part in own) for start in starts)


def test_an_end_in_the_future(make_world: MakeWorld) -> None:
    """Shards that start at different times share a range differently, or send what is yet to come."""
    rows = history()
    made = make_world(rows, after_noon=3 * 3600.0)
    first, second, third = shards(3)
    made.shard(first, START, END)
    made.clock.advance(1234)
    made.shard(second, START, END)
    assert max(span.start_ns for span in made.kelet.spans) < made.clock.now_ms() * 1_000_000
    made.clock.advance(86_400)
    for shard in (third, second, first):
        made.shard(shard, START, END)
    assert made.arrived() == identities(rows)


def test_a_shard_goes_on_where_it_was_stopped(make_world: MakeWorld) -> None:
    """A restarted machine sends its whole share again, or takes what it did not finish for done."""
    rows = history()
    made = make_world(rows, after_noon=LONG_AFTER)

    def stop(_: TraceRequest) -> None:
        if len(made.kelet.spans) > 10:
            made.clock.stop()

    made.kelet.script = stop
    shard = Shard(1, 3)
    with pytest.raises(Stopped):
        made.shard(shard, START, END)
    before = len(made.kelet.spans)
    assert 0 < before < len(rows) / 4
    made.clock.stopping = False
    made.kelet.script = None
    report, code = made.shard(shard, START, END)
    assert (code, report.spans_sent) == (0, len(made.kelet.spans) - before)
    assert set(made.arrived().values()) == {1}
    assert made.shard(shard, START, END)[0].spans_sent == 0
    for other in (Shard(0, 3), Shard(2, 3)):
        made.shard(other, START, END)
    assert made.arrived() == identities(rows)


def test_a_killed_shard_goes_on(make_world: MakeWorld) -> None:
    """A `kill -9` loses rows of a share, or repeats more than the requests in flight."""
    rows = history(240.0)  # so that each border is crossed by one or two
    made = make_world(rows, SYNC_MAX_BATCH_SPANS="8")
    made.kelet.script = faults.always(faults.slow(0.02))
    words = ("backfill", *RANGE, "--shard", "1/2", "--state", str(made.shard_state(Shard(1, 2))))
    kills = 0
    for wanted in (20, 90, 160):
        with made.start(*words) as process:
            deadline = time.monotonic() + 20
            while len(made.kelet.spans) < wanted and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            kills += process.poll() is None
            process.kill()
            process.communicate(timeout=60)
    made.kelet.script = None
    assert kills >= 2
    assert made.program(*words)[0] == 0
    made.program("backfill", *RANGE, "--shard", "0/2", "--state", str(made.shard_state(Shard(0, 2))))
    assert set(made.arrived()) == set(identities(rows))
    assert sum(made.arrived().values()) - len(rows) <= kills * 4 * 8
    assert sum(file["observations"] + file["observations_forgotten"] for file in merged(made, 2)["files"]) == len(rows)


def test_a_killed_merge_leaves_nothing_half(make_world: MakeWorld) -> None:
    """A `kill -9` leaves rows without the time that they cover, or a file that cannot be read."""
    made = make_world(trace(1), after_noon=HOURS * 3600.0 + 60)
    all_shards(made, 1)
    file = made.shard_state(Shard(0, 1))
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(
            "INSERT INTO sent WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
            "SELECT 1, 'many', printf('%x', i), i * 1000, 1, x'01', 1, NULL FROM n"
        )
    connection.close()
    log = made.state.with_name(made.state.name + "-wal")
    for size in (0, 1_000_000, 4_000_000):
        with made.start("state", "merge", str(file)) as process:
            deadline = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < deadline:
                if log.exists() and log.stat().st_size > size:
                    break
            process.kill()
            process.communicate(timeout=60)
        known = content(made)
        assert (len(known["sent"]), len(known["coverage"])) in {(0, 0), (200_002, 1)}
    assert merged(made, 1)["files"][0]["file"] == str(file)
    assert len(content(made)["sent"]) == 200_002


def test_two_shards_on_one_state_file(make_world: MakeWorld) -> None:
    """Two machines that were given one state file work on it at once."""
    made = make_world(history(), after_noon=LONG_AFTER)
    ledger = open_ledger(made.state, made.clock)
    lease = take(ledger, BACKFILL)
    code, _, printed = made.program("backfill", *RANGE, "--shard", "0/2")
    assert code == ExitCode.LEASE, printed
    release(ledger, lease)
    ledger.close()


def test_shards_by_the_program(make_world: MakeWorld) -> None:
    """The option does not reach the backfill, the number from the environment is not taken, or the limit is not."""
    rows = history()
    made = make_world(rows, SYNC_REQUESTS_PER_MINUTE="6000")
    environ = {"JOB_COMPLETION_INDEX": "1"}
    for words, more in ((("0/2", "a.db"), {}), (("auto/2", "b.db"), environ)):
        code, _, printed = made.program("backfill", *RANGE, "--shard", words[0], "--state", words[1], environ=more)
        assert code == 0, printed
    assert made.arrived() == identities(rows)
    code, _, printed = made.program("backfill", *RANGE, environ=environ)
    assert (code, "--shard auto/N" in printed) == (ExitCode.USAGE, True)


@pytest.mark.parametrize("after", [HOURS * 3600.0 + 60, LONG_AFTER])
def test_one_state_file_knows_what_all_shards_did(make_world: MakeWorld, after: float) -> None:
    """After the merge rows count as missing, or a backfill of the range sends them again."""
    rows = history()
    made = make_world(rows, after_noon=after)
    assert all_shards(made, 3) == len(rows)
    reported = merged(made, 3)
    assert sum(file["observations"] + file["observations_forgotten"] for file in reported["files"]) == len(rows)
    assert sum(file["completed_seconds"] for file in reported["files"]) == HOURS * 3600
    made.langfuse.now = lambda: made.clock.now_ms() / 1000
    assert made.backfill(START, END)[0].spans_sent == 0
    code, found = made.program_json("verify", *RANGE)
    (source,) = found["sources"]
    assert (code, source["missing"], source["observations_listed"]) == (0, 0, len(rows))
    made.langfuse.rows.add(row(trace=rows[0]["traceId"], parent=rows[0]["id"], start=30.0))
    assert made.program_json("verify", *RANGE)[1]["sources"][0]["missing"] == 1
    (source,) = made.program_json("status")[1]["sources"]
    assert source["sync_start"] is None
    assert source["backfilled"] == [{"from": "2026-11-20T12:00:00.000Z", "to": "2026-11-20T18:00:00.000Z"}]


@pytest.mark.parametrize("after", [HOURS * 3600.0 + 60, LONG_AFTER])
def test_merging_again_changes_nothing(make_world: MakeWorld, after: float) -> None:
    """Counts and dead letters double, so that missing rows no longer show, or what was dropped is back."""
    made = make_world(history(), after_noon=after)
    made.kelet.script = faults.refuse_span("llm-2")
    all_shards(made, 2)
    merged(made, 2)
    before = content(made)
    assert before["dead_letters"]
    reported = merged(made, 2)
    assert content(made) == before
    assert {tuple(list(file.values())[1:]) for file in reported["files"]} == {(1, 0, 0, 0, 0)}
    made.program("dead-letters", "drop", "--all", "--yes")
    merged(made, 2)
    assert content(made)["dead_letters"] == []


def test_merging_what_a_shard_did_since(make_world: MakeWorld) -> None:
    """A file that is merged before its shard is done, and again after, counts rows twice or not at all."""
    rows = history()
    made = make_world(rows, after_noon=HOURS * 3600.0 + 60)
    made.shard(Shard(0, 2), START, START + 2 * 3_600_000)
    made.shard(Shard(1, 2), START, END)
    first = merged(made, 2)
    made.clock.advance(LONG_AFTER)
    assert made.backfill(START, START + 1)[0].spans_sent == 0  # forgets what is old
    made.shard(Shard(0, 2), START, END)
    second = merged(made, 2)
    counts = [
        file["observations"] + file["observations_forgotten"]
        for reported in (first, second)
        for file in reported["files"]
    ]
    connection = sqlite3.connect(made.state)
    ((known,),) = connection.execute("SELECT count(*) FROM sent").fetchall()
    ((counted,),) = connection.execute("SELECT sum(rows) FROM hourly_counts").fetchall()
    connection.close()
    distinct = len(made.arrived())
    assert known + counted == distinct, counts


def test_merge_into_the_live_state_file(make_world: MakeWorld) -> None:
    """The live sync's edge moves, or it sends again what the shards sent."""
    rows = history()
    made = make_world(rows, after_noon=HOURS * 3600.0, SYNC_START="2026-11-20T18:00:00Z")
    made.once()
    made.clock.advance(60)
    all_shards(made, 2)
    before = made.program_json("status")[1]["sources"][0]
    merged(made, 2)
    after = made.program_json("status")[1]["sources"][0]
    assert (after["sync_start"], after["watermark"]) == (before["sync_start"], before["watermark"])
    made.langfuse.now = lambda: made.clock.now_ms() / 1000
    made.clock.advance(3600)
    assert made.once()[0].spans_sent == 0
    assert made.arrived() == identities(rows)


def test_dead_letters_are_merged(make_world: MakeWorld) -> None:
    """What a shard dead-lettered is forgotten with its file, and cannot be sent any more."""
    rows = history()
    made = make_world(rows, after_noon=HOURS * 3600.0 + 60)
    made.kelet.script = faults.refuse_span("llm-2")
    assert all_shards(made, 2) < len(rows)
    reported = merged(made, 2)
    letters = made.program_json("dead-letters", "list")[1]["dead_letters"]
    assert len(letters) == sum(file["dead_letters"] for file in reported["files"]) == len(rows) / 4
    made.kelet.script = None
    assert made.program_json("dead-letters", "retry", "--all")[1]["sent"] == len(letters)
    assert made.arrived() == identities(rows)
    merged(made, 2)
    assert made.program_json("dead-letters", "list")[1]["dead_letters"] == []


def test_merge_names_what_is_wrong(make_world: MakeWorld) -> None:
    """A wrong file is merged in part, ends in a traceback, or is changed."""
    made = make_world(trace(1), after_noon=HOURS * 3600.0 + 60)
    all_shards(made, 2)
    good = str(made.shard_state(Shard(0, 2)))
    foreign = sqlite3.connect(made.folder / "foreign")
    foreign.execute("CREATE TABLE x (y)")
    foreign.close()
    whole = made.shard_state(Shard(1, 2)).read_bytes()
    newer = bytearray(whole)
    newer[60:64] = (99).to_bytes(4, "big")
    damaged = bytearray(whole)
    damaged[4096:16384] = b"\xff" * 12288
    for name, body, expected in (
        ("missing", None, "there is no file"),
        ("empty", b"", "is empty"),
        ("text", b"not a database " * 10, "not a SQLite file"),
        ("newer", bytes(newer), "newer"),
        ("damaged", bytes(damaged), "damaged"),
    ):
        bad = made.folder / name
        if body is not None:
            bad.write_bytes(body)
        code, _, printed = made.program("state", "merge", good, str(bad))
        assert (code, expected in printed) == (ExitCode.USAGE, True), printed
        assert len(printed.splitlines()) == (2 if name == "damaged" else 1), printed
        assert body is None or bad.read_bytes() == body
    for name, expected in (("foreign", "another program"), (".", "is a folder")):
        code, _, printed = made.program("state", "merge", good, name)
        assert (code, expected in printed) == (ExitCode.USAGE, True), printed
    code, _, printed = made.program("state", "merge", good, "--state", good)
    assert (code, "that others are merged into" in printed) == (ExitCode.USAGE, True), printed


@pytest.mark.parametrize("own", [True, False])
def test_merge_of_a_file_in_use(make_world: MakeWorld, own: bool) -> None:
    """A file is read while its shard goes on, or changed under the run that uses it."""
    made = make_world(trace(1), after_noon=HOURS * 3600.0 + 60)
    all_shards(made, 1)
    file = made.shard_state(Shard(0, 1))
    ledger = open_ledger(made.state if own else file, made.clock)
    lease = take(ledger, BACKFILL)
    code, _, printed = made.program("state", "merge", str(file))
    assert (code, "is at work on the state file" in printed) == (ExitCode.LEASE, True), printed
    release(ledger, lease)
    ledger.close()
    assert made.program("state", "merge", str(file))[0] == 0


def test_merge_of_another_id_mapping(make_world: MakeWorld) -> None:
    """Rows that went out under other ids count as sent under these."""
    made = make_world(trace(1), after_noon=HOURS * 3600.0 + 60)
    all_shards(made, 1)
    file = made.shard_state(Shard(0, 1))
    ledger = open_ledger(file, made.clock)
    put(ledger, "source 1", "id mapping", "0")
    ledger.close()
    code, _, printed = made.program("state", "merge", str(file))
    assert (code, "mapping of ids" in printed) == (ExitCode.USAGE, True)
    assert json.loads(made.program("status", "--json")[1])["sources"] == []


def test_spans_are_compared_whole() -> None:
    """The comparison above would pass over attributes."""
    compared = {field.name for field in dataclasses.fields(ReceivedSpan) if field.compare}
    assert {"attributes", "resource", "parent_id", "project"} <= compared


@pytest.mark.parametrize("after", [HOURS * 3600.0 + 60, LONG_AFTER])
@pytest.mark.parametrize("live_first", [False, True])
def test_a_score_of_one_shard_finds_its_trace_in_another(make_world: MakeWorld, after: float, live_first: bool) -> None:
    """A score that is dated in the part of one shard, on a trace of another, is sent by no run after the merge."""
    rows = history()
    roots = [one for one in rows if one["parentObservationId"] is None]
    made = make_world(rows, after_noon=after, SYNC_SCORES="true", SYNC_START="2026-11-20T18:00:00Z")
    hour = 3_600.0
    for number, root in enumerate(roots):
        made.langfuse.scores.put(score_on(root, number, at=(number * 600.0 + (number % 4) * hour) % (HOURS * hour)))
    if live_first:
        assert made.once()[1] == 0
    all_shards(made, 3)
    sent = len(made.kelet.signals)
    assert 0 < sent < len(roots)
    merged(made, 3)
    made.langfuse.now = lambda: made.clock.now_ms() / 1000
    assert made.once()[1] == 0
    arrived_of = Counter(one.content["metadata"]["langfuse_score_id"] for one in made.kelet.signals)
    assert arrived_of == Counter(f"score-{number}" for number in range(len(roots)))
    merged(made, 3)
    assert made.once()[0].signals_sent == 0
