"""What the reader makes of answers that are too large, and what messages tell of an answer."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest

from sync_worker.clock import Stopped
from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import SyncError
from sync_worker.http import describe
from sync_worker.langfuse.identity import project_of
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.langfuse.truncated_fields import Media
from tests.langfuse.conftest import ALWAYS, Connect, ids, newest_first, some_rows, unreadable_ids, walk
from tests.support.rows import row

SECRET = "the-customer's-own-words"


async def test_page_over_the_limit_comes_in_smaller_ones(server: RecordedLangfuse, connect: Connect) -> None:
    """A page that is larger than what is taken would stop its source for good."""
    rows = [row(start=float(number), input="x" * 9000) for number in range(64)]
    server.rows.extend(rows)
    reading = connect(server.url, max_bytes=65536)
    pages = await walk(reading.reader.interval(ALWAYS))
    assert ids(pages) == newest_first(rows)
    assert unreadable_ids(pages) == []
    assert max(page.size for page in pages) <= 65536


async def test_row_over_the_limit_is_dead_lettered(server: RecordedLangfuse, connect: Connect) -> None:
    """One row that is larger than what is taken would keep all others from coming."""
    rows = [*some_rows(20), row(start=7.5, input="x" * 100_000)]
    server.rows.extend(rows)
    reading = connect(server.url, max_bytes=65536)
    pages = await walk(reading.reader.interval(ALWAYS))
    assert unreadable_ids(pages) == [rows[-1]["id"]]
    assert ids(pages) == newest_first(rows[:-1])


@pytest.mark.parametrize(
    ("reply", "reported"),
    [
        (Reply(200, {"Content-Type": "text/html"}, f"<html>{SECRET}".encode()), "of text/html, a web page"),
        (Reply(200, {"Content-Type": "application/json"}, b'{"data":[{"input":"' + SECRET.encode()), "cannot be read"),
        (Reply(200, {"Content-Type": "application/json"}, json.dumps([SECRET]).encode()), "without `data` and `meta`"),
        (Reply(200, {"Content-Encoding": "gzip"}, SECRET.encode()), "not the gzip"),
        (Reply(500, {"Content-Type": "text/plain"}, SECRET.encode()), "of text/plain, not JSON"),
        (Reply(500, {}, json.dumps({"input": SECRET, "message": "no\x1b[31m\nstore"}).encode()), "no [31m store"),
        (Reply(500, {}, json.dumps({"error": [{"message": "no store", "value": SECRET}]}).encode()), "no store"),
        (Reply(500, {}, json.dumps({"error": {"message": "no store", "value": SECRET}}).encode()), "no store"),
        (Reply(500, {}, json.dumps({"error": {"value": SECRET}}).encode()), "JSON without a message"),
        (Reply(404, {"Content-Type": "text/html"}, f"<p>{SECRET}".encode()), "HTML or XML"),
        (Reply(302, {"Location": "/" + "x" * 5000}, SECRET.encode()), "redirects to /xxx"),
        (Reply(200, {"Content-Length": "9"}, b'{"data":[' + SECRET.encode()), "conflicting Content-Length headers"),
    ],
)
@pytest.mark.parametrize("by_sdk", [False, True])
async def test_message_holds_nothing_of_an_answer(
    reply: Reply, reported: str, server: RecordedLangfuse, connect: Connect, *, by_sdk: bool
) -> None:
    """A customer's data would stand in logs that others read."""
    reading = connect(server.url, patience=0.0)
    server.script = lambda request: reply
    with pytest.raises(SyncError) as raised:
        await (project_of(reading.client) if by_sdk else walk(reading.reader.interval(ALWAYS)))
    assert SECRET not in str(raised.value)
    assert len(str(raised.value)) < 700
    assert str(raised.value).isprintable()
    assert by_sdk or reported in str(raised.value)


@pytest.mark.parametrize(
    "quoted",
    [
        f"illegal status line: bytearray(b'{SECRET}')",
        f'Illegal header name b"{SECRET}"',
        f"malformed chunk footer: bytearray(b'{SECRET}') (expected b'\\r\\n')",
    ],
)
def test_what_breaks_the_rules_of_http_is_not_repeated(quoted: str) -> None:
    """An answer that is longer than it says runs into the next, and the parser of HTTP quotes what it finds there."""
    reported = describe(httpx.RemoteProtocolError(quoted))
    assert SECRET not in reported
    assert reported.casefold().startswith(("illegal", "malformed"))


async def test_stop_while_a_text_is_fetched(server: RecordedLangfuse, connect: Connect) -> None:
    """A stop at the wrong moment would leave a token in place of a text that is to be had."""
    reading = connect(server.url)
    token = "@@@langfuseMedia:type=text/plain|id=long|source=field_size_limit@@@"

    def stops(request: Request) -> Reply | None:
        if not request.path.startswith("/api/public/media"):
            return None
        reading.clock.stopping = True
        return Reply(503, {}, b"")

    server.script = stops
    shortened = replace(parse_v2_observation(row(start=1.0)), input=token)
    with pytest.raises(Stopped):
        await Media(reading.client).resolve(shortened)
