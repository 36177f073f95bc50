"""What else the sync asks of a v1 server: traces, roots, rows by their ids, counts, and what ended lately."""

from __future__ import annotations

import random
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse.langfuse_client import EndpointMissing
from sync_worker.langfuse.v1 import V1Reader, takes_filters
from tests.langfuse.conftest import ALWAYS, ConnectV1, moment, walk
from tests.langfuse.v1_worlds import ODD_IDS, crowd, keys, keys_of, steady, unreadable
from tests.support import faults
from tests.support.langfuse_v1 import LangfuseV1, Mode
from tests.support.v1_items import Item, observation_item, trace_item, whole_trace

MODES: list[Mode] = ["v3", "v2", "dual"]


def world(count: int = 30) -> tuple[list[Item], list[Item]]:
    """Return whole traces with ids of all kinds, some of them without observations or never created."""
    traces, observations = [], []
    for number in range(count):
        made, below = whole_trace(3, start=float(number * 20))
        if number % 3 == 0:
            made["id"] = f"{ODD_IDS[number % len(ODD_IDS)]}:{number}"
            below = [item | {"traceId": made["id"], "id": f"{made['id']}/{at}"} for at, item in enumerate(below)]
            below = [item | {"parentObservationId": below[0]["id"] if at else None} for at, item in enumerate(below)]
        if number % 7 != 1:
            observations += below
        if number % 5 != 2:
            traces.append(made)
    return traces, observations


def of_traces(wanted: set[str], traces: list[Item], observations: list[Item]) -> set[tuple[str | None, str]]:
    return keys_of(
        [item for item in traces if item["id"] in wanted], [item for item in observations if item["traceId"] in wanted]
    )


@pytest.mark.parametrize("mode", MODES)
async def test_rows_of_traces(mode: Mode, connect_v1: ConnectV1) -> None:
    """A look-up by trace misses rows, or brings those of others."""
    traces, observations = world()
    wanted = {item["id"] for item in traces[::2]} | {item["traceId"] for item in observations[::9]} | {"not there"}
    made = connect_v1(LangfuseV1(traces, observations, mode=mode))
    for light in (False, True):
        pages = await walk(made.reader.traces(sorted(wanted), ALWAYS, metadata_only=light))
        assert set(keys(pages)) == of_traces(wanted, traces, observations)
        assert {row.output for page in pages for row in page.observations} == ({None} if light else {None, "hello"})


@pytest.mark.parametrize("mode", MODES)
async def test_roots_of_traces(mode: Mode, connect_v1: ConnectV1) -> None:
    """A trace whose root is there waits for it, or a row in the middle is taken for a root."""
    traces, observations = world()
    tops = [item for item in observations if item["parentObservationId"] is None]
    wanted = {item["id"] for item in traces} | {item["traceId"] for item in observations}
    made = connect_v1(LangfuseV1(traces, observations, mode=mode))
    pages = await walk(made.reader.roots(sorted(wanted), ALWAYS))
    assert set(keys(pages)) == keys_of(traces, tops)
    assert {(row.input, row.output) for page in pages for row in page.observations} == {(None, None)}
    asked = [request.query["filter"] for request in made.server.requests if "filter" in request.query]
    assert any("is null" in text for text in asked) or mode == "v2"  # not all rows, to be thrown away here


@pytest.mark.parametrize("mode", MODES)
async def test_rows_by_their_ids(mode: Mode, connect_v1: ConnectV1) -> None:
    """A row is not found by its id, since the id has a slash, or looks like that of a synthetic root."""
    traces, observations = world()
    odd = [observation_item("T", id=name, output="here") for name in (*ODD_IDS, "t-T", "t-nobody")]
    made = connect_v1(LangfuseV1(traces, [*observations, *odd], mode=mode))
    expected = keys_of(traces[::3], [*observations[::4], *odd])
    names = [name for _, name in sorted(expected, key=str)]
    pages = await walk(made.reader.observations([*names, "not there", "t-not there"], ALWAYS))
    assert set(keys(pages)) == expected
    assert "here" in {row.output for page in pages for row in page.observations}


@pytest.mark.parametrize("mode", MODES)
async def test_look_ups_keep_to_the_interval(mode: Mode, connect_v1: ConnectV1) -> None:
    """A look-up brings rows outside of the time that was asked for."""
    traces, observations = world()
    made = connect_v1(LangfuseV1(traces, observations, mode=mode))
    around = Interval(moment(100), moment(200))
    everything = sorted({item["id"] for item in traces} | {item["traceId"] for item in observations})
    names = [name for _, name in keys_of(traces, observations)]
    for pages in (made.reader.traces(everything, around), made.reader.observations(names, around)):
        rows = [row for page in await walk(pages) for row in page.observations]
        assert rows
        assert all(around.contains(row.start_ms) for row in rows)


@pytest.mark.parametrize("mode", MODES)
async def test_no_ids_no_request(mode: Mode, connect_v1: ConnectV1) -> None:
    """An empty list of ids asks for everything."""
    made = connect_v1(LangfuseV1(*world(), mode=mode))
    for pages in (made.reader.observations([], ALWAYS), made.reader.traces([], ALWAYS), made.reader.roots([], ALWAYS)):
        assert await walk(pages) == []
    assert made.asked == 0


async def test_many_ids_take_few_requests_that_fit_an_address(connect_v1: ConnectV1) -> None:
    """Ids are asked for one by one, or in an address longer than a server takes."""
    traces, observations = steady(2000, rows_a_trace=2)
    made = connect_v1(LangfuseV1(traces, observations))
    wanted = [item["id"] for item in traces[::2]]
    pages = await walk(made.reader.traces(wanted, ALWAYS))
    assert set(keys(pages)) == of_traces(set(wanted), traces, observations)
    assert made.asked <= 2 * (len(wanted) / 130) + len(keys(pages)) / 99 + 4
    assert max(len(request.target) for request in made.server.requests) < 7200


@pytest.mark.parametrize("replaces", [True, False])
async def test_bounds_stand_in_the_filter_too(replaces: bool, connect_v1: ConnectV1) -> None:
    """Where a filter takes the place of parameters, a look-up reads all time, and intervals of a walk do not end."""
    traces, observations = steady(700)
    server = LangfuseV1(traces, observations)
    server.filter_replaces = replaces
    made = connect_v1(server)
    interval = Interval(moment(2), moment(30))
    pages = await walk(made.reader.traces([item["id"] for item in traces], interval))
    assert {row.start_ms for page in pages for row in page.observations} <= set(range(interval.start, interval.end))
    assert len(set(keys(pages))) == 560 + 112
    for request in server.requests:
        columns = [condition["column"] for condition in orjson.loads(request.query["filter"])]
        assert sum(column in ("startTime", "timestamp") for column in columns) == 2


@pytest.mark.parametrize("mode", MODES)
async def test_count_is_of_both_lists(mode: Mode, connect_v1: ConnectV1) -> None:
    """Rows of one list are not counted, or those of another interval are."""
    traces, observations = steady(100, every=1.0)
    made = connect_v1(LangfuseV1(traces, observations, mode=mode))
    assert await made.reader.count(ALWAYS) == 120
    assert await made.reader.count(Interval(moment(10), moment(20))) == 12
    assert made.asked == 4
    assert {request.query["page"] for request in made.server.requests} == {"1"}  # one behind the last is expensive


async def test_rows_that_ended_lately(connect_v1: ConnectV1) -> None:
    """The look for long rows that ended lately misses one; an older server cannot be asked, and is not."""
    rows = [
        observation_item("T", start=0.0, seconds=10.0),
        observation_item("T", start=1.0, seconds=100.0),
        observation_item("T", start=2.0, seconds=None),
    ]
    for mode in MODES:
        made = connect_v1(LangfuseV1([trace_item("T")], rows, mode=mode))
        pages = await walk(made.reader.interval(ALWAYS, metadata_only=True, ended_since_ms=moment(50)))
        assert keys(pages) == ([] if mode == "v2" else [("T", rows[1]["id"])])
        assert made.asked == (0 if mode == "v2" else 1)


async def test_old_servers_are_never_sent_what_they_do_not_know(connect_v1: ConnectV1) -> None:
    """A server that passes over `filter` without a word answers with rows that nobody asked for."""
    made = connect_v1(LangfuseV1(*world(), mode="v2"))
    await walk(made.reader.interval(ALWAYS))
    await walk(made.reader.traces(["a", "b"], ALWAYS))
    await walk(made.reader.roots(["a"], ALWAYS))
    await walk(made.reader.observations(["a", "t-a"], ALWAYS))
    assert not any("filter" in parse_qs(urlsplit(request.target).query) for request in made.server.requests)


VERSIONS = {
    "3.225.4": True,
    "v3.120.0": True,
    "4.16.0": True,
    "3.119.9": False,
    "2.95.11": False,
    "3.9": False,
    "nightly": False,
    "": False,
    None: False,
    "10.0": True,
}


@pytest.mark.parametrize("version", VERSIONS)
def test_which_versions_take_filters(version: str | None) -> None:
    """A version is compared as text, or an unknown one trusted."""
    assert takes_filters(version) is VERSIONS[version]


async def test_content_that_stands_elsewhere_is_left_alone(connect_v1: ConnectV1) -> None:
    """A row without media costs a request."""
    made = connect_v1(LangfuseV1([], [observation_item("T", output="here")]))
    (row,) = [row for page in await walk(made.reader.interval(ALWAYS)) for row in page.observations]
    before = made.asked
    assert await made.reader.resolve(row) is row
    assert made.asked == before


async def test_shapes_of_2_95(connect_v1: ConnectV1) -> None:
    """Usage and cost of an older server are lost, since it tells them in other fields."""
    item = observation_item(
        "T",
        type="GENERATION",
        promptTokens=3,
        completionTokens=4,
        totalTokens=7,
        calculatedInputCost=0.1,
        calculatedTotalCost=0.3,
    )
    for mode, usage in (("v2", {"input": 3, "output": 4, "total": 7}), ("v3", {})):
        made = connect_v1(LangfuseV1([trace_item("T")], [item], mode="v2" if mode == "v2" else "v3"))
        rows = {row.id: row for page in await walk(made.reader.interval(ALWAYS)) for row in page.observations}
        assert rows[item["id"]].usage == usage
        assert rows[item["id"]].cost == ({"input": 0.1, "total": 0.3} if mode == "v2" else {})
        assert rows[item["id"]].environment == (None if mode == "v2" else "default")
        assert rows["t-T"].is_synthetic_root
        assert rows[item["id"]].parent_id == "t-T"


async def test_synthetic_parent_of_what_has_none(connect_v1: ConnectV1) -> None:
    """The tree of an old SDK falls apart into rows without a parent, or an OTel tree gets a root that it never had."""
    otel = "0af7651916cd43dd8448eb211c80319c"
    rows = [
        observation_item("free/form", id="1"),
        observation_item(otel, id="00f067aa0ba902b7"),
        observation_item(otel, id="not a span id"),
        observation_item(None, id="alone"),
    ]
    made = connect_v1(LangfuseV1([], rows))
    reported = {row.id: row for page in await walk(made.reader.interval(ALWAYS)) for row in page.observations}
    assert reported["1"].parent_id == "t-free/form"
    assert (reported["00f067aa0ba902b7"].parent_id, reported["00f067aa0ba902b7"].is_root) == (None, True)
    assert reported["not a span id"].parent_id == f"t-{otel}"
    assert reported["alone"].parent_id is None


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_gone_is_reported(mode: Mode, connect_v1: ConnectV1) -> None:
    """A server that no longer has v1 looks like one on which nothing was found."""
    traces, observations = world()
    server = LangfuseV1(traces, observations, mode=mode)
    made = connect_v1(server)
    server.become("events_only")
    ids = [item["id"] for item in traces]
    for pages in (
        made.reader.interval(ALWAYS),
        made.reader.traces(ids, ALWAYS),
        made.reader.roots(ids, ALWAYS),
        made.reader.observations([f"t-{ids[0]}"], ALWAYS),
        made.reader.observations([observations[0]["id"]], ALWAYS),
    ):
        with pytest.raises(EndpointMissing, match="events_only"):
            await walk(pages)


async def test_a_trace_is_asked_for_without_its_observations(connect_v1: ConnectV1) -> None:
    """A server sends all observations of a trace with it, each time that its synthetic root is read."""
    traces, observations = world()
    made = connect_v1(LangfuseV1(traces, observations, mode="v2"))
    await walk(made.reader.observations([f"t-{traces[0]['id']}", observations[0]["id"]], ALWAYS))
    assert [request.query for request in made.server.requests if "/traces/" in request.path] == [{"fields": "core,io"}]
    assert [request.query for request in made.server.requests if "/observations/" in request.path] == [{}, {}]


async def test_missing_items_cost_one_more_request(connect_v1: ConnectV1) -> None:
    """Every trace that was never created makes an older server list traces once more."""
    made = connect_v1(LangfuseV1(*world(), mode="v2"))
    assert await walk(made.reader.observations([f"nobody {number}" for number in range(20)], ALWAYS)) == []
    assert made.asked == 21


@pytest.mark.parametrize("reply", [faults.status(500), faults.query_timed_out(), faults.drop()])
async def test_single_item_that_is_never_served(reply: Reply, connect_v1: ConnectV1) -> None:
    """One item that an older server cannot serve by its id stops the look-up for good, or another goes with it."""
    traces, observations = world()
    server = LangfuseV1(traces, observations, mode="v2")
    server.unserved = {observations[3]["id"], traces[2]["id"]}
    server.unserved_reply = reply
    made = connect_v1(server)
    wanted = [name for _, name in sorted(keys_of(traces[:4], observations[:8]), key=str)]
    pages = await walk(made.reader.observations(wanted, ALWAYS))
    gone = {observations[3]["id"], f"t-{traces[2]['id']}"}
    assert {name for _, name in keys(pages)} == set(wanted) - gone
    assert {item.observation_id for item in unreadable(pages)} == gone


async def test_single_items_wait_out_an_outage(connect_v1: ConnectV1) -> None:
    """While an older server is down, the items that are asked for by their ids are dead-lettered."""
    traces, observations = world()
    server = LangfuseV1(traces, observations, mode="v2")
    made = connect_v1(server, patience=100.0)
    await walk(made.reader.interval(ALWAYS))
    server.script = faults.always(faults.status(503))
    pages = made.reader.observations([item["id"] for item in observations], ALWAYS)
    with pytest.raises(TransientError, match="gave up after"):
        await walk(pages)
    made = connect_v1(server)
    server.script = None
    await walk(made.reader.interval(ALWAYS))
    server.script = faults.in_turn(*[faults.status(503)] * 5)
    rows = await walk(made.reader.observations([observations[0]["id"]], ALWAYS))
    assert (len(keys(rows)), unreadable(rows)) == (1, [])


async def test_page_sizes_are_handed_on(connect_v1: ConnectV1) -> None:
    """The next reader of a server finds out anew how large its pages may be."""
    traces, observations = crowd(random.Random(0), 300)
    server = LangfuseV1(traces, observations)
    server.max_rows = 20
    made = connect_v1(server)
    await walk(made.reader.interval(ALWAYS))
    limits = made.reader.limits
    assert max(limits.values()) <= 20
    before = len(server.requests)
    await walk(V1Reader(made.client, limits, server.version).interval(ALWAYS))
    refused = [request for request in server.requests[before : before + 6] if request.status == 422]
    assert len(refused) <= 2  # from the largest size on, it were 6


async def test_explicit_bounds_and_fields_in_every_list_request(connect_v1: ConnectV1) -> None:
    """A self-hoster's own default for dates or fields takes rows or content away without a word."""

    def is_explicit(request: Request) -> bool:
        names = request.query.keys()
        if request.path == "/api/public/traces":
            return {"fromTimestamp", "toTimestamp", "fields", "limit", "page"} <= names
        return request.path != "/api/public/observations" or {"fromStartTime", "toStartTime", "limit"} <= names

    traces, observations = world()
    for mode in MODES:
        made = connect_v1(LangfuseV1(traces, observations, mode=mode))
        await walk(made.reader.interval(ALWAYS))
        await walk(made.reader.traces(["nobody", traces[0]["id"]], ALWAYS))
        await walk(made.reader.observations(["nobody", "t-nobody"], ALWAYS))
        await made.reader.count(ALWAYS)
        assert all(is_explicit(request) for request in made.server.requests)
