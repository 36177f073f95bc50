"""Walks over the v1 lists: every row comes, newest first, whatever ties, pages and changes there are."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import httpx
import orjson
import pytest

from sync_worker.demo.serving import Reply, Request, json_reply
from sync_worker.intervals import Interval
from tests.langfuse.conftest import ALWAYS, ConnectV1, moment, walk
from tests.langfuse.v1_worlds import (
    OLD_TYPES,
    TYPES,
    crowd,
    keys,
    keys_of,
    same_moment,
    starts_of,
    steady,
    unreadable,
    walk_as_caller,
)
from tests.support.langfuse_v1 import Duplicates, LangfuseV1, Mode
from tests.support.rows import at
from tests.support.v1_items import Item, observation_item, trace_item

MODES: list[Mode] = ["v3", "v2"]
LIMITS = [1, 2, 7, 30, 100]


def kinds(mode: Mode) -> tuple[str, ...]:
    return OLD_TYPES if mode == "v2" else TYPES


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", LIMITS)
async def test_every_row_comes_whatever_ties_and_limits(mode: Mode, limit: int, connect_v1: ConnectV1) -> None:
    """A row is lost where pages meet, or time is counted as covered that is not."""
    for seed in range(3 if limit < 7 else 6):
        traces, observations = crowd(random.Random(seed), 60 if limit < 7 else 200, types=kinds(mode))
        made = connect_v1(LangfuseV1(traces, observations, mode=mode, seed=seed), limit=limit)
        pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of(traces, observations))
        assert set(keys(pages)) == keys_of(traces, observations)
        assert unreadable(pages) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_rows_come_newest_first(mode: Mode, limit: int, connect_v1: ConnectV1) -> None:
    """Rows come in another order than that by which the caller counts time as covered."""
    traces, observations = steady(120)
    made = connect_v1(LangfuseV1(traces, observations, mode=mode), limit=limit)
    pages = await walk(made.reader.interval(ALWAYS))
    starts = [row.start_ms for page in pages for row in page.observations]
    first = dict(zip(reversed(keys(pages)), reversed(starts), strict=True))  # of each row, in whatever order
    firsts = [first.pop(key) for key in keys(pages) if key in first]
    assert firsts == sorted(firsts, reverse=True)
    assert len(firsts) == len(traces) + len(observations)


@pytest.mark.parametrize(("mode", "every"), [("v3", 0.05), ("v3", 60.0), ("v2", 0.05), ("dual", 0.001)])
async def test_ordinary_data_costs_few_requests(mode: Mode, every: float, connect_v1: ConnectV1) -> None:
    """Caution costs more requests than there is to read: a request brings 100 rows, less what ties are read twice."""
    traces, observations = steady(3000, every=every)
    made = connect_v1(LangfuseV1(traces, observations, mode=mode))
    pages = await walk(made.reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of(traces, observations)
    assert made.asked <= len(observations) / 99 + len(traces) / 99 + 2
    assert len(keys(pages)) <= (len(observations) + len(traces)) * 1.02


async def test_interval_is_half_open_and_may_be_empty(connect_v1: ConnectV1) -> None:
    """A row on the border of two intervals is in none or in both, or an empty interval asks for everything."""
    traces, observations = steady(40, every=1.0)
    made = connect_v1(LangfuseV1(traces, observations))
    first = keys(await walk(made.reader.interval(Interval(moment(0), moment(20)))))
    second = keys(await walk(made.reader.interval(Interval(moment(20), moment(40)))))
    assert len(first) == len(second) == 24
    assert set(first) | set(second) == keys_of(traces, observations)
    before = made.asked
    assert await walk(made.reader.interval(Interval(moment(5), moment(5)))) == []
    assert made.asked == before


async def test_light_rows_have_no_content(connect_v1: ConnectV1) -> None:
    """A listing without content keeps it in memory all the same."""
    made = connect_v1(LangfuseV1([trace_item(input="in")], [observation_item(None, output="out", metadata={"a": 1})]))
    rows = [row for page in await walk(made.reader.interval(ALWAYS, metadata_only=True)) for row in page.observations]
    assert [(row.input, row.output) for row in rows] == [(None, None)] * 2
    assert {len(row.metadata) for row in rows} == {0, 1}


@pytest.mark.parametrize("limit", [2, 7, 100])
@pytest.mark.parametrize("duplicates", ["counted", "shown"])
async def test_versions_that_are_not_merged(duplicates: Duplicates, limit: int, connect_v1: ConnectV1) -> None:
    """Versions of a row that the store has yet to merge hide another row, or the walk goes round in circles."""
    for seed in range(3):
        rng = random.Random(seed)
        traces, observations = crowd(rng, 80 if limit == 2 else 150)
        again = [item for item in observations if rng.random() < rng.choice((0.1, 1.0))]
        server = LangfuseV1(traces, [*observations, *again], duplicates=duplicates, seed=seed)
        made = connect_v1(server, limit=limit)
        pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of(traces, observations))
        assert set(keys(pages)) == keys_of(traces, observations)
        assert unreadable(pages) == []


@pytest.mark.parametrize("versions", [2, 5])
async def test_versions_cost_few_requests(versions: int, connect_v1: ConnectV1) -> None:
    """Rows that are counted twice are read over and over: one and a half requests a hundred versions are enough."""
    traces, observations = steady(1000)
    made = connect_v1(LangfuseV1(traces, observations * versions, duplicates="counted"))
    pages = await walk(made.reader.interval(ALWAYS))
    assert set(keys(pages)) == keys_of(traces, observations)
    assert made.asked <= 10 + 4 * versions * len(observations) / 100


@pytest.mark.parametrize("place", [0, 50, 98])
@pytest.mark.parametrize("turn", [0, 1, 4])
async def test_page_that_leaves_a_row_out(turn: int, place: int, connect_v1: ConnectV1) -> None:
    """A page that is not what the server counts is believed, and time is claimed before that can show."""
    traces, observations = steady(700)
    server = LangfuseV1(traces, observations)
    made = connect_v1(server)
    turns = []

    def script(request: Request) -> Reply | None:
        turns.append(request.path)
        if turns.count("/api/public/observations") - 1 != turn or request.path != turns[-1]:
            return None
        page = orjson.loads(server.answer(request, None).body)
        if request.path.endswith("observations"):
            del page["data"][place]
        return json_reply(200, page)

    server.script = script
    pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of(traces, observations))
    assert set(keys(pages)) == keys_of(traces, observations)


class Meddler:
    """Adds, updates and removes rows between requests, and keeps what must come all the same."""

    def __init__(self, server: LangfuseV1, rng: random.Random) -> None:
        self.server, self.rng, self.turns = server, rng, 0
        self.removed: set[tuple[str | None, str]] = set()
        server.before = self.meddle

    def meddle(self, request: Request) -> None:
        self.turns += 1
        if self.turns > 200:
            return
        victim = self.rng.choice(self.server.observations)
        match self.rng.randrange(4):
            case 0:
                when = self.rng.choice((victim["startTime"], at(-5), at(7200)))
                self.server.observations.add(observation_item(victim["traceId"], start=when))
            case 1:
                self.server.observations.replace(victim | {"output": f"turn {self.turns}"})
            case 2:
                self.server.observations.remove(lambda item: item["id"] == victim["id"])
                self.removed.add((victim["traceId"], victim["id"]))
            case 3:
                self.server.traces.add(trace_item(start=victim["startTime"]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [2, 7, 100])
async def test_changes_between_requests(mode: Mode, limit: int, connect_v1: ConnectV1) -> None:
    """Rows that come and go while a walk is under way push others out of it, or keep it from ending."""
    for seed in range(3 if limit == 2 else 8):
        rng = random.Random(seed)
        traces, observations = crowd(rng, 600 if limit == 100 else 120, types=kinds(mode))
        server = LangfuseV1(traces, observations, mode=mode, seed=seed)
        made = connect_v1(server, limit=limit)
        meddler = Meddler(server, rng)
        pages = await walk(made.reader.interval(ALWAYS))
        assert keys_of(traces, observations) - set(keys(pages)) <= meddler.removed
        assert meddler.turns > 3


@pytest.mark.parametrize("trace", ["one-trace", None])
@pytest.mark.parametrize("ids", ["hex", "run-2026-11-20-", "日本-", ""])
async def test_more_rows_of_one_kind_in_a_millisecond_than_a_page(
    trace: str | None, ids: str, connect_v1: ConnectV1
) -> None:
    """Rows of one time, trace, type and level hide one another: nothing but their id tells them apart."""
    rows = [*same_moment(450, trace=trace, ids=ids), *steady(150)[1]]
    server = LangfuseV1([], rows)
    made = connect_v1(server)
    pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of([], rows))
    assert set(keys(pages)) == keys_of([], rows)
    assert made.asked <= 120


async def test_ids_that_end_in_anything(connect_v1: ConnectV1) -> None:
    """Ids in a script that cannot be typed, or one id that is the end of another, are left out of a crowd."""
    names = [f"{'ab' * (number % 40)}" + chr(0x4E00 + number) for number in range(150)]
    names += ["1" * length for length in range(1, 120)]
    rows = [observation_item("T", id=name, start=at(1)) for name in names]
    made = connect_v1(LangfuseV1([], rows), limit=20)
    assert set(keys(await walk(made.reader.interval(ALWAYS)))) == keys_of([], rows)
    assert made.asked < 3000


async def test_traces_of_one_millisecond(connect_v1: ConnectV1) -> None:
    """More traces begin at once than a page holds: they can be put in an order, which costs no more than to read."""
    for mode in MODES:
        traces = [trace_item(start=at(1)) for _ in range(730)]
        made = connect_v1(LangfuseV1(traces, [], mode=mode))
        assert set(keys(await walk(made.reader.interval(ALWAYS)))) == keys_of(traces, [])
        assert made.asked < 60


@pytest.mark.parametrize("limit", [2, 100])
async def test_crowded_millisecond_of_an_old_server(limit: int, connect_v1: ConnectV1) -> None:
    """Without `filter`, rows of one time, trace and type come by number alone, and some never come."""
    rows: list[Item] = same_moment(4 * limit)
    rows += [observation_item(f"T{number % 3}", start=at(1), type="GENERATION") for number in range(3 * limit)]
    rows += [observation_item(None, start=at(1), type="EVENT") for _ in range(3 * limit)]
    made = connect_v1(LangfuseV1([], rows, mode="v2"), limit=limit)
    pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of([], rows))
    assert set(keys(pages)) == keys_of([], rows)


async def test_many_traces_in_a_millisecond_of_an_old_server(connect_v1: ConnectV1) -> None:
    """Rows of as many traces are asked for trace by trace, a request each."""
    rows = [observation_item(f"T{number}", start=at(1)) for number in range(600)]
    made = connect_v1(LangfuseV1([], rows, mode="v2"))
    assert set(keys(await walk(made.reader.interval(ALWAYS)))) == keys_of([], rows)
    assert made.asked < 110


async def test_few_ties_on_small_pages_of_an_old_server(connect_v1: ConnectV1) -> None:
    """Rows that come by number alone are given up after a round that happened to bring nothing new."""
    for seed in range(30):
        rows = same_moment(5)
        made = connect_v1(LangfuseV1([], rows, mode="v2", seed=seed), limit=2)
        assert set(keys(await walk(made.reader.interval(ALWAYS)))) == keys_of([], rows)


@pytest.mark.parametrize("mode", MODES)
async def test_rows_that_come_into_a_crowd_while_it_is_read(mode: Mode, connect_v1: ConnectV1) -> None:
    """A row that comes meanwhile is counted in the place of another, which is then never asked for."""
    for seed in range(5):
        rows = same_moment(60)
        server = LangfuseV1([], rows, mode=mode, seed=seed)
        made = connect_v1(server, limit=7)

        def add(_: Request, server: LangfuseV1 = server) -> None:
            if len(server.observations) < 75:
                server.observations.extend(same_moment(1))

        server.before = add
        assert keys_of([], rows) <= set(keys(await walk(made.reader.interval(ALWAYS))))


async def test_pages_have_the_size_of_what_was_read(connect_v1: ConnectV1) -> None:
    """The limit of memory is reached by a few observations, or never."""
    made = connect_v1(LangfuseV1(*steady(300)), limit=30)
    lengths: list[int] = []
    made.client.http.event_hooks = {"response": [_length_into(lengths)]}
    pages = await walk(made.reader.interval(ALWAYS))
    assert all(page.size >= 0 for page in pages)
    assert 0.8 * sum(lengths) <= sum(page.size for page in pages) <= sum(lengths)


def _length_into(lengths: list[int]) -> Callable[[httpx.Response], Awaitable[None]]:
    async def note(response: httpx.Response) -> None:
        lengths.append(len(await response.aread()))

    return note


async def test_pages_by_number_end_with_the_last_row(connect_v1: ConnectV1) -> None:
    """Each moment that is read by numbers costs a request for nothing."""
    made = connect_v1(LangfuseV1([], same_moment(200), mode="v2"))
    assert len(set(keys(await walk(made.reader.interval(ALWAYS))))) == 200
    asked = [(int(request.query["page"]), int(request.query["limit"])) for request in made.server.requests]
    assert len(asked) > 2
    assert [(page, limit) for page, limit in asked if (page - 1) * limit >= 200] == []
