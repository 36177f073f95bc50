"""Which project the keys open: the one request that is read by the SDK's typed client."""

from __future__ import annotations

import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Reply, json_reply
from sync_worker.errors import CredentialsRejected, SourcePaused, SyncError, TransientError
from sync_worker.langfuse.buckets import PUBLIC_API
from sync_worker.langfuse.identity import Project, project_of, server_version
from sync_worker.langfuse.langfuse_client import EndpointMissing, RequestRejected
from tests.langfuse.conftest import Connect, Connected
from tests.support import faults

PROJECT = Project("h1-proj-a", "H1 Project A", "h1-org")

PASSING = {
    "429": faults.rate_limited(21),
    "429 plain": faults.rate_limited_plainly(),
    "500": faults.status(500),
    "503": faults.status(503, retry_after=4),
    "524": faults.status(524),
    "bytes that are no text": Reply(502, {"Content-Type": "text/html"}, b"<html>\xff\xfe</html>"),
    "dropped": faults.drop(),
    "login page": Reply(200, {"Content-Type": "text/html"}, b"<html>log in</html>"),
    "login page in bytes": Reply(200, {"Content-Type": "text/html"}, b"\xff\xfe<html>log in</html>"),
    "another shape": json_reply(200, {"data": [{"name": "no id"}]}),
    "a list": json_reply(200, [1]),
    "nothing": Reply(204),
}


@pytest.mark.parametrize("reply", PASSING.values(), ids=PASSING.keys())
async def test_fault_that_passes(reply: Reply, server: RecordedLangfuse, langfuse: Connected) -> None:
    """A worker that starts while Langfuse has a bad moment ends, or crashes."""
    server.script = faults.in_turn(reply, reply)
    assert await project_of(langfuse.client) == PROJECT
    assert len(server.requests) == 3
    assert langfuse.clock.waits


async def test_limit_is_learnt(server: RecordedLangfuse, langfuse: Connected) -> None:
    """A limit that is told at the first request is forgotten."""
    server.script = faults.in_turn(faults.rate_limited(21, limit=100))
    await project_of(langfuse.client)
    assert langfuse.client.rate_limits.of(PUBLIC_API).estimated_limit == 100
    assert 21.0 in langfuse.clock.waits


@pytest.mark.parametrize("reply", PASSING.values(), ids=PASSING.keys())
async def test_patience_ends(reply: Reply, server: RecordedLangfuse, connect: Connect) -> None:
    """`once` waits for ever before it has begun."""
    server.script = faults.always(reply)
    with pytest.raises(TransientError, match="gave up after"):
        await project_of(connect(server.url, patience=100.0).client)


LASTING: list[tuple[Reply, type[SyncError]]] = [
    (faults.status(400), RequestRejected),
    (faults.status(401), CredentialsRejected),
    (faults.status(403), CredentialsRejected),
    (Reply(403, {"Content-Type": "text/html"}, b"<html>forbidden</html>"), CredentialsRejected),
    (faults.status(404), EndpointMissing),
    (Reply(404, {"Content-Type": "text/html"}, b"<html>not found</html>"), EndpointMissing),
    (faults.redirect("/elsewhere"), SourcePaused),
    (json_reply(200, {"data": []}), CredentialsRejected),
]


@pytest.mark.parametrize(("reply", "kind"), LASTING)
async def test_fault_that_does_not_pass(
    reply: Reply, kind: type[SyncError], server: RecordedLangfuse, langfuse: Connected
) -> None:
    """Keys that are refused are tried again and again, or the program ends with all its other sources."""
    server.script = faults.always(reply)
    with pytest.raises(kind) as caught:
        await project_of(langfuse.client)
    assert isinstance(caught.value, SourcePaused)
    assert len(server.requests) == 1


async def test_version(server: RecordedLangfuse, langfuse: Connected) -> None:
    """`check` cannot tell the server's version, or crashes on a strange answer."""
    assert await server_version(langfuse.client) == "4.16.0"
    for reply in (*PASSING.values(), faults.status(404), json_reply(200, {})):
        server.script = faults.always(reply)
        with pytest.raises((TransientError, SourcePaused)):
            await server_version(langfuse.client)
