"""Scores as recorded servers returned them, and walks over their lists."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator, Callable
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qsl

import httpx
import orjson
import pytest

from sync_worker.backoff import Backoff
from sync_worker.errors import TransientError
from sync_worker.intervals import Interval
from sync_worker.langfuse import score_records
from sync_worker.langfuse.buckets import Buckets
from sync_worker.langfuse.langfuse_client import LangfuseClient, PageTooHeavy
from sync_worker.langfuse.rate_limiter import Quota
from sync_worker.langfuse.score_reader import (
    OPEN_END,
    ConfigNotServed,
    ScorePage,
    ScoreReader,
    V2Scores,
    V3Scores,
    fetch_config,
    traces_of_session,
)
from sync_worker.langfuse.score_records import parse_config, parse_scores, parse_v2, parse_v3
from sync_worker.records import Score, ScoreConfig
from sync_worker.signals.content import content_of
from tests.support.clock import VirtualClock
from tests.support.rows import DATA

EVER = Interval(0, OPEN_END)
Answer = Callable[[httpx.Request], httpx.Response]


def _recorded(server: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(gzip.decompress((DATA / f"{server}-scores.json.gz").read_bytes()))
    return found


def _items(server: str, path: str) -> list[Any]:
    found: dict[str, Any] = {}
    for one in _recorded(server):
        if one["path"] == path and one["status"] == 200:
            for item in orjson.loads(one["body"])["data"]:
                if "comment" in item:
                    found.setdefault(item["id"], item)
    return list(found.values())


def _client(answer: Answer, **options: Any) -> LangfuseClient:
    clock = VirtualClock()
    return LangfuseClient(
        "http://langfuse.test", "pk", "sk", rate_limits=Buckets(clock, Quota(None, Fraction(1))),
        backoff=Backoff("Langfuse", clock, 60.0), clock=clock, transport=httpx.MockTransport(answer), **options,
    )  # fmt: skip


def _read(make: Callable[[LangfuseClient], ScoreReader], answer: Answer, interval: Interval = EVER) -> list[ScorePage]:
    async def read() -> list[ScorePage]:
        return [page async for page in make(_client(answer)).interval(interval)]

    return asyncio.run(read())


def test_every_recorded_score_is_understood() -> None:
    """A real server's answers, of all types and subjects, from both APIs."""
    for server, path, parse in (
        ("v4.16.0", "/api/public/v3/scores", parse_v3),
        ("v3.225.4", "/api/public/v2/scores", parse_v2),
    ):
        items = _items(server, path)
        scores, unreadable = parse_scores(items, parse)
        assert (len(scores), unreadable) == (len(items), 0)
        assert {score.type for score in scores} == {"NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "CORRECTION"}


def test_both_apis_tell_the_same() -> None:
    """An upgrade of Langfuse would send every score again."""
    new = {score.id: score for score in map(parse_v3, _items("v4.16.0", "/api/public/v3/scores"))}
    old = {score.id: score for score in map(parse_v2, _items("v3.225.4", "/api/public/v2/scores"))}
    same = [
        score_id
        for score_id in ("s-num-int", "s-bool-1", "s-bool-0", "s-corr-x", "s-text", "s-sess", "s-sess-c", "s-meta")
        if score_id in new and score_id in old
    ]
    assert len(same) >= 5

    def printed(score: Score) -> tuple[Any, ...]:
        return score.name, score.type, score.source, score.value, score.comment, score.metadata, score.session_id

    for score_id in same:
        assert printed(new[score_id]) == printed(old[score_id]), score_id
    on_session = new["s-sess"]
    assert content_of(on_session) == content_of(old["s-sess"])
    assert (on_session.session_id, on_session.trace_id) == ("sess-1", None)
    on_observation = next(score for score in new.values() if score.observation_id is not None)
    assert on_observation.trace_id is not None


def test_a_recorded_walk_is_whole() -> None:
    """Seven pages of a real server, behind its own cursors."""
    walk = {
        dict(parse_qsl(one["query"])).get("cursor"): one["body"]
        for one in _recorded("v4.16.0")
        if one["path"] == "/api/public/v3/scores" and dict(parse_qsl(one["query"])).get("fields") == "core,subject"
        and dict(parse_qsl(one["query"])).get("limit") == "50"
    }  # fmt: skip
    pages = _read(V3Scores, lambda request: httpx.Response(200, text=walk[request.url.params.get("cursor")]))
    ids = [score.id for page in pages for score in page.scores]
    assert (len(pages), len(ids), len(set(ids))) == (7, 301, 301)
    assert [page.down_to_ms for page in pages] == sorted((page.down_to_ms for page in pages), reverse=True)
    assert pages[-1].down_to_ms == 0


def test_a_cursor_seen_twice_ends_the_walk() -> None:
    """The walk would never end, and the listing not be whole."""
    page = {"data": [], "meta": {"limit": 100, "cursor": "same"}}
    with pytest.raises(TransientError, match="twice"):
        _read(V3Scores, lambda _: httpx.Response(200, json=page))


def _numbered(scores: list[dict[str, Any]], shuffle: bool = False) -> Answer:
    """Answer as v2 does: pages by number, without an order among scores of one time."""
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        query = request.url.params
        if not request.url.path.endswith("/v2/scores"):
            return httpx.Response(404)
        found = [one for one in scores if query["fromTimestamp"] <= one["timestamp"] < query.get("toTimestamp", "9999")]
        limit, number = int(query["limit"]), int(query["page"])
        turn = (limit * 31) if shuffle else 0
        found = sorted(found, key=lambda one: (one["timestamp"], (int(one["id"]) * 7919 + turn) % 1009), reverse=True)
        page = found[(number - 1) * limit : number * limit]
        return httpx.Response(200, json={"data": page, "meta": {"page": number, "totalItems": len(found)}})

    return answer


def _made(number: int, millisecond: int) -> dict[str, Any]:
    time = f"2026-11-20T12:00:{millisecond // 1000:02}.{millisecond % 1000:03}Z"
    return {"id": str(number), "name": "n", "value": 1, "dataType": "NUMERIC", "source": "API", "timestamp": time}


@pytest.mark.parametrize("span", [1, 5, 40, 5000])
def test_v2_loses_none_however_many_share_a_time(span: int) -> None:
    """Pages by number lose scores that share a time."""
    scores = [_made(number, number % span) for number in range(350)]
    pages = _read(V2Scores, _numbered(scores, shuffle=True))
    assert {score.id for page in pages for score in page.scores} == {str(number) for number in range(350)}
    assert pages[-1].down_to_ms == 0


def test_v2_bears_a_server_that_serves_two_scores_at_a_time() -> None:
    """Three of one millisecond would be asked for in pages of a hundred for ever."""
    scores = [_made(number, number // 9) for number in range(27)]
    usual = _numbered(scores, shuffle=True)

    def answer(request: httpx.Request) -> httpx.Response:
        if int(request.url.params["limit"]) > 2:
            return httpx.Response(422, json={"message": "Request timed out"})
        return usual(request)

    pages = _read(V2Scores, answer)
    assert {score.id for page in pages for score in page.scores} == {str(number) for number in range(27)}


def test_v2_gives_up_scores_of_one_moment_that_no_size_of_page_shows() -> None:
    """A score that is counted and never shown is asked for again and again, or one size of page is taken for all."""
    scores = [_made(number, 5) for number in range(250)]
    usual, sizes, failed = _numbered(scores), list[str](), list[int]()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params["page"] == "2" and not failed:
            failed.append(503)
            return httpx.Response(503)
        found = usual(request).json()
        sizes.append(request.url.params["limit"])
        found["data"] = [one if one["id"] != "7" else _made(8, 5) for one in found["data"]]
        return httpx.Response(200, json=found)

    client = _client(answer)

    async def read() -> list[ScorePage]:
        return [page async for page in V2Scores(client).interval(EVER)]

    pages = asyncio.run(read())
    assert {score.id for page in pages for score in page.scores} == {str(one) for one in range(250)} - {"7"}
    assert list(dict.fromkeys(sizes))[:3] == ["100", "97", "89"]
    assert len(sizes) <= 2 * 10
    assert isinstance(client.clock, VirtualClock)
    assert len(client.clock.waits) == len(failed) == 1


@pytest.mark.parametrize("meta", [{}, {"totalItems": None}, {"totalItems": "7"}, {"totalItems": True}], ids=str)
def test_a_list_without_a_count_is_none_of_scores(meta: dict[str, object]) -> None:
    """A page of something else counts as all scores of its interval."""
    with pytest.raises(TransientError, match="totalItems"):
        _read(V2Scores, lambda _: httpx.Response(200, json={"data": [_made(1, 5)], "meta": meta}))


@pytest.mark.parametrize("make", [V2Scores, V3Scores])
def test_an_open_interval_has_no_end(make: Any) -> None:
    """A date of the year 287396 is refused, and scores that are dated in the future are not listed."""
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json={"data": [], "meta": {"totalItems": 0}})

    _read(make, answer)
    _read(make, answer, Interval(0, 1000))
    assert [url.params.get("toTimestamp") for url in asked] == [None, "1970-01-01T00:00:01.000Z"]


def test_a_server_of_v2_has_scores_at_its_old_path() -> None:
    """`v2/scores` came with v3."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/public/scores":
            return httpx.Response(200, json={"data": [_made(1, 5)], "meta": {"totalItems": 1}})
        return httpx.Response(404, text="<html>")

    assert [score.id for page in _read(V2Scores, answer) for score in page.scores] == ["1"]


def test_a_missing_config_is_no_missing_endpoint() -> None:
    """A 404 there says nothing of the generation of the API."""
    (gone,) = (one for one in _recorded("v4.16.0") if one["path"].endswith("/nope") and "config" in one["path"])
    (there,) = (one for one in _recorded("v4.16.0") if "score-configs/" in one["path"] and one["status"] == 200)
    answers = {one["path"]: one for one in (gone, there)}

    def answer(request: httpx.Request) -> httpx.Response:
        one = answers[request.url.path]
        return httpx.Response(one["status"], text=one["body"])

    async def fetch(path: str) -> Any:
        return await fetch_config(_client(answer), path.rsplit("/", 1)[1])

    assert asyncio.run(fetch(gone["path"])) is None
    config = asyncio.run(fetch(there["path"]))
    assert (config.minimum, config.maximum) == (0, 5)


@pytest.mark.parametrize(
    ("subject", "where"),
    [
        ({"kind": "trace", "id": "a"}, ("a", None, None, None)),
        ({"kind": "observation", "id": "b", "traceId": "a"}, ("a", "b", None, None)),
        ({"kind": "observation", "id": "b"}, ("obs:b", "b", None, None)),
        ({"kind": "session", "id": "c", "traceId": "a"}, (None, None, "c", None)),
        ({"kind": "experiment", "id": "d", "traceId": "a"}, (None, None, None, "d")),
        ({"kind": "trace", "id": 5}, (None, None, None, None)),
        (None, (None, None, None, None)),
    ],
)
def test_what_a_score_of_v3_is_about(subject: object, where: tuple[str | None, ...]) -> None:
    """The score of one thing is sent as that of another."""
    score = parse_v3({**_made(1, 5), "subject": subject})
    assert (score.trace_id, score.observation_id, score.session_id, score.experiment_id) == where


@pytest.mark.parametrize(
    ("kind", "value", "text", "read"),
    [
        ("BOOLEAN", 1, "True", True), ("BOOLEAN", 0, "True", False), ("BOOLEAN", None, "True", True),
        ("BOOLEAN", None, "False", False), ("CATEGORICAL", 2, "good", "good"), ("CATEGORICAL", 2, None, "2"),
        ("TEXT", None, "said", "said"), ("NUMERIC", 0.5, "said", 0.5), (None, 0.5, None, 0.5), ("", 3, None, 3),
        ("NUMERIC", 1e300, None, 1e300), ("NUMERIC", 1e301, None, "1e+301"), ("NUMERIC", None, None, None),
        ("NUMERIC", True, None, "true"), ("NUMERIC", "", None, None), ("CORRECTION", None, "", ""),
    ],
)  # fmt: skip
def test_values_of_v2(kind: str | None, value: object, text: str | None, read: object) -> None:
    """A thumb down is sent as one up, or a label as its number."""
    score = parse_v2({**_made(1, 5), "dataType": kind, "value": value, "stringValue": text})
    assert score.value == read
    assert type(score.value) is type(read)
    assert score.type == (kind or "NUMERIC")


@pytest.mark.parametrize("lacking", [{"id": None}, {"id": ""}, {"id": 7}, {"timestamp": None}, {"timestamp": "soon"}])
def test_a_score_without_id_or_time_is_counted_and_costs_no_other(lacking: dict[str, object]) -> None:
    """One score that cannot be understood takes the page with it, or goes without a word."""
    scores, unreadable = parse_scores([{**_made(1, 5), **lacking}, 5, _made(2, 6)], parse_v2)
    assert ([score.id for score in scores], unreadable) == (["2"], 2)


def test_categories_of_a_config() -> None:
    """A category without a number, or a list that is none, costs the whole config."""
    kept, *odd = [{"label": "good", "value": 1}, {"label": "bad"}, {"value": 3}, "none", {"label": "", "value": 2}]
    config = parse_config({"minValue": 0, "maxValue": 1e301, "categories": [kept, *odd]})
    assert (config.minimum, config.maximum, config.categories) == (0, None, (("good", 1),))
    assert parse_config({"categories": {"label": "good"}}).categories == ()


async def _ids(walk: AsyncGenerator[ScorePage, None]) -> list[str]:
    return [score.id async for page in walk for score in page.scores]


@pytest.mark.parametrize(("make", "name"), [(V3Scores, "id"), (V2Scores, "scoreIds")])
async def test_scores_by_id_come_in_as_few_lists_as_an_address_bears(
    make: Callable[[LangfuseClient], ScoreReader], name: str
) -> None:
    """A list too long for an address is refused, or the last ids of each list are never asked for."""
    asked: list[list[str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params[name].split(","))
        data = [_made(int(one), 5) for one in asked[-1]]
        return httpx.Response(200, json={"data": data, "meta": {"totalItems": len(data)}})

    wanted = [str(number) for number in range(1_000_000, 1_000_008)]  # each takes 7 bytes, and 3 between two
    assert await _ids(make(_client(answer, filter_bytes=30)).by_id(wanted)) == wanted
    assert asked == [wanted[:3], wanted[3:6], wanted[6:]]
    asked.clear()
    many = [str(number) for number in range(250)]
    assert await _ids(make(_client(answer)).by_id(many)) == many
    assert [len(one) for one in asked] == ([250] if make is V3Scores else [100, 100, 50])


async def test_a_server_that_ignores_ids_is_asked_score_by_score() -> None:
    """Scores that nobody asked for are taken for those that were, or one that is gone ends the look-up."""

    def answer(request: httpx.Request) -> httpx.Response:
        last = request.url.path.rsplit("/", 1)[1]
        if last == "scores":
            return httpx.Response(200, json={"data": [_made(9, 5), _made(1, 5)], "meta": {"totalItems": 2}})
        return httpx.Response(404) if last == "2" else httpx.Response(200, json=_made(int(last), 5))

    assert await _ids(V2Scores(_client(answer)).by_id(["1", "2", "3"])) == ["1", "3"]


@pytest.mark.parametrize(("ignores", "found"), [(False, ["1", "2"]), (True, [])])
async def test_scores_of_a_trace(*, ignores: bool, found: list[str]) -> None:
    """Scores of other traces are taken for those of this one where a server ignores the parameter."""
    scores = [{**_made(number, 5), "traceId": trace} for number, trace in ((1, "a"), (2, "a"), (3, "b"))]

    def answer(request: httpx.Request) -> httpx.Response:
        data = [one for one in scores if ignores or one["traceId"] == request.url.params["traceId"]]
        return httpx.Response(200, json={"data": data, "meta": {"totalItems": len(data)}})

    assert await _ids(V2Scores(_client(answer)).of_trace("a")) == found
    if not ignores:
        assert await _ids(V3Scores(_client(answer)).of_trace("a")) == found


@pytest.mark.parametrize("bears", [100, 2, 1])
async def test_scores_of_a_trace_come_in_pages_that_the_server_bears(bears: int) -> None:
    """A server that cannot serve a page of a hundred would have no score of a trace, or be asked for ever."""
    scores = [{**_made(number, 5), "traceId": "a"} for number in range(5)]

    def answer(request: httpx.Request) -> httpx.Response:
        limit, number = int(request.url.params["limit"]), int(request.url.params["page"])
        if limit > bears:
            return httpx.Response(422, json={"message": "Request timed out"})
        data = scores[(number - 1) * limit : number * limit]
        return httpx.Response(200, json={"data": data, "meta": {"totalItems": len(scores)}})

    pages = [page async for page in V2Scores(_client(answer)).of_trace("a")]
    assert [score.id for page in pages for score in page.scores] == ["0", "1", "2", "3", "4"]
    assert [page.down_to_ms for page in pages] == [1] * (len(pages) - 1) + [0]
    with pytest.raises(PageTooHeavy):
        await _ids(V2Scores(_client(lambda _: httpx.Response(422))).of_trace("a"))


@pytest.mark.parametrize(("api", "trace"), [("v1", "id"), ("v2", "traceId")])
async def test_traces_of_a_session(api: Any, trace: str) -> None:
    """Traces of other sessions are looked at, or one item that is none ends the look-up."""
    asked: list[httpx.URL] = []

    def item(session: str, trace_id: object) -> dict[str, object]:
        return {"sessionId": session, trace: trace_id}

    data = ["none", item("s", "a"), item("other", "b"), item("s", None), item("s", "a"), item("s", "c")]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json={"data": data, "meta": {}})

    assert await traces_of_session(_client(answer), api, "s", 10_000) == ["a", "c"]
    (url,) = asked
    assert url.params["sessionId"] == "s"
    assert {value for key, value in url.params.items() if key.startswith("to")} == {"1970-01-01T00:00:10.000Z"}


async def test_a_config_that_is_not_served_is_given_up_after_three_tries() -> None:
    """One config holds back all scores for as long as Langfuse is given, or is given up at the first fault."""
    answers = [500, 500, 200, 500, 500, 500, 400]

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(answers.pop(0), json={"minValue": 1})

    client = _client(answer)
    assert await fetch_config(client, "c") == ScoreConfig(1, None, ())
    with pytest.raises(ConfigNotServed):
        await fetch_config(client, "c")
    assert await fetch_config(client, "c") is None
    assert answers == []


def test_numbers_and_metadata_of_scores_at_their_bounds() -> None:
    """A value that is as large as may be would be lost, one beyond end a run, or nothing be told as metadata."""
    most = score_records._MAX_NUMBER
    kept = (most, -most, 0, 1.5)
    assert [score_records._number(value) for value in kept] == list(kept)
    assert [score_records._number(value) for value in (most * 2, -most * 2, True, "1", None)] == [None] * 5
    empty: tuple[Any, ...] = (None, {}, [], "")
    assert [score_records._metadata(value) for value in empty] == [None] * 4
    assert [score_records._metadata(value) for value in ({"a": 1}, "x", 0)] == [{"a": 1}, "x", 0]
