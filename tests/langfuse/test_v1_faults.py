"""Walks over v1 lists of a server that fails: what can be read is read, and a bad server is no bad row."""

from __future__ import annotations

import logging
import random

import pytest

from sync_worker.clock import Stopped
from sync_worker.demo.rowstore import to_ms
from sync_worker.demo.serving import Reply, Request, json_reply
from sync_worker.errors import CredentialsRejected, SourcePaused, TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse.langfuse_client import EndpointMissing
from sync_worker.langfuse.listing import OBSERVATIONS
from sync_worker.langfuse.reader import Page
from tests.langfuse.conftest import ALWAYS, ConnectV1, walk
from tests.langfuse.v1_worlds import crowd, keys, keys_of, same_moment, starts_of, steady, unreadable, walk_as_caller
from tests.support import faults
from tests.support.langfuse_v1 import LangfuseV1, Mode
from tests.support.rows import at
from tests.support.v1_items import observation_item, trace_item

MODES: list[Mode] = ["v3", "v2"]
BREAKING = {
    "500": faults.status(500),
    "422": faults.query_timed_out(),
    "dropped": faults.drop(),
    "cut short": Reply(200, {"Content-Type": "application/json"}, b'{"data":[{"id":"a","inp'),
}
PASSING = {
    **BREAKING,
    "502": faults.status(502),
    "503": faults.status(503, retry_after=7),
    "429": faults.rate_limited(),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", PASSING)
async def test_faults_that_pass(how: str, mode: Mode, connect_v1: ConnectV1) -> None:
    """A fault in the middle loses rows, or sets rows aside that were served a moment later."""
    for seed in range(4):
        rng = random.Random(seed)
        traces, observations = crowd(rng, 150, types=("SPAN", "EVENT"))
        server = LangfuseV1(traces, observations, mode=mode, seed=seed)
        server.script = lambda _, rng=rng: PASSING[how] if rng.random() < 0.15 else None
        made = connect_v1(server, limit=20)
        pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of(traces, observations))
        assert set(keys(pages)) == keys_of(traces, observations)
        assert unreadable(pages) == []


@pytest.mark.parametrize("begins", [0, 3, 9])
@pytest.mark.parametrize("how", BREAKING)
async def test_outage_sets_no_row_aside(how: str, begins: int, connect_v1: ConnectV1) -> None:
    """While the server is down for minutes, rows are taken for bad ones."""
    traces, observations = crowd(random.Random(1), 150)
    server = LangfuseV1(traces, observations)
    made = connect_v1(server, limit=40)
    starts = made.clock.monotonic()

    def script(_: Request) -> Reply | None:
        made.clock.advance(1.0)
        passed = made.clock.monotonic() - starts
        return BREAKING[how] if begins <= passed < begins + 120 else None

    server.script = script
    pages = await walk(made.reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of(traces, observations)
    assert unreadable(pages) == []


@pytest.mark.parametrize("how", BREAKING)
async def test_server_that_is_down_for_good(how: str, connect_v1: ConnectV1) -> None:
    """A server that serves nothing any more makes every row in turn a bad one."""
    traces, observations = steady(300)
    server = LangfuseV1(traces, observations)
    made = connect_v1(server, patience=120.0)
    pages: list[Page] = []
    walked = made.reader.interval(ALWAYS)
    pages.append(await anext(walked))
    server.script = faults.always(BREAKING[how])
    with pytest.raises(TransientError, match="gave up after"):
        await walk(walked, pages)
    assert unreadable(pages) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", BREAKING)
@pytest.mark.parametrize("where", [[0], [299], [150], [20, 200], [60, 61, 62], list(range(100, 110))], ids=str)
async def test_rows_that_are_never_served(where: list[int], how: str, mode: Mode, connect_v1: ConnectV1) -> None:
    """One row that the server cannot serve stops the walk for good, or takes others with it."""
    if how in ("dropped", "cut short") and len(where) > 1:
        where = where[:1]
    traces, observations = steady(300)
    server = LangfuseV1(traces, observations, mode=mode)
    server.unserved_reply = BREAKING[how]
    server.unserved = {observations[place]["id"] for place in where}
    made = connect_v1(server)
    never = {(item["traceId"], item["id"]) for item in observations if item["id"] in server.unserved}
    pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of(traces, observations), never)
    assert set(keys(pages)) == keys_of(traces, observations) - never
    assert len(unreadable(pages)) == len(where)
    assert {item.reason[:23] for item in unreadable(pages)} == {"Langfuse cannot serve i"}
    assert made.asked < 30 + 150 * len(where)


@pytest.mark.parametrize("mode", MODES)
async def test_lone_rows_that_are_not_served(mode: Mode, connect_v1: ConnectV1) -> None:
    """Where nothing else can be asked for, a store of content that is down makes bad rows of ever more of them."""
    rows = steady(20, every=172_800.0)[1]
    server = LangfuseV1([], rows, mode=mode)
    server.unserved = {item["id"] for item in rows}
    made = connect_v1(server)
    pages: list[Page] = []

    async def walk_all() -> None:
        for start in (to_ms(item["startTime"]) for item in rows):
            await walk(made.reader.interval(Interval(start - 1000, start + 1000)), pages)

    with pytest.raises(TransientError, match="gave up after"):
        await walk_all()
    assert keys(pages) == []
    assert 1 <= len(unreadable(pages)) <= 8


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["500", "422"])
async def test_first_rows_of_all_are_not_served(how: str, mode: Mode, connect_v1: ConnectV1) -> None:
    """Where a reader begins with bad rows, it looks for no other, and its patience ends before it has one."""
    rows = steady(30)[1]
    server = LangfuseV1([], rows, mode=mode)
    server.unserved_reply = BREAKING[how]
    server.unserved = {item["id"] for item in rows[-3:]}
    pages = await walk(connect_v1(server, patience=20.0).reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of([], rows[:-3])
    assert len(unreadable(pages)) == 3


@pytest.mark.parametrize("mode", MODES)
async def test_trace_that_is_never_served_is_named(mode: Mode, connect_v1: ConnectV1) -> None:
    """The list tells ids without content, but a trace that is dead-lettered has no name."""
    traces, observations = steady(60)
    server = LangfuseV1(traces, observations, mode=mode)
    server.unserved = {traces[5]["id"]}
    pages = await walk(connect_v1(server).reader.interval(ALWAYS))
    (item,) = unreadable(pages)
    if mode == "v3":  # v2 cannot leave out content
        assert (item.observation_id, item.trace_id) == (f"t-{traces[5]['id']}", traces[5]["id"])
    assert len(set(keys(pages))) == len(traces) + len(observations) - 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["500", "422"])
@pytest.mark.parametrize("count", [2, 12, 150])
async def test_unserved_row_among_ties(count: int, how: str, mode: Mode, connect_v1: ConnectV1) -> None:
    """Where rows tie, one that is not served hides those that come in its place at each try."""
    for seed in range(3):
        rows = [*same_moment(count), *steady(40)[1]]
        server = LangfuseV1([], rows, mode=mode, seed=seed)
        server.unserved_reply = BREAKING[how]
        server.unserved = {rows[seed % count]["id"]}
        made = connect_v1(server)
        pages = await walk(made.reader.interval(ALWAYS))
        assert keys_of([], rows) - set(keys(pages)) == {("one-trace", rows[seed % count]["id"])}
        assert 1 <= len(unreadable(pages)) <= (1 if mode == "v3" else count)


async def test_unserved_traces_among_ties(connect_v1: ConnectV1) -> None:
    """Traces of one moment are lost beside one that is not served, though they can be put in an order."""
    for mode in MODES:
        traces = [trace_item(start=at(1)) for _ in range(130)] + [trace_item(start=float(n)) for n in range(5)]
        server = LangfuseV1(traces, [], mode=mode)
        server.unserved = {traces[3]["id"], traces[77]["id"]}
        pages = await walk(connect_v1(server).reader.interval(ALWAYS))
        missing = keys_of(traces, []) - set(keys(pages))
        assert missing == {(one, f"t-{one}") for one in server.unserved}
        assert len(unreadable(pages)) == 2


async def test_two_versions_of_an_unserved_row(connect_v1: ConnectV1) -> None:
    """A row that is counted twice and served never is looked for without end."""
    rows = [observation_item("T", start=at(1)), *steady(10)[1]]
    server = LangfuseV1([], [*rows, rows[0]], duplicates="counted")
    server.unserved = {rows[0]["id"]}
    made = connect_v1(server)
    pages = await walk(made.reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of([], rows[1:])
    assert 1 <= len(unreadable(pages)) <= 2
    assert made.asked < 400


@pytest.mark.parametrize("mode", MODES)
async def test_only_row_is_not_served(mode: Mode, connect_v1: ConnectV1) -> None:
    """Where nothing else can be served, nothing proves that the row is to blame, and the walk never ends."""
    server = LangfuseV1([], [observation_item("T")], mode=mode)
    server.unserved = {item["id"] for item in server.observations}
    made = connect_v1(server)
    pages = await walk(made.reader.interval(ALWAYS))
    assert (keys(pages), len(unreadable(pages))) == ([], 1)
    assert made.asked < 30


@pytest.mark.parametrize("mode", MODES)
async def test_server_that_counts_but_serves_nothing(mode: Mode, connect_v1: ConnectV1) -> None:
    """When the store of content is down from the start, every row in turn is dead-lettered as if it were broken."""
    rows = steady(40, every=1.0)[1]
    server = LangfuseV1([], rows, mode=mode)
    server.unserved = {item["id"] for item in rows}
    pages: list[Page] = []
    with pytest.raises(TransientError, match="gave up after"):
        await walk(connect_v1(server, patience=600.0).reader.interval(ALWAYS), pages)
    assert keys(pages) == []
    assert len(unreadable(pages)) <= 8


@pytest.mark.parametrize("mode", MODES)
async def test_outage_that_ends_at_any_request(mode: Mode, connect_v1: ConnectV1) -> None:
    """An outage that ends just when a row was blamed makes a bad row of the only one."""
    for row_count in (1, 2):
        rows = steady(row_count)[1]
        for faulty in range(1, 30):
            server = LangfuseV1([], rows, mode=mode)
            server.script = faults.on_path("/api/public/observations", faults.in_turn(*[faults.status(500)] * faulty))
            pages = await walk(connect_v1(server, patience=None).reader.interval(ALWAYS))
            assert (set(keys(pages)), unreadable(pages)) == (keys_of([], rows), []), faulty


async def test_rows_that_were_served_before_and_are_no_more(connect_v1: ConnectV1) -> None:
    """A row turns bad after it was read, and is asked to prove its own innocence."""
    rows = steady(10, every=5.0)[1]
    server = LangfuseV1([], rows)
    made = connect_v1(server)
    assert len(keys(await walk(made.reader.interval(ALWAYS)))) == 10
    server.unserved = {rows[0]["id"], rows[9]["id"]}
    pages = await walk(made.reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of([], rows[1:9])
    assert len(unreadable(pages)) == 2


@pytest.mark.parametrize("most", [1, 3, 30])
@pytest.mark.parametrize("mode", MODES)
async def test_pages_shrink_to_what_the_server_bears(most: int, mode: Mode, connect_v1: ConnectV1) -> None:
    """A page of too many rows is asked for again and again."""
    traces, observations = crowd(random.Random(most), 60 if most == 1 else 150, types=("SPAN", "EVENT"))
    server = LangfuseV1(traces, observations, mode=mode)
    server.max_rows = most
    made = connect_v1(server)
    pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of(traces, observations))
    assert set(keys(pages)) == keys_of(traces, observations)
    assert unreadable(pages) == []


async def test_few_refusals_while_a_server_bears_less(connect_v1: ConnectV1) -> None:
    """The size that a server bears is forgotten page by page, or by the next reader."""
    traces, observations = steady(2000)
    server = LangfuseV1(traces, observations)
    server.max_rows = 30
    made = connect_v1(server)
    await walk(made.reader.interval(ALWAYS))
    refused = sum(request.status == 422 for request in server.requests)
    assert refused < made.asked / 8
    assert made.reader.limits[OBSERVATIONS.path] <= 30


@pytest.mark.parametrize("mode", MODES)
async def test_heavy_rows_in_one_moment(mode: Mode, connect_v1: ConnectV1) -> None:
    """A page by number that is too heavy is tried until patience ends, since its length was right for other rows."""
    sizes = [9000 if number % 10 == 0 else 10 for number in range(260)]
    rows = [observation_item("T", start=at(1), input="x" * size) for size in sizes]
    server = LangfuseV1([], rows, mode=mode)
    server.max_bytes = 60_000
    pages = await walk(connect_v1(server).reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of([], rows)
    assert unreadable(pages) == []


async def test_count_though_the_newest_row_is_not_served(connect_v1: ConnectV1) -> None:
    """Rows cannot be counted because one of them cannot be read."""
    traces, observations = steady(50)
    server = LangfuseV1(traces, observations)
    made = connect_v1(server)
    assert await made.reader.count(ALWAYS) == 60
    server.unserved = {item["id"] for item in observations[-3:]}
    assert await made.reader.count(ALWAYS) == 60


REFUSALS = [
    (json_reply(401, {"message": "Invalid credentials."}), CredentialsRejected),
    (faults.redirect("https://elsewhere.test"), SourcePaused),
    (json_reply(404, {"message": "This endpoint is not available"}), EndpointMissing),
    (json_reply(200, {"data": []}), TransientError),
    (json_reply(200, {"data": {}, "meta": {"totalItems": 1}}), TransientError),
    (json_reply(200, {"data": [], "meta": {"totalItems": True}}), TransientError),
    (json_reply(200, []), TransientError),
    (Reply(200, {"Content-Type": "text/html"}, b"<html>log in</html>"), TransientError),
]


@pytest.mark.parametrize(("reply", "error"), REFUSALS)
async def test_answers_that_end_a_walk(reply: Reply, error: type[Exception], connect_v1: ConnectV1) -> None:
    """A refusal, or an answer of something else, is taken for an empty list."""
    traces, observations = steady(300)
    server = LangfuseV1(traces, observations)
    made = connect_v1(server, patience=60.0)
    for turn in (0, 2):
        answers = [None] * turn
        server.script = lambda _, answers=answers: answers.pop() if answers else reply
        with pytest.raises(error):
            await walk(made.reader.interval(ALWAYS))


BROKEN: list[object] = [
    None,
    "text",
    7,
    [],
    {},
    {"id": ""},
    {"id": "odd"},
    {"id": "odd", "startTime": "yesterday", "timestamp": 3},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
@pytest.mark.parametrize("path", ["traces", "observations"])
async def test_items_that_are_none(path: str, broken: object, connect_v1: ConnectV1) -> None:
    """An item that cannot be understood takes its page down, or vanishes without a record."""
    traces, observations = steady(6)
    server = LangfuseV1(traces, observations)
    made = connect_v1(server)
    good = traces if path == "traces" else observations
    meta = {"page": 1, "limit": 100, "totalItems": len(good) + 1, "totalPages": 1}
    server.script = faults.on_path(f"/api/public/{path}", json_reply(200, {"data": [broken, *good], "meta": meta}))
    pages = await walk(made.reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of(traces, observations)
    assert len(unreadable(pages)) == 1
    assert unreadable(pages)[0].raw is not None


async def test_stop_is_noticed_between_pages_and_in_waits(connect_v1: ConnectV1) -> None:
    """A run that is asked to stop reads on, or sits out a pause."""
    traces, observations = steady(500)
    server = LangfuseV1(traces, observations)
    made = connect_v1(server)
    pages = made.reader.interval(ALWAYS)
    await anext(pages)
    before = made.asked
    made.clock.stop()
    with pytest.raises(Stopped):
        await walk(pages)
    assert made.asked == before
    down = connect_v1(LangfuseV1())
    down.server.script = faults.always(faults.status(503))
    down.client.backoff.on_wait = lambda *_: down.clock.stop()
    with pytest.raises(Stopped):
        await walk(down.reader.interval(ALWAYS))


async def test_what_is_stepped_over_is_reported(connect_v1: ConnectV1, caplog: pytest.LogCaptureFixture) -> None:
    """A row goes missing without a word."""
    traces, observations = steady(30)
    server = LangfuseV1(traces, observations, duplicates="counted")
    server.unserved = {observations[7]["id"]}
    with caplog.at_level(logging.WARNING):
        await walk(connect_v1(server).reader.interval(ALWAYS))
    assert any("cannot be served" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("apart", [1, 2, 1000])
async def test_an_unserved_row_just_before_another_is_not_lost(apart: int, connect_v1: ConnectV1) -> None:
    """What starts a millisecond after the newest row that is served is neither read nor dead-lettered."""
    rows = [observation_item("trace", start=60.0 + number * apart / 1000) for number in range(4)]
    server = LangfuseV1([], rows)
    server.unserved = {rows[-1]["id"]}
    pages = await walk(connect_v1(server).reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of([], rows[:-1])
    assert len(unreadable(pages)) == 1
