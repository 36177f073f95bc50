"""The demo's Langfuse answers as the recorded server did, byte for byte."""

from __future__ import annotations

import base64

import httpx
import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from tests.support.cassettes import Recorded, recorded
from tests.support.rows import recorded_rows

OBSERVATIONS = "/api/public/v2/observations"
ALL = "core,basic,time,io,metadata,model,usage,prompt,metrics,trace_context"


def named(names: str) -> list[Recorded]:
    return [one for name in names.split() for one in recorded(name)]


@pytest.mark.parametrize("one", named("page50 page1 rich intervals gone"), ids=lambda one: one.target[:60])
def test_listings(one: Recorded, recorded_langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """Tests on this server would prove nothing about a real one if order, pages, cursors or keys were others."""
    answer = http.request(one.method, recorded_langfuse.url + one.target)
    assert (answer.status_code, answer.text) == (one.status, one.body)


@pytest.mark.parametrize("one", [one for one in named("errors") if one.status != 401], ids=lambda one: one.target[:60])
def test_refusals(one: Recorded, recorded_langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """The worker decides by these statuses and bodies what to do next."""
    answer = http.request(one.method, recorded_langfuse.url + one.target)
    assert (answer.status_code, answer.text) == (one.status, one.body)


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


#: The keys with which the recorded requests to `projects` were sent, in order, after two that need none.
PROJECT_KEYS: list[dict[str, str]] = [
    {},
    {},
    basic("pk-lf-demo:sk-lf-demo"),
    {},
    basic("pk-lf-demo:wrong"),
    basic("wrong:sk-lf-demo"),
    {"Authorization": "Bearer pk-lf-demo"},
    {"Authorization": "Basic not-base64!"},
]


@pytest.mark.parametrize("number", range(len(PROJECT_KEYS)))
def test_keys(number: int, recorded_langfuse: RecordedLangfuse) -> None:
    """A key that is refused, and how, must show as on a real server: `check` tells people what is wrong by it."""
    one = recorded("projects")[number]
    answer = httpx.get(recorded_langfuse.url + one.target, headers=PROJECT_KEYS[number])
    assert (answer.status_code, answer.text) == (one.status, one.body)


@pytest.mark.parametrize(("number", "headers"), [(0, {}), (1, basic("pk-lf-demo:wrong"))])
def test_observations_refuse_keys(number: int, headers: dict[str, str], recorded_langfuse: RecordedLangfuse) -> None:
    """Rows must not be shown to a request without a good key."""
    one = [one for one in recorded("errors") if one.status == 401][number]
    answer = httpx.get(recorded_langfuse.url + one.target, headers=headers)
    assert (answer.status_code, answer.text) == (one.status, one.body)


def test_all_rows_in_one_page(recorded_langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """The rows that were put in must come out whole and in the recorded order, zipped or not."""
    answer = http.get(recorded_langfuse.url + OBSERVATIONS, params={"limit": "1000", "fields": ALL})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json() == {"data": recorded_rows(), "meta": {}}


def test_light_metadata_is_cut(recorded_langfuse: RecordedLangfuse, http: httpx.Client) -> None:
    """A worker that forgets to ask for whole metadata must lose it here as it would on a real server."""
    params = {"traceId": "adb8ef86daca2f9fffb985d7cee988a4", "fields": "metadata"}
    light = http.get(recorded_langfuse.url + OBSERVATIONS, params=params).json()["data"]
    whole = http.get(recorded_langfuse.url + OBSERVATIONS, params=params | {"expandMetadata": "any"}).json()["data"]
    longest = [max(len(str(value)) for row in rows for value in row["metadata"].values()) for rows in (light, whole)]
    assert longest[0] == 200
    assert longest[1] > 200
