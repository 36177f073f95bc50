"""What the reader makes of a server that fails: no row is lost or repeated, and nothing is asked more than it helps."""

from __future__ import annotations

import httpx
import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import CredentialsRejected, SourcePaused, TransientError
from sync_worker.langfuse.buckets import METRICS, PUBLIC_API
from sync_worker.langfuse.langfuse_client import EndpointMissing, RequestRejected, ServerError
from sync_worker.langfuse.metrics_api import count_observations
from sync_worker.langfuse.page_size import HEAVY_PAGE_BYTES, PageSize
from sync_worker.langfuse.reader import Page
from sync_worker.langfuse.v2 import FULL, PATH
from tests.langfuse.conftest import ALWAYS, Connect, Connected, ids, newest_first, some_rows, unreadable_ids, walk
from tests.support import faults

HTML = Reply(200, {"Content-Type": "text/html"}, b"<html><body>Please log in</body></html>")
CUT_SHORT = Reply(200, {"Content-Type": "application/json"}, b'{"data":[{"id":"a","inp')
NOT_GZIP = Reply(200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"this is no gzip")

PASSING = {
    "429": faults.rate_limited(7),
    "429 plain": faults.rate_limited_plainly(3),
    "408": faults.status(408),
    "500": faults.status(500),
    "502": Reply(502, {"Content-Type": "text/html"}, b"<html>\xff bad gateway</html>"),
    "503 with a wait": faults.status(503, retry_after=9),
    "504": faults.status(504),
    "520": faults.status(520),
    "524": faults.status(524),
    "413": faults.status(413),
    "422": faults.query_timed_out(),
    "dropped": faults.drop(),
    "login page": HTML,
    "cut short": CUT_SHORT,
    "no gzip": NOT_GZIP,
}


@pytest.mark.parametrize("reply", PASSING.values(), ids=PASSING.keys())
async def test_fault_that_passes(reply: Reply, server: RecordedLangfuse, langfuse: Connected) -> None:
    """After a fault in the middle of a walk rows are lost or repeated, or it is taken for the end of everything."""
    rows = some_rows(40)
    server.rows.extend(rows)
    langfuse.reader._sizes[FULL].limit = 8
    server.script = faults.in_turn(None, reply, None, reply, reply)
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert ids(pages) == newest_first(rows)
    assert unreadable_ids(pages) == []
    assert all(wait <= 60 for wait in langfuse.clock.waits)


async def test_rate_limit_is_obeyed_and_learnt(server: RecordedLangfuse, langfuse: Connected) -> None:
    """The wait that Langfuse asks for is cut short, or the limit that it tells is forgotten."""
    server.rows.extend(some_rows(3))
    server.script = faults.in_turn(faults.rate_limited(37, limit=30))
    await walk(langfuse.reader.interval(ALWAYS))
    assert langfuse.clock.waits == [37.0]
    assert langfuse.client.rate_limits.of(PUBLIC_API).estimated_limit == 30
    assert langfuse.client.rate_limits.of(PUBLIC_API).per_minute == 24


@pytest.mark.parametrize("limit", ["²", "-5", "many", "", "1e3"])
async def test_limit_in_strange_letters(limit: str, server: RecordedLangfuse, langfuse: Connected) -> None:
    """A header that is no number ends the run."""
    headers = {"Retry-After": "1", "X-RateLimit-Limit": limit}
    server.script = faults.in_turn(Reply(429, headers, b"429 - rate limit exceeded"))
    await walk(langfuse.reader.interval(ALWAYS))
    assert langfuse.client.rate_limits.of(PUBLIC_API).estimated_limit is None


async def test_rate_limit_without_a_wait(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A plain 429 is answered by asking again at once: denied requests count too."""
    server.script = faults.in_turn(faults.rate_limited_plainly())
    await walk(langfuse.reader.interval(ALWAYS))
    assert langfuse.clock.waits == [60.0]


async def test_rate_limit_beyond_patience(server: RecordedLangfuse, connect: Connect) -> None:
    """A rate limit never ends, and `once` neither; or the message about it is told twice over."""
    server.script = faults.always(faults.rate_limited(45))
    walking, asking = connect(server.url, patience=100.0), connect(server.url, patience=100.0)
    for made, ask in ((walking, walk(walking.reader.interval(ALWAYS))), (asking, asking.client.get(PATH, {}))):
        with pytest.raises(TransientError) as caught:
            await ask
        assert str(caught.value).count("gave up") == 1
        assert sum(made.clock.waits) <= 100.0


async def test_retry_after_of_an_outage(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A 503 that says when to come back is asked again earlier, however small the page has become."""
    server.rows.extend(some_rows(2))
    langfuse.reader._sizes[FULL].limit = 1
    server.script = faults.in_turn(*[faults.status(503, retry_after=20)] * 4)
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert (len(ids(pages)), unreadable_ids(pages)) == (2, [])
    assert langfuse.clock.waits == [20.0] * 4


@pytest.mark.parametrize("faults_in_all", [1, 4, 5, 6, 7, 10, 11, 12, 13])
@pytest.mark.parametrize("reply", [faults.status(500), faults.query_timed_out()], ids=["500", "422"])
async def test_outage_that_ends_at_any_moment(
    reply: Reply, faults_in_all: int, server: RecordedLangfuse, connect: Connect
) -> None:
    """A row is given up although it was never tried while the server was well."""
    langfuse = connect(server.url, patience=None)
    rows = some_rows(4)
    server.rows.extend(rows)
    server.script = faults.in_turn(*[reply] * faults_in_all)
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert ids(pages) == newest_first(rows)
    assert unreadable_ids(pages) == []


@pytest.mark.parametrize(
    "reply", [faults.status(500), faults.status(503), faults.query_timed_out(), faults.status(413), faults.drop()],
    ids=["500", "503", "422", "413", "dropped"],
)  # fmt: skip
async def test_server_that_is_down(reply: Reply, server: RecordedLangfuse, connect: Connect) -> None:
    """An outage is taken for rows that cannot be served, or the worker waits longer than it was told to."""
    server.rows.extend(some_rows(30))
    server.script = faults.always(reply)
    made = connect(server.url, patience=120.0)
    pages: list[Page] = []
    with pytest.raises(TransientError, match="gave up after"):
        await walk(made.reader.interval(ALWAYS), pages)
    assert pages == []
    assert sum(made.clock.waits) <= 120.0
    assert len(made.sent) < 60


async def test_outage_without_end_is_waited_out(server: RecordedLangfuse, connect: Connect) -> None:
    """`run` gives up, or asks a server that is down without pauses."""
    server.rows.extend(some_rows(3))
    server.script = faults.in_turn(*[faults.status(500)] * 60)
    made = connect(server.url, patience=None)
    assert len(ids(await walk(made.reader.interval(ALWAYS)))) == 3
    assert sum(made.clock.waits) > 30 * 60


async def test_refused_connection(connect: Connect) -> None:
    """A server that is not there is a poison page or an unknown fault."""
    with RecordedLangfuse() as gone:
        url = gone.url
    made = connect(url, patience=10.0)
    with pytest.raises(TransientError, match=r"cannot be reached at .*gave up after"):
        await walk(made.reader.interval(ALWAYS))
    assert set(made.limits) == {1000}


async def test_slow_answers_make_smaller_pages(server: RecordedLangfuse, connect: Connect) -> None:
    """A page that takes too long is asked for in the same size for ever."""
    rows = some_rows(60)
    server.rows.extend(rows)
    server.script = faults.when(lambda request: int(request.query["limit"]) > 125, faults.slow(0.5))
    made = connect(server.url, timeout=0.1)
    assert ids(await walk(made.reader.interval(ALWAYS))) == newest_first(rows)
    assert made.limits == [1000, 1000, 125]


@pytest.mark.parametrize("reply", [faults.status(413), faults.query_timed_out(), faults.status(500), faults.drop()])
async def test_too_large_a_page(reply: Reply, server: RecordedLangfuse, langfuse: Connected) -> None:
    """At a server that cannot serve large pages rows are lost or repeated, or half of the requests fail."""
    rows = some_rows(400)
    server.rows.extend(rows)
    server.script = faults.when(lambda request: int(request.query["limit"]) > 20, reply)
    pages = await walk(langfuse.reader.interval(ALWAYS))
    assert ids(pages) == newest_first(rows)
    assert unreadable_ids(pages) == []
    served = [request for request in server.requests if request.status == 200]
    assert len(served) <= 400 / 10 + 5
    assert len(server.requests) - len(served) < 14


async def test_smaller_page_stays_at_its_cursor(server: RecordedLangfuse, langfuse: Connected) -> None:
    """The page after a fault begins elsewhere than the one that failed."""
    rows = some_rows(40)
    server.rows.extend(rows)
    langfuse.reader._sizes[FULL].limit = 8
    server.script = faults.in_turn(None, None, faults.status(413), faults.status(413))
    await walk(langfuse.reader.interval(ALWAYS))
    cursors = [url.params.get("cursor") for url in langfuse.sent]
    assert cursors[2] == cursors[3] == cursors[4]
    assert langfuse.limits[2:5] == [32, 16, 8]


LASTING: list[tuple[Reply, type[Exception], str]] = [
    (faults.status(400), RequestRejected, "did not accept"),
    (faults.status(401), CredentialsRejected, "LANGFUSE_SECRET_KEY"),
    (faults.status(403), CredentialsRejected, "LANGFUSE_SECRET_KEY"),
    (faults.status(404), EndpointMissing, "is not there"),
    (faults.status(405), EndpointMissing, "is not there"),
    (faults.status(410), EndpointMissing, "is not there"),
    (faults.status(501), EndpointMissing, "is not there"),
    (faults.status(418), RequestRejected, "418"),
    (faults.redirect("/elsewhere"), SourcePaused, "redirects to"),
]


@pytest.mark.parametrize(("reply", "kind", "words"), LASTING, ids=[str(reply.status) for reply, *_ in LASTING])
async def test_fault_that_does_not_pass(
    reply: Reply, kind: type[Exception], words: str, server: RecordedLangfuse, langfuse: Connected
) -> None:
    """What only an operator can cure is tried again and again, or ends the program with all its other sources."""
    server.script = faults.always(reply)
    with pytest.raises(kind, match=words) as caught:
        await walk(langfuse.reader.interval(ALWAYS))
    assert isinstance(caught.value, SourcePaused)
    assert len(langfuse.sent) == 1
    assert langfuse.clock.waits == []


async def test_success_ends_an_outage(server: RecordedLangfuse, langfuse: Connected) -> None:
    """Faults of hours ago still count against the patience of today."""
    server.rows.extend(some_rows(40))
    langfuse.reader._sizes[FULL].limit = 4

    def script(request: Request) -> Reply | None:
        return faults.status(500) if len(server.requests) % 2 else None

    server.script = script
    langfuse.client.backoff._max_elapsed = 1.0
    assert len(ids(await walk(langfuse.reader.interval(ALWAYS)))) == 40
    assert set(langfuse.clock.waits) == {0.5}


def test_page_size_grows_back() -> None:
    """After a bad moment all later pages stay small."""
    size = PageSize()
    size.record_failure(1000, 8)
    pages = 0
    while size.limit < 1000:
        size.record_success(size.limit, 1000)
        pages += 1
        assert pages < 20
    assert size.limit == 1000


def test_page_size_seldom_tries_what_is_too_much() -> None:
    """A server that cannot serve a size has to refuse it over and over."""
    size, refusals = PageSize(), 0
    for _ in range(2000):
        if size.limit > 300:
            size.record_failure(size.limit, 2)
            refusals += 1
        else:
            size.record_success(size.limit, 1000)
    assert refusals < 20
    assert size.limit >= 125


@pytest.mark.parametrize("limit", [1, 2, 3, 999, 1000])
def test_page_size_keeps_its_bounds(limit: int) -> None:
    """A page of no rows, or of more than a server gives, is asked for."""
    size = PageSize()
    size.record_failure(limit, 8)
    assert 1 <= size.limit <= 1000
    size.record_success(limit, HEAVY_PAGE_BYTES + 1)
    assert 1 <= size.limit <= 1000
    size.record_success(limit, HEAVY_PAGE_BYTES // 2 + 1)
    assert 1 <= size.limit <= 1000
    size.reset()
    assert size.limit == 2


@pytest.mark.parametrize(
    ("code", "error", "overloaded"),
    [
        (200, None, False), (204, TransientError, False), (299, TransientError, False), (300, SourcePaused, False),
        (399, SourcePaused, False), (400, RequestRejected, False), (408, ServerError, False),
        (499, RequestRejected, False), (500, ServerError, True), (503, ServerError, True),
    ],
)  # fmt: skip
async def test_what_a_status_means(
    code: int, error: type[Exception] | None, overloaded: bool, server: RecordedLangfuse, connect: Connect
) -> None:
    """A redirect is tried again for ever, or a server that cannot cope is pressed as one that is well."""
    client = connect(server.url).client
    found = client.failure("/", httpx.Response(code)) if error else None
    assert type(found) is (error or type(None))
    assert isinstance(found, TransientError) is (error in {TransientError, ServerError})
    assert getattr(found, "overloaded", False) is overloaded


async def test_a_count_never_waits(server: RecordedLangfuse, langfuse: Connected) -> None:
    """What is optional would hold up a backfill for an hour, as Cloud grants few of these requests."""
    langfuse.client.rate_limits.of(METRICS).block(60.0)
    assert await count_observations(langfuse.client, ALWAYS) is None
    assert (langfuse.clock.waits, langfuse.sent) == ([], [])
