"""The reader against what a real Langfuse 4.16.0 answered."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, cast

import pytest
import vcr
from httpx import QueryParams, Response
from vcr.request import Request

from sync_worker.errors import CredentialsRejected
from sync_worker.intervals import Interval
from sync_worker.langfuse.identity import Project, project_of, server_version
from sync_worker.langfuse.langfuse_client import EndpointMissing, RequestRejected, ServerError
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.langfuse.v2 import PATH
from tests.langfuse.conftest import ALWAYS, Connect, ids, walk
from tests.support.cassettes import CASSETTES, HOST, Recorded, play, recorded
from tests.support.rows import recorded_rows

WALK = recorded("page50")


def _cursor(request: Request) -> str | None:
    return dict(request.query).get("cursor")


def _same_page(asked: Request, kept: Request) -> bool:
    return (asked.method, asked.path, _cursor(asked)) == (kept.method, kept.path, _cursor(kept))


def play_pages(name: str) -> AbstractContextManager[Any]:
    """Answer by the cursor alone: the recordings asked for other bounds and sizes than the reader does."""
    player = vcr.VCR(cassette_library_dir=str(CASSETTES), record_mode=vcr.mode.NONE, match_on=["page"])
    player.register_matcher("page", _same_page)
    return cast("AbstractContextManager[Any]", player.use_cassette(f"{name}.yaml"))


async def test_every_row_of_a_recorded_walk_comes_once(connect: Connect) -> None:
    """A row is left out, repeated or moved where two recorded pages meet, or the walk asks on after its end."""
    made = connect(HOST)
    with play_pages("page50") as cassette:
        pages = await walk(made.reader.interval(ALWAYS, metadata_only=True))
    expected = [item["id"] for one in WALK for item in one.json["data"]]
    assert ids(pages) == expected
    assert len(expected) == 822
    assert [len(page.observations) for page in pages] == [len(one.json["data"]) for one in WALK]
    assert cassette.play_count == len(WALK) == made.client.requests
    assert [page.unreadable for page in pages] == [[]] * len(WALK)


async def test_every_page_repeats_bounds_and_fields(connect: Connect) -> None:
    """A cursor carries no filters: a page without its bounds would be a page of another walk."""
    made = connect(HOST)
    with play_pages("page50"):
        await walk(made.reader.interval(Interval(1_795_000_000_000, 1_796_000_000_001), metadata_only=True))
    assert {url.params["fromStartTime"] for url in made.sent} == {"2026-11-18T11:06:40.000Z"}
    assert {url.params["toStartTime"] for url in made.sent} == {"2026-11-30T00:53:20.001Z"}
    assert {url.params["fields"] for url in made.sent} == {"core,basic,time"}
    assert [url.params.get("cursor") for url in made.sent] == [None, *(one.json["meta"]["cursor"] for one in WALK[:-1])]


async def test_rows_keep_what_they_are(connect: Connect) -> None:
    """A field of a real row is read into the wrong place or lost."""
    made = connect(HOST)
    with play_pages("rich"):
        (page,) = await walk(made.reader.interval(ALWAYS))
    by_id = {item["id"]: item for item in recorded("rich")[0].json["data"]}
    assert {item.id for item in page.observations} == by_id.keys()
    for item in page.observations:
        wire = by_id[item.id]
        assert (item.trace_id, item.type, item.name) == (wire["traceId"], wire["type"], wire["name"])
        assert (item.input, item.output) == (wire["input"] or None, wire["output"] or None)
        assert item.metadata == wire["metadata"]
        assert item.tags == tuple(wire["tags"])
        assert (item.model, item.usage) == (wire["model"] or None, wire["usageDetails"])
        assert (item.user_id, item.session_id) == (wire["userId"] or None, wire["sessionId"] or None)
        assert item.is_root is wire["isRootObservation"]


def test_every_recorded_row_can_be_read() -> None:
    """A shape that a real server sends is refused."""
    rows = [parse_v2_observation(item) for item in recorded_rows()]
    assert len(rows) == 822
    assert "" not in {value for item in rows for value in (item.user_id, item.session_id, item.model, item.release)}


MEANINGS = {400: RequestRejected, 401: CredentialsRejected, 405: EndpointMissing, 500: ServerError}


async def test_recorded_errors(connect: Connect) -> None:
    """A recorded refusal is taken for a fault that passes, or the other way round, or its reason is swallowed."""
    made = connect(HOST)
    with play("errors"):
        for one in (one for one in recorded("errors") if one.method == "GET"):
            params = dict(QueryParams(one.target.partition("?")[2]).items())
            with pytest.raises(MEANINGS[one.status]) as caught:
                await made.client.attempt(PATH, params)
            assert str(one.status) in str(caught.value)
            assert one.json["message"][:60] in str(caught.value)


@pytest.mark.parametrize("one", recorded("gone"), ids=lambda one: one.target)
async def test_removed_endpoints(one: Recorded, connect: Connect) -> None:
    """An endpoint that a server no longer has is asked again and again instead of being told."""
    made = connect(HOST)
    with play("gone"), pytest.raises(EndpointMissing, match="events_only"):
        await made.client.get(one.target, {})


async def test_method_not_allowed_and_pages_of_html(connect: Connect) -> None:
    """A 405, or a 404 that is a web page, is no missing endpoint, or a whole page lands in a message."""
    client = connect(HOST).client
    post = next(one for one in recorded("errors") if one.method == "POST")
    assert isinstance(client.failure(PATH, Response(post.status, text=post.body)), EndpointMissing)
    page = client.failure(PATH, Response(404, html="<html>\n<title>404: not found</title></html>" * 1000))
    assert isinstance(page, EndpointMissing)
    assert "\n" not in str(page)
    assert len(str(page)) < 400


async def test_keys_and_projects(connect: Connect) -> None:
    """The project of the keys is not found, or a refused key is not told as such."""
    made = connect(HOST)
    reported = []
    with play("projects"):
        assert await server_version(made.client) == "4.16.0"
        for _ in range(6):
            try:
                reported.append(await project_of(made.client))
            except CredentialsRejected as refusal:
                reported.append(str(refusal))  # type: ignore[arg-type]
    project = Project("h1-proj-a", "H1 Project A", "h1-org")
    refused = [item for item in reported if item != project]
    assert (reported[0], reported[3], len(refused)) == (project, project, 4)
    assert all("Langfuse rejected the keys (40" in str(item) for item in refused)
    assert "Invalid credentials. Confirm that you've configured the correct host." in str(refused[1])
    assert "organization key" in str(refused[2])


async def test_recorded_intervals(connect: Connect) -> None:
    """Bounds are written in a form that the server reads otherwise: its answer would not be that of the recording."""
    made = connect(HOST)
    bounds = {"fromStartTime": "2026-11-22T15:59:00Z", "toStartTime": "2026-11-22T16:00:00Z", "limit": "3"}
    with play("intervals"):
        answer = await made.client.get(PATH, bounds)
        empty = await made.client.get(PATH, {"fromStartTime": "2030-01-01T00:00:00Z"})
    starts = [parse_v2_observation(item).start_ms for item in answer.body["data"]]
    assert len(starts) == 3
    assert starts == sorted(starts, reverse=True)
    assert empty.body == {"data": [], "meta": {}}
