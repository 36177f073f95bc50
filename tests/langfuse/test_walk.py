"""How a walk goes from page to page, and how it ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest

from sync_worker.clock import Stopped
from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Reply, Request, json_reply
from sync_worker.errors import TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse.filters import MAX_FILTER_BYTES
from sync_worker.langfuse.page_size import HEAVY_PAGE_BYTES, MAX_LIMIT
from sync_worker.langfuse.v2 import FULL
from tests.langfuse.conftest import (
    ALWAYS,
    Connect,
    Connected,
    ids,
    moment,
    newest_first,
    some_rows,
    unreadable_ids,
    walk,
)
from tests.support import faults
from tests.support.rows import Row, recorded_rows, row, trace


def page(rows: list[Any], cursor: Any = None, **more: Any) -> Reply:
    return json_reply(200, {"data": rows, "meta": {} if cursor is None else {"cursor": cursor}} | more)


async def test_every_row_once_at_every_page_size(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A row is lost or doubled where pages meet."""
    server.rows.extend(recorded_rows())
    expected = [item["id"] for item in server.rows]
    for limit in (1000, 100, 7):
        for size in langfuse.reader._sizes.values():
            size.limit, size._too_much, size._probation = limit, limit + 1, 10_000
        assert ids(await walk(langfuse.reader.interval(ALWAYS, metadata_only=True))) == expected
        assert ids(await walk(langfuse.reader.interval(ALWAYS))) == expected


async def test_interval_is_half_open(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A row on the border of two intervals is in none, or in both."""
    server.rows.extend(some_rows(4))
    first = ids(await walk(langfuse.reader.interval(Interval(moment(0), moment(2)))))
    second = ids(await walk(langfuse.reader.interval(Interval(moment(2), moment(4)))))
    assert second + first == [item["id"] for item in server.rows]
    assert len(first) == 2
    assert ids(await walk(langfuse.reader.interval(Interval(moment(2), moment(2))))) == []


async def test_short_and_empty_pages_go_on(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A short or empty page with a cursor ends the walk, and what follows it is lost."""
    rows = some_rows(3)
    server.script = faults.in_turn(page(rows[:1], "a"), page([], "b"), page([], "c"), page(rows[1:]))
    assert ids(await walk(langfuse.reader.interval(ALWAYS))) == [item["id"] for item in rows]
    assert [url.params.get("cursor") for url in langfuse.sent] == [None, "a", "b", "c"]


@pytest.mark.parametrize("meta", [{}, {"cursor": None}, {"cursor": ""}])
async def test_full_page_without_cursor_ends(meta: Row, server: RecordedLangfuse, langfuse: Connected) -> None:
    """The walk asks for a page after the last one."""
    server.script = faults.always(page(some_rows(MAX_LIMIT), meta=meta))
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert (len(ids(pages)), len(langfuse.sent)) == (MAX_LIMIT, 1)


@pytest.mark.parametrize("cursors", ["aa", "aba", "abcb"])
async def test_repeated_cursor_is_an_error(cursors: str, server: RecordedLangfuse, langfuse: Connected) -> None:
    """The walk goes round for ever, or ends as if it were complete."""
    server.script = faults.in_turn(*(page(some_rows(1), cursor) for cursor in cursors))
    with pytest.raises(TransientError, match="a page cursor twice"):
        await walk(langfuse.reader.interval(ALWAYS))
    assert len(langfuse.sent) == len(cursors)


@pytest.mark.parametrize("cursor", [7, True, ["a"], {"after": "a"}])
async def test_cursor_of_another_kind_is_no_end(cursor: Any, server: RecordedLangfuse, connect: Connect) -> None:
    """A cursor that is no text is taken for none: the interval counts as read, and what follows is never sent."""
    server.script = faults.always(page(some_rows(2), cursor))
    with pytest.raises(TransientError, match="cursor"):
        await walk(connect(server.url, patience=1.0).reader.interval(ALWAYS))


@pytest.mark.parametrize("body", [[], {}, None, 3, {"data": []}, {"data": {}, "meta": {}}, {"data": [], "meta": None}])
async def test_answers_of_another_shape_are_no_empty_page(
    body: Any, server: RecordedLangfuse, connect: Connect
) -> None:
    """JSON of something that is not Langfuse passes for a page without rows."""
    server.script = faults.always(json_reply(200, body))
    with pytest.raises(TransientError, match="not Langfuse's API"):
        await walk(connect(server.url, patience=1.0).reader.interval(ALWAYS))


async def test_server_that_ignores_the_limit(server: RecordedLangfuse, langfuse: Connected) -> None:
    """More rows than were asked for are cut off or counted as a fault."""
    rows = some_rows(1500)
    server.script = faults.in_turn(page(rows[:1200], "a"), page(rows[1200:]))
    assert ids(await walk(langfuse.reader.interval(ALWAYS, metadata_only=True))) == [item["id"] for item in rows]


BROKEN: list[tuple[Any, str | None]] = [
    (None, None),
    ("a string", None),
    ([1, 2], None),
    ({}, None),
    ({"id": None, "startTime": "2026-11-20T12:00:00.000Z"}, None),
    ({"id": 7, "startTime": "2026-11-20T12:00:00.000Z"}, None),
    ({"id": "", "startTime": "2026-11-20T12:00:00.000Z"}, None),
    ({"id": "no start"}, "no start"),
    ({"id": "bad start", "startTime": "yesterday"}, "bad start"),
    ({"id": "naive start", "startTime": "2026-11-20T12:00:00"}, "naive start"),
    ({"id": "number start", "startTime": 1_795_000_000_000}, "number start"),
    ({"id": "odd", "traceId": 5, "startTime": {"deep": ["x"] * 100_000}}, "odd"),
]


@pytest.mark.parametrize(
    ("broken", "observation_id"), BROKEN, ids=[orjson.dumps(item)[:50].decode() for item, _ in BROKEN]
)
async def test_row_that_is_none(
    broken: Any, observation_id: str | None, server: RecordedLangfuse, langfuse: Connected
) -> None:
    """One row that cannot be understood takes its page down, or vanishes without a record."""
    rows = some_rows(4)
    server.script = faults.always(page([rows[0], broken, *rows[1:]]))
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert ids(pages) == [item["id"] for item in rows]
    assert unreadable_ids(pages) == [observation_id]
    (item,) = pages[0].unreadable
    assert item.raw == orjson.dumps(broken).decode()  # whole: it is redacted before it is truncated
    assert len(item.reason) < 400
    assert item.trace_id is None


async def test_unknown_types_levels_and_keys_pass(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A newer server's word for something makes rows unreadable."""
    server.script = faults.always(page([row(type="WORMHOLE", level="LOUD") | {"newKey": {"a": [1]}}]))
    (only,) = await walk(langfuse.reader.interval(ALWAYS))
    assert (only.observations[0].type, only.observations[0].level) == ("WORMHOLE", "LOUD")


async def test_heavy_page_halves_the_next(server: RecordedLangfuse, langfuse: Connected) -> None:
    """Pages of large rows grow without bound in memory."""
    heavy = page([row(input="x" * (HEAVY_PAGE_BYTES + 1))], "a")
    server.script = faults.in_turn(heavy, page(some_rows(1), "b"), page(some_rows(1)))
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert langfuse.limits == [1000, 500, 1000]
    assert pages[0].size > HEAVY_PAGE_BYTES


async def test_one_connection_for_a_walk(
    server: RecordedLangfuse, langfuse: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page pays for a new connection, TLS handshake and all."""
    accepted = []
    accept = server._http.get_request

    def counting() -> Any:
        accepted.append(1)
        return accept()

    monkeypatch.setattr(server._http, "get_request", counting)
    server.rows.extend(some_rows(120))
    langfuse.reader._sizes[FULL].limit = 1
    assert len(ids(await walk(langfuse.reader.interval(ALWAYS)))) == 120
    assert len(langfuse.sent) > 5
    assert len(accepted) == 1


async def test_answers_may_be_zipped(server: RecordedLangfuse, langfuse: Connected) -> None:
    """Content travels uncompressed, or a compressed answer cannot be read."""
    rows = [row(input="ünïcode " * 1000), *some_rows(3)]
    server.rows.extend(rows)
    (only,) = await walk(langfuse.reader.interval(ALWAYS))
    assert "gzip" in server.requests[0].headers["accept-encoding"]
    assert {item.input for item in only.observations} == {rows[0]["input"], "in"}
    assert only.size > 8000


async def test_stop_between_pages(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A run that is asked to stop reads a backlog of pages to its end first."""
    server.script = lambda request: page(some_rows(1), f"after {request.query.get('cursor')}")
    pages = langfuse.reader.interval(ALWAYS)
    await anext(pages)
    langfuse.clock.stop()
    with pytest.raises(Stopped):
        await anext(pages)
    assert len(langfuse.sent) <= 2  # the next page was asked for ahead


async def test_stop_ends_a_wait(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A run that is asked to stop sits out the pause between two tries."""
    server.script = faults.always(faults.status(503))
    langfuse.client.backoff.on_wait = lambda *_: langfuse.clock.stop()
    with pytest.raises(Stopped):
        await asyncio.wait_for(walk(langfuse.reader.interval(ALWAYS)), 60)


def _filter_ids(request: Request) -> list[str]:
    return [str(item) for item in json.loads(request.query["filter"])[0]["value"]]


@pytest.mark.parametrize("unit", ["a", "é", "🚀", "/", "'", '"', "\x01", "&=+# ", "\ud800"], ids=ascii)
async def test_ids_in_filters_fit_an_address(unit: str, server: RecordedLangfuse, langfuse: Connected) -> None:
    """An address with many or long ids is longer than a server takes, or an id is lost or changed on the way."""
    length = 800 // len(unit)
    wanted = [f"{number}:{unit * length}" for number in range(20)] + [f"{number:032x}" for number in range(200)]
    await walk(langfuse.reader.observations(wanted, ALWAYS))
    asked = [item for request in server.requests for item in _filter_ids(request)]
    assert asked == wanted
    assert {request.status for request in server.requests} == {200}
    for request in server.requests:
        alone = len(_filter_ids(request)) == 1
        assert len(request.target) <= MAX_FILTER_BYTES + 500 or (alone and len(request.target) < 16_000)


async def test_look_ups_by_trace_row_and_root(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A look-up brings other rows than those asked for, misses one, or cuts metadata."""
    traces = [trace(3, start=float(number * 20), metadata={"long": "x" * 900}) for number in range(400)]
    server.rows.extend(item for one in traces for item in one)
    wanted = [one[0]["traceId"] for one in traces[::2]]
    rows = [item for one in traces[::2] for item in one]
    around = Interval(moment(0), moment(10_000))
    reader = langfuse.reader
    assert sorted(ids(await walk(reader.traces(wanted, around)))) == sorted(item["id"] for item in rows)
    assert sorted(ids(await walk(reader.traces(wanted, around, metadata_only=True)))) == sorted(
        item["id"] for item in rows
    )
    roots = await walk(reader.roots(wanted, around))
    assert sorted(ids(roots)) == sorted(one[0]["id"] for one in traces[::2])
    assert {item.metadata["long"] for page in roots for item in page.observations} == {"x" * 900}
    assert {item.input for page in roots for item in page.observations} == {None}
    some = [item["id"] for item in rows[::7]]
    found = await walk(reader.observations(some, around))
    assert sorted(ids(found)) == sorted(some)
    assert {item.output for page in found for item in page.observations} >= {"hello"}


async def test_no_ids_no_request(server: RecordedLangfuse, langfuse: Connected) -> None:
    """An empty list of ids asks for everything."""
    for pages in (langfuse.reader.observations([], ALWAYS), langfuse.reader.traces([], ALWAYS)):
        assert await walk(pages) == []
    assert server.requests == []


async def test_rows_that_ended_lately(server: RecordedLangfuse, langfuse: Connected) -> None:
    """The look for long rows that ended lately misses one, or brings those of long ago."""
    rows = [row(start=0.0, seconds=10.0), row(start=1.0, seconds=100.0), row(start=2.0, seconds=None)]
    server.rows.extend(rows)
    pages = await walk(langfuse.reader.interval(ALWAYS, metadata_only=True, ended_since_ms=moment(50)))
    assert ids(pages) == [rows[1]["id"]]


async def test_order_is_newest_first(server: RecordedLangfuse, langfuse: Connected) -> None:
    """Rows come in another order than the walk promises."""
    rows = some_rows(50)
    server.rows.extend(rows)
    assert ids(await walk(langfuse.reader.interval(ALWAYS))) == newest_first(rows)
