"""The keys reach the one server they are meant for, and no message, traceback or log."""

from __future__ import annotations

import base64
import logging
import traceback

import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Reply, Request, json_reply
from sync_worker.errors import SourcePaused, SyncError
from sync_worker.langfuse.identity import project_of, server_version
from tests.langfuse.conftest import ALWAYS, PUBLIC_KEY, SECRET_KEY, Connect, some_rows, walk
from tests.support import faults

BASIC = base64.b64encode(f"{PUBLIC_KEY}:{SECRET_KEY}".encode()).decode()
SECRETS = (PUBLIC_KEY, SECRET_KEY, BASIC)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(code: int, server: RecordedLangfuse, connect: Connect) -> None:
    """The keys go to wherever a server sends its callers."""
    with RecordedLangfuse(some_rows(3)) as elsewhere:
        server.script = faults.always(faults.redirect(f"{elsewhere.url}/api/public/v2/observations?token=abc", code))
        made = connect(server.url)
        for ask in (walk(made.reader.interval(ALWAYS)), project_of(made.client)):
            with pytest.raises(SourcePaused, match="LANGFUSE_BASE_URL") as caught:
                await ask
            assert elsewhere.url in str(caught.value)
            assert "abc" not in str(caught.value)
        assert elsewhere.requests == []


async def test_keys_are_sent_in_the_header_alone(server: RecordedLangfuse, connect: Connect) -> None:
    """A key stands in an address, where every proxy logs it, or is not sent at all."""
    made = connect(server.url)
    await walk(made.reader.interval(ALWAYS))
    await project_of(made.client)
    for request in server.requests:
        assert request.headers["authorization"] == f"Basic {BASIC}"
        assert not any(secret in request.target for secret in SECRETS)
        assert request.headers["user-agent"]


def _repeating(code: int) -> list[Reply]:
    printed = f"bad key {SECRET_KEY} of {PUBLIC_KEY}, header Basic {BASIC} " + "x" * 130 + SECRET_KEY
    return [
        json_reply(code, {"message": printed, "error": [printed]}),
        Reply(code, {"Content-Type": "text/html", "X-Debug": printed}, printed.encode()),
        Reply(code, {"Content-Type": "application/json", "X-RateLimit-Limit": SECRET_KEY}, printed.encode()),
    ]


@pytest.mark.parametrize("code", [200, 302, 400, 401, 403, 404, 413, 422, 429, 500, 503, 524])
async def test_no_key_in_any_message(
    code: int, server: RecordedLangfuse, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A key lands in an error, its traceback or a log, at a server that repeats what it was sent."""
    caplog.set_level(logging.DEBUG)
    for reply in _repeating(code):
        server.script = faults.always(reply)
        for which in range(3):
            made = connect(server.url, patience=70.0)
            asks = (walk(made.reader.interval(ALWAYS)), project_of(made.client), server_version(made.client))
            for number, ask in enumerate(asks):
                if number != which:
                    ask.close()
            with pytest.raises(SyncError) as caught:
                await asks[which]
            assert_silent("".join(traceback.format_exception(caught.value)))
    assert_silent(reported(caplog))


async def test_no_key_in_logs_of_a_good_walk(
    server: RecordedLangfuse, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """At the debug level requests are logged with their headers."""
    caplog.set_level(logging.DEBUG)
    rows = some_rows(8)
    server.rows.extend(rows)
    poison = faults.when(faults.shows_row(server, rows[3]["id"]), faults.status(500))
    server.script = faults.first_of(faults.in_turn(faults.drop(), faults.rate_limited(1)), poison)
    made = connect(server.url)
    await walk(made.reader.interval(ALWAYS))
    await project_of(made.client)
    assert "GET /api/public/v2/observations: 200" in caplog.text
    assert_silent(reported(caplog))
    assert_silent(repr(made.client) + repr(made.reader))


async def test_dead_connection_says_no_key(connect: Connect) -> None:
    """An error of the network repeats the request that it broke."""
    with RecordedLangfuse() as gone:
        url = gone.url
    made = connect(url, patience=1.0)
    with pytest.raises(SyncError) as caught:
        await walk(made.reader.interval(ALWAYS))
    assert_silent("".join(traceback.format_exception(caught.value)))


def reported(caplog: pytest.LogCaptureFixture) -> str:
    """Return what an operator may see: all of the worker's lines, and what the HTTP client says aloud."""
    shown = [one for one in caplog.records if one.name.startswith("sync_worker") or one.levelno >= logging.WARNING]
    assert shown
    return "\n".join(f"{one.getMessage()} {one.__dict__} {one.exc_text}" for one in shown)


def assert_silent(text: str) -> None:
    found = [secret for secret in SECRETS if secret in text]
    assert found == [], text[max(0, text.index(found[0]) - 200) :][:400]


def echo(request: Request) -> Reply:
    """Answer with what was sent, as debugging proxies do."""
    return json_reply(500, {"message": str(request.headers)})


async def test_proxy_that_repeats_headers(
    server: RecordedLangfuse, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A debugging proxy's answer brings the Authorization header into the log."""
    caplog.set_level(logging.DEBUG)
    server.script = echo
    with pytest.raises(SyncError) as caught:
        await walk(connect(server.url, patience=5.0).reader.interval(ALWAYS))
    assert_silent("".join(traceback.format_exception(caught.value)) + reported(caplog))
