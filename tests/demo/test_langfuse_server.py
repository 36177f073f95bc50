"""What the demo's Langfuse does with filters, changes, long addresses and scripts."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from tests.support import faults
from tests.support.rows import Row, at, row, trace

OBSERVATIONS = "/api/public/v2/observations"


def condition(kind: str, column: str, operator: str, value: Any = "") -> dict[str, Any]:
    return {"type": kind, "column": column, "operator": operator, "value": value}


def listed(server: RecordedLangfuse, http: httpx.Client, *conditions: dict[str, Any], **params: str) -> list[str]:
    if conditions:
        params["filter"] = json.dumps(conditions)
    answer = http.get(server.url + OBSERVATIONS, params=params)
    assert answer.status_code == 200, answer.text
    return [found["name"] for found in answer.json()["data"]]


@pytest.fixture
def five(langfuse: RecordedLangfuse) -> RecordedLangfuse:
    """Five rows, a second apart: the fourth has no end, the last two are of one trace."""
    family = f"{1:032x}"
    langfuse.rows.add(
        row(name="a", start=1, id="a" * 16, type="TOOL", level="ERROR", userId="u"),
        row(name="b", start=2, environment="prod", parent="f" * 16),
        row(name="c", start=3, seconds=60, sessionId="s", metadata={"tenant": "acme", "n": 7}),
        row(name="d", start=4, seconds=None, trace=family),
        row(name="e", start=5, trace=family, isRootObservation=False, environment="test"),
    )
    return langfuse


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, "edcba"),
        ({"fromStartTime": at(2), "toStartTime": at(4)}, "cb"),
        ({"traceId": f"{1:032x}"}, "ed"),
        ({"type": "TOOL"}, "a"),
        ({"name": "c"}, "c"),
        ({"level": "ERROR"}, "a"),
        ({"userId": "u"}, "a"),
        ({"sessionId": "s"}, "c"),
        ({"environment": "prod"}, "b"),
        ({"parentObservationId": "f" * 16}, "b"),
        ({"parentObservationId": ""}, "edca"),
        ({"isRootObservation": "true"}, "dca"),
        ({"isRootObservation": "false"}, "eb"),
    ],
)
def test_simple_parameters(params: dict[str, str], expected: str, five: RecordedLangfuse, http: httpx.Client) -> None:
    """A parameter that is read wrongly lists rows that a real server would not, or hides some."""
    assert listed(five, http, **params) == list(expected)


def test_environment_may_be_repeated(five: RecordedLangfuse, http: httpx.Client) -> None:
    """Several environments mean any of them."""
    answer = http.get(five.url + OBSERVATIONS, params=[("environment", "prod"), ("environment", "test")])
    assert [found["name"] for found in answer.json()["data"]] == ["e", "b"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([condition("datetime", "startTime", ">", at(2))], "edc"),
        ([condition("datetime", "startTime", ">=", at(2)), condition("datetime", "startTime", "<=", at(4))], "dcb"),
        ([condition("datetime", "startTime", "<", at(2))], "a"),
        ([condition("datetime", "endTime", ">=", at(5.5))], "ec"),
        ([condition("datetime", "endTime", "<", at(5.5))], "ba"),
        ([condition("null", "endTime", "is null")], "d"),
        ([condition("null", "endTime", "is not null")], "ecba"),
        ([condition("stringOptions", "traceId", "any of", [f"{1:032x}", "x"])], "ed"),
        ([condition("stringOptions", "id", "any of", ["a" * 16])], "a"),
        ([condition("stringOptions", "type", "none of", ["SPAN"])], "a"),
        ([condition("boolean", "isRootObservation", "=", value=False)], "eb"),
        ([condition("boolean", "isRootObservation", "=", value=True), condition("null", "endTime", "is null")], "d"),
        ([condition("string", "environment", "=", "prod")], "b"),
        ([condition("stringObject", "metadata", "=", "acme") | {"key": "tenant"}], "c"),
        ([condition("stringObject", "metadata", "=", "7") | {"key": "n"}], "c"),
    ],
)
def test_filters(conditions: list[dict[str, Any]], expected: str, five: RecordedLangfuse, http: httpx.Client) -> None:
    """A lookback scan finds what it looks for by these conditions alone."""
    assert listed(five, http, *conditions) == list(expected)


def test_filter_on_start_drops_both_bounds(five: RecordedLangfuse, http: httpx.Client) -> None:
    """On a real server a start in `filter` silently switches off the simple bounds; here too, so that tests see it."""
    bounds = {"fromStartTime": at(4), "toStartTime": at(5)}
    assert listed(five, http, condition("datetime", "startTime", ">=", at(1)), **bounds) == list("edcba")
    assert listed(five, http, condition("null", "endTime", "is null"), **bounds) == ["d"]


@pytest.mark.parametrize(
    "wrong", [condition("datetime", "startTime", "~", at(1)), condition("stringOptions", "id", "any of", "x"), "x", [1]]
)
def test_filters_that_make_no_sense(wrong: object, five: RecordedLangfuse, http: httpx.Client) -> None:
    """A filter that is not understood must be refused, not listed as if it were not there."""
    answer = http.get(five.url + OBSERVATIONS, params={"filter": json.dumps([wrong])})
    assert answer.status_code == 400


def walk(server: RecordedLangfuse, http: httpx.Client, limit: int) -> list[Row]:
    found: list[Row] = []
    params = {"limit": str(limit)}
    while True:
        page = http.get(server.url + OBSERVATIONS, params=params).json()
        found += page["data"]
        if "cursor" not in page["meta"]:
            return found
        params["cursor"] = page["meta"]["cursor"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_walk_meets_every_row_once(limit: int, langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """Rows that tie in time lie across pages; a wrong cursor loses or doubles them."""
    langfuse.rows.extend(row(name=f"{number}", start=number // 4) for number in range(20))
    assert sorted(int(found["name"]) for found in walk(langfuse, http, limit)) == list(range(20))


def test_second_copy_is_skipped_between_pages(langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """A real server lists both copies of a row in one page, and steps over the second at the end of a page."""
    twin = row(id="a" * 16)
    langfuse.rows.add(twin, twin | {"name": "second"})
    assert len(walk(langfuse, http, 50)) == 2
    assert len(walk(langfuse, http, 1)) == 1


def test_rows_may_change_while_it_runs(five: RecordedLangfuse, http: httpx.Client) -> None:
    """Late, changed and deleted rows are what the worker has to cope with."""
    five.rows.add(row(name="late", start=2.5))
    five.rows.replace(row(name="moved", id="a" * 16, trace=_trace_of(five, "a"), start=9))
    assert five.rows.remove(lambda found: found["name"] == "d") == 1
    assert listed(five, http) == ["moved", "e", "c", "late", "b"]
    five.rows.clear()
    assert (listed(five, http), len(five.rows)) == ([], 0)


def _trace_of(server: RecordedLangfuse, name: str) -> str:
    return str(next(found["traceId"] for found in server.rows if found["name"] == name))


def test_address_that_is_too_long(langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """Too many ids in one request must fail here as they do on a real server."""
    ids = [f"{number:032x}" for number in range(480)]
    params = {"filter": json.dumps([condition("stringOptions", "traceId", "any of", ids)])}
    assert http.get(langfuse.url + OBSERVATIONS, params=params).status_code == 431


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE"])
def test_other_methods(method: str, langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """The endpoint is read-only."""
    assert http.request(method, langfuse.url + OBSERVATIONS).status_code == 405


@pytest.mark.parametrize(
    ("path", "expected"),
    [("sessions", 404), ("scores", 404), ("v2/scores", 404), ("metrics/daily", 404), ("spans", 405), ("nope", 404)],
)
def test_other_paths(path: str, expected: int, langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """What is gone from such a server, and what never was, tells its generation."""
    assert http.get(f"{langfuse.url}/api/public/{path}").status_code == expected


def test_keeps_requests(five: RecordedLangfuse, http: httpx.Client) -> None:
    """Tests count and read the requests that the worker made."""
    listed(five, http, limit="2", fields="core,basic")
    (kept,) = five.requests
    assert (kept.method, kept.path, kept.status) == ("GET", OBSERVATIONS, 200)
    assert kept.query == {"limit": "2", "fields": "core,basic"}
    assert kept.headers["authorization"].startswith("Basic ")


def test_script_answers_in_turn(five: RecordedLangfuse, http: httpx.Client) -> None:
    """Faults must come when they are scripted, with the headers of a real server, and then stop."""
    five.script = faults.in_turn(faults.rate_limited(7), faults.status(503, retry_after=2), faults.query_timed_out())
    limited, unavailable, narrow, usual = (http.get(five.url + OBSERVATIONS) for _ in range(4))
    assert (limited.status_code, limited.headers["retry-after"], limited.json()["code"]) == (429, "7", "rate_limited")
    assert (unavailable.status_code, unavailable.headers["retry-after"]) == (503, "2")
    assert (narrow.status_code, usual.status_code) == (422, 200)
    assert [kept.status for kept in five.requests] == [429, 503, 422, 200]


def test_dropped_connection(five: RecordedLangfuse, http: httpx.Client) -> None:
    """A server that goes away in the middle must look so to the client, and only for as long as scripted."""
    five.script = faults.in_turn(faults.drop())
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(five.url + OBSERVATIONS)
    assert listed(five, http) == list("edcba")
    assert [kept.status for kept in five.requests] == [None, 200]


def test_slow_answer(five: RecordedLangfuse, http: httpx.Client) -> None:
    """A delay longer than the client's patience must time out, and must not hold up the end of the test."""
    five.script = faults.when(faults.asks(limit="9"), faults.slow(60))
    with pytest.raises(httpx.ReadTimeout):
        http.get(five.url + OBSERVATIONS, params={"limit": "9"}, timeout=0.2)
    assert listed(five, http) == list("edcba")


def test_made_up_rows_have_the_recorded_keys(recorded_langfuse: RecordedLangfuse) -> None:
    """Rows made for tests with other keys than real ones would test another API."""
    real = next(iter(recorded_langfuse.rows))
    assert [list(made) for made in trace(1)] == [list(real)] * 2


def test_versions_are_listed_with_the_content_of_either(langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """What a real server does until its store has merged (recorded of 4.16.0) would be tried by no test."""
    first = row(name="v1", input="v1", updatedAt=at(2))
    second = first | {"name": "v2", "input": "v2", "updatedAt": at(9)}
    langfuse.rows.clear()
    langfuse.rows.add(first)

    def versions() -> list[tuple[str, str]]:
        answer = http.get(langfuse.url + OBSERVATIONS, params={"fields": "core,basic,time,io"}).json()["data"]
        return sorted((one["name"], one["input"]) for one in answer)

    langfuse.rows.update(second, content="new")
    assert versions() == [("v1", "v2"), ("v2", "v2")]
    langfuse.rows.merge()
    assert versions() == [("v2", "v2")]
    langfuse.rows.update(second | {"name": "v3", "input": "v3"}, content="old")
    assert versions() == [("v2", "v2"), ("v3", "v2")]
    langfuse.rows.merge(content_too=False)
    assert versions() == [("v3", "v2")]
    langfuse.rows.merge()
    assert versions() == [("v3", "v3")]
