"""The reader of v1 against what real servers answered: Langfuse 3.225.4, and 4.16.0 in dual mode."""

from __future__ import annotations

import gzip
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import vcr
from httpx import QueryParams

from sync_worker.errors import CredentialsRejected
from sync_worker.langfuse.generation import ask
from sync_worker.langfuse.langfuse_client import EndpointMissing, RequestRejected
from sync_worker.langfuse.listing import OBSERVATIONS, TRACES, Question, fetch_part
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.langfuse.v1_observations import parse_observation, parse_trace
from sync_worker.records import Observation
from tests.langfuse.conftest import ALWAYS, Connect, ConnectV1, walk
from tests.langfuse.v1_worlds import keys, keys_of, starts_of, walk_as_caller
from tests.support.cassettes import CASSETTES, HOST, recorded
from tests.support.langfuse_v1 import LangfuseV1, Mode
from tests.support.v1_items import v2_rows

DATA = Path(__file__).resolve().parent.parent / "data"


def items(name: str) -> dict[str, list[dict[str, Any]]]:
    """Return recorded traces and observations, and of a server in dual mode its v2 rows."""
    content: dict[str, list[dict[str, Any]]] = json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
    return content


V3 = items("v3.225.4-items")
DUAL = items("v4.16.0-dual-items")


def play_paths(name: str) -> AbstractContextManager[Any]:
    """Answer by the path alone: the recordings asked for other bounds than the reader does."""
    player = vcr.VCR(cassette_library_dir=str(CASSETTES), record_mode=vcr.mode.NONE, match_on=["method", "path"])
    return cast("AbstractContextManager[Any]", player.use_cassette(f"{name}.yaml", allow_playback_repeats=True))


async def test_recorded_pages_are_understood(connect: Connect) -> None:
    """A shape that a real server sends is refused, or its count is read from the wrong place."""
    client = connect(HOST).client
    with play_paths("v1-v3"):
        observations = await fetch_part(client, Question(OBSERVATIONS, ALWAYS), 100)
        traces = await fetch_part(client, Question(TRACES, ALWAYS), 100)
    by_path = {one.target.partition("?")[0]: one.json for one in recorded("v1-v3")[::-1]}
    for part, listing in ((observations, OBSERVATIONS), (traces, TRACES)):
        page = by_path[listing.path]
        assert part.total == page["meta"]["totalItems"]
        assert part.unreadable == []
        assert [row.id for row in part.observations] == [listing.ids(item["id"])[0] for item in page["data"]]


@pytest.mark.parametrize("data", [V3, DUAL], ids=["v3", "dual"])
def test_every_recorded_item_is_understood(data: dict[str, list[dict[str, Any]]]) -> None:
    """An item that a real server sends is refused, or a field of it is lost on the way."""
    rows = [parse_observation(item) for item in data["observations"]]
    for row, item in zip(rows, data["observations"], strict=True):
        assert (row.id, row.trace_id, row.type, row.name) == (item["id"], item["traceId"], item["type"], item["name"])
        assert _content(row.input) == _same(item["input"])
        assert _content(row.output) == _same(item["output"])
        assert (row.usage, row.cost) == (item["usageDetails"], item["costDetails"])
        assert row.model == item["model"]
    for item in data["traces"]:
        row = parse_trace(item)
        assert (row.id, row.is_synthetic_root, row.trace_name) == (f"t-{item['id']}", True, item["name"] or None)
        assert (row.user_id, row.session_id, row.tags) == (item["userId"], item["sessionId"], tuple(item["tags"]))
        assert _content(row.input) == _same(item["input"])
        assert row.public is item["public"]
        assert row.end_ms is None
    assert len(rows) > 150


def _content(text: str | None) -> Any:
    """Return what a text says, so that spaces and escapes in JSON do not count."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def _same(value: Any) -> Any:
    return (_content(value) if isinstance(value, str) else value) if value != "" else None


#: What one row says of itself, whichever API tells it. The rest comes from its trace, or differs between the two.
OWN = (
    *("id", "trace_id", "project_id", "type", "start_ms", "name", "level", "status_message", "environment"),
    *("completion_start_ms", "model", "model_parameters", "usage", "cost", "prompt_name", "prompt_version"),
)


def test_both_generations_tell_the_same_rows() -> None:
    """After an upgrade rows get other ids, other content or another place in the tree, and arrive twice."""
    v2 = {(row.trace_id, row.id): row for row in map(parse_v2_observation, DUAL["rows"])}
    v1 = [*map(parse_observation, DUAL["observations"]), *map(parse_trace, DUAL["traces"])]
    compared = 0
    for row in v1:
        other = v2.get((row.trace_id, row.id))
        if other is None:
            continue
        compared += 1
        assert {name: getattr(row, name) for name in OWN} == {name: getattr(other, name) for name in OWN}
        assert (_content(row.input), _content(row.output)) == (_content(other.input), _content(other.output))
        assert _parent(row) == _parent(other)
        assert row.end_ms == other.end_ms or row.type == "EVENT"
    assert compared == 77


def _parent(row: Observation) -> str | None:
    """Return the parent, but for the synthetic root: rows with OTel ids stay roots under v1."""
    return None if row.parent_id == f"t-{row.trace_id}" else row.parent_id


def test_synthetic_roots_are_those_of_v2() -> None:
    """A trace of an old SDK gets another root than a server in dual mode gives it."""
    v1 = {row.id: row for row in map(parse_trace, DUAL["traces"])}
    reported = [row for row in map(parse_v2_observation, DUAL["rows"]) if row.is_synthetic_root]
    assert len(reported) > 10
    for other in reported:
        row = v1[other.id]
        same = ("user_id", "session_id", "tags", "release", "version", "public", "trace_name", "is_root", "parent_id")
        assert {name: getattr(row, name) for name in same} == {name: getattr(other, name) for name in same}
        assert list(row.metadata) == list(other.metadata)


@pytest.mark.parametrize("limit", [2, 9, 100])
@pytest.mark.parametrize("data", [V3, DUAL], ids=["v3", "dual"])
async def test_walk_over_recorded_data(
    data: dict[str, list[dict[str, Any]]], limit: int, connect_v1: ConnectV1
) -> None:
    """Real times, ties, clocks that run ahead and ids of all kinds make a walk lose a row."""
    traces, observations = data["traces"], data["observations"]
    made = connect_v1(LangfuseV1(traces, observations), limit=limit)
    pages = await walk_as_caller(made.reader.interval(ALWAYS), starts_of(traces, observations))
    assert set(keys(pages)) == keys_of(traces, observations)


MEANINGS = {400: RequestRejected, 401: CredentialsRejected, 404: EndpointMissing}


async def test_recorded_errors(connect: Connect) -> None:
    """A recorded refusal is taken for a fault that passes, or its reason is swallowed."""
    made = connect(HOST)
    player = vcr.VCR(cassette_library_dir=str(CASSETTES), record_mode=vcr.mode.NONE)
    with player.use_cassette("v1-errors.yaml"):
        for one in recorded("v1-errors"):
            path, _, query = one.target.partition("?")
            with pytest.raises(MEANINGS[one.status]) as caught:
                await made.client.attempt(path, dict(QueryParams(query).items()))
            assert one.json["message"][:60] in str(caught.value)


@pytest.mark.parametrize(("name", "api", "version"), [("v1-v3", "v1", "3.225.4"), ("v1-dual", "v2", "4.16.0")])
async def test_generation_of_recorded_servers(name: str, api: str, version: str, connect: Connect) -> None:
    """A real server is read by an API that it does not have."""
    with play_paths(name):
        found = await ask(connect(HOST).client)
    assert (found.api, found.version, found.v1) == (api, version, True)
    if api == "v1":
        assert "only available in a Langfuse v4 write mode" in found.why


@pytest.mark.parametrize("one", recorded("v1-errors"), ids=lambda one: one.target[:70])
def test_simulation_refuses_as_the_real_server(one: Any) -> None:
    """The simulated server takes what a real one refuses, so that tests pass and the worker fails."""
    with LangfuseV1() as server:
        auth = None if one.status == 401 and "No authorization" in one.body else ("pk-lf-demo", "sk-lf-demo")
        auth = ("pk-lf-demo", "wrong") if "Invalid credentials" in one.body else auth
        answer = httpx.get(server.url + one.target, auth=auth, trust_env=False)
    assert answer.status_code == one.status
    assert answer.json()["message"] == one.json["message"]


def test_simulated_v2_rows_are_those_of_a_real_server() -> None:
    """What the simulated server shows under v2 is not what a real one makes of the same traces."""
    legacy = [item for item in DUAL["traces"] if "-" in item["id"]]
    ids = {item["id"] for item in legacy}
    made = v2_rows(legacy, [item for item in DUAL["observations"] if item["traceId"] in ids])
    real = {(row["traceId"], row["id"]): parse_v2_observation(row) for row in DUAL["rows"]}
    compared = 0
    for row in map(parse_v2_observation, made):
        other = real.get((row.trace_id, row.id))
        if other is not None:
            compared += 1
            same = (*OWN, "parent_id", "is_root", "user_id", "session_id", "tags", "release")
            assert {name: getattr(row, name) for name in same} == {name: getattr(other, name) for name in same}
    assert compared > 20


async def test_recorded_data_by_ids(connect_v1: ConnectV1) -> None:
    """Rows and traces of real ids, with slashes and spaces in them, are not found again."""
    modes: list[Mode] = ["v3", "v2"]
    for mode in modes:
        made = connect_v1(LangfuseV1(V3["traces"], V3["observations"], mode=mode))
        names = [item["id"] for item in V3["observations"]]
        pages = await walk(made.reader.observations(names, ALWAYS))
        assert {row.id for page in pages for row in page.observations} == set(names)
