"""Rows that a server cannot serve: they are stepped over, and nothing else is."""

from __future__ import annotations

import logging

import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import TransientError
from sync_worker.langfuse.reader import Page
from tests.langfuse.conftest import ALWAYS, Connect, Connected, ids, newest_first, some_rows, unreadable_ids, walk
from tests.support import faults

BREAKING = {
    "500": faults.status(500, message="cannot read row"),
    "422": faults.query_timed_out(),
    "413": faults.status(413),
    "502": faults.status(502),
    "dropped": faults.drop(),
    "cut short": Reply(200, {"Content-Type": "application/json"}, b'{"data":[{"id":"a","inp'),
}
PLACES = {"newest": [39], "oldest": [0], "middle": [20], "two apart": [30, 5], "three in a row": [10, 11, 12]}


CASES = [(reply, "middle") for reply in BREAKING] + [(reply, places) for reply in ("500", "422") for places in PLACES]


@pytest.mark.parametrize(("how", "where"), CASES)
async def test_row_that_breaks_every_page(how: str, where: str, server: RecordedLangfuse, langfuse: Connected) -> None:
    """One row that Langfuse cannot serve stops the sync for good, or takes others with it."""
    rows = some_rows(40)
    server.rows.extend(rows)
    places = PLACES[where]
    poison = [rows[place]["id"] for place in places]
    server.script = faults.when(faults.shows_row(server, *poison), BREAKING[how])
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert ids(pages) == [observation_id for observation_id in newest_first(rows) if observation_id not in poison]
    assert unreadable_ids(pages) == sorted(poison, key=newest_first(rows).index)
    (item, *_) = [item for page in pages for item in page.unreadable]
    assert "cannot serve it" in item.reason
    assert item.trace_id == rows[places[-1]]["traceId"] or len(places) > 1
    assert len(langfuse.sent) < 45 * len(places)


async def test_slow_row(server: RecordedLangfuse, connect: Connect) -> None:
    """A row on which the server hangs stops the sync for good."""
    rows = some_rows(3)
    server.rows.extend(rows)
    server.script = faults.when(faults.shows_row(server, rows[1]["id"]), faults.slow(0.3))
    made = connect(server.url, timeout=0.05)
    pages = await walk(made.reader.interval(ALWAYS))
    assert (ids(pages), unreadable_ids(pages)) == ([rows[2]["id"], rows[0]["id"]], [rows[1]["id"]])


async def test_stepping_over_is_reported(
    server: RecordedLangfuse, langfuse: Connected, caplog: pytest.LogCaptureFixture
) -> None:
    """A row goes missing without a word."""
    rows = some_rows(3)
    server.rows.extend(rows)
    server.script = faults.when(faults.shows_row(server, rows[1]["id"]), faults.status(500))
    with caplog.at_level(logging.WARNING):
        await walk(langfuse.reader.interval(ALWAYS))
    assert any(rows[1]["id"] in record.getMessage() for record in caplog.records)


async def test_pages_grow_back_after_a_poison_row(server: RecordedLangfuse, langfuse: Connected) -> None:
    """One bad row makes the rest of a backlog come one by one."""
    rows = some_rows(1200)
    server.rows.extend(rows)
    server.script = faults.when(faults.shows_row(server, rows[1199]["id"]), faults.query_timed_out())
    assert len(ids(await walk(langfuse.reader.interval(ALWAYS)))) == 1199
    at = langfuse.limits.index(2, langfuse.limits.index(1))
    assert langfuse.limits[at : at + 4] == [2, 4, 8, 16]
    assert len(langfuse.sent) < 40


def no_content(_: Request) -> bool:
    return "io" in _.query.get("fields", "")


@pytest.mark.parametrize("reply", BREAKING.values(), ids=BREAKING.keys())
async def test_server_that_lists_but_serves_no_content(
    reply: Reply, server: RecordedLangfuse, connect: Connect
) -> None:
    """When the store of content is down, every row in turn is dead-lettered as if it were broken."""
    server.rows.extend(some_rows(40))
    server.script = faults.when(no_content, reply)
    made = connect(server.url, patience=120.0)
    pages: list[Page] = []
    with pytest.raises(TransientError, match="gave up after"):
        await walk(made.reader.interval(ALWAYS), pages)
    assert ids(pages) == []
    assert len(unreadable_ids(pages)) <= 8


@pytest.mark.parametrize("reply", BREAKING.values(), ids=BREAKING.keys())
async def test_content_that_fails_later_on(reply: Reply, server: RecordedLangfuse, connect: Connect) -> None:
    """Rows are dead-lettered although what was served a moment ago is not served either."""
    rows = some_rows(40)
    server.rows.extend(rows)
    made = connect(server.url, patience=120.0)
    assert len(ids(await walk(made.reader.interval(ALWAYS)))) == 40
    server.script = faults.when(no_content, reply)
    with pytest.raises(TransientError, match="gave up after"):
        await walk(made.reader.interval(ALWAYS))
    server.script = None
    pages = await walk(made.reader.interval(ALWAYS))
    assert (len(ids(pages)), unreadable_ids(pages)) == (40, [])


async def test_many_poison_rows_after_a_good_one(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A long run of broken rows, each proven, stops the sync."""
    rows = some_rows(16)
    server.rows.extend(rows)
    poison = [item["id"] for item in rows[1:15]]
    server.script = faults.when(faults.shows_row(server, *poison), faults.status(500))
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert ids(pages) == [rows[15]["id"], rows[0]["id"]]
    assert unreadable_ids(pages) == poison[::-1]


async def test_page_of_one_that_holds_more(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A server that ignores the limit makes every row of a page share the fate of one."""
    rows = some_rows(5)
    server.rows.extend(rows)
    one_and_more = faults.when(
        faults.asks(fields="core,basic,time"),
        lambda request: server.answer(Request("GET", request.target.replace("limit=1&", ""), request.headers), None),
    )
    server.script = faults.first_of(faults.when(no_content, faults.status(500)), one_and_more)
    with pytest.raises(TransientError, match="holds 5"):
        await walk(langfuse.reader.interval(ALWAYS))


async def test_proof_that_is_gone(server: RecordedLangfuse, langfuse: Connected) -> None:
    """Rows that were deleted meanwhile prove nothing, neither for nor against a poison row."""
    server.rows.extend(some_rows(2))
    await walk(langfuse.reader.interval(ALWAYS))
    server.rows.clear()
    rows = some_rows(6)
    server.rows.extend(rows)
    server.script = faults.when(faults.shows_row(server, rows[5]["id"]), faults.status(500))
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert (ids(pages), unreadable_ids(pages)) == ([item["id"] for item in rows[4::-1]], [rows[5]["id"]])


async def test_poison_row_that_comes_late(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A poison row that turns up where all was well before stops the sync, since what was served there fails now."""
    rows = some_rows(6)
    server.rows.extend(rows[:5])
    await walk(langfuse.reader.interval(ALWAYS))
    server.rows.extend(rows[5:])
    server.script = faults.when(faults.shows_row(server, rows[5]["id"]), faults.status(500))
    pages = await walk(langfuse.reader.observations([rows[5]["id"]], ALWAYS))
    assert (ids(pages), unreadable_ids(pages)) == ([], [rows[5]["id"]])


async def test_row_that_turns_to_poison(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A row that could be served before, and no longer, stops the sync: it is asked to prove its own innocence."""
    rows = some_rows(1)
    server.rows.extend(rows)
    await walk(langfuse.reader.interval(ALWAYS))
    server.script = faults.when(faults.shows_row(server, rows[0]["id"]), faults.status(500))
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert unreadable_ids(pages) == [rows[0]["id"]]
