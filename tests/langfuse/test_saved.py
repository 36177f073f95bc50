"""Observations that somebody saved, in the forms in which they are sent around."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sync_worker.errors import RecordRejected
from sync_worker.langfuse.saved import read_saved
from tests.fidelity.pairs import load

V2: dict[str, Any] = {"id": "a1", "traceId": "t1", "startTime": "2026-11-22T16:00:00.000Z", "isRootObservation": True}
V1: dict[str, Any] = {"id": "a1", "traceId": "t1", "startTime": "2026-11-22T16:00:00.000Z", "unit": "TOKENS"}
TRACE: dict[str, Any] = {"id": "t1", "timestamp": "2026-11-22T16:00:00.000Z", "name": "chat"}


def ids(text: str) -> list[str]:
    return [row.id for row in read_saved(text.encode())]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps(V2), ["a1"]),
        (json.dumps([V2, V2 | {"id": "a2"}]), ["a1", "a2"]),
        (json.dumps({"data": [V2], "meta": {"cursor": None}}), ["a1"]),
        (json.dumps({"data": [V2]}, indent=2), ["a1"]),
        (json.dumps([{"data": [V2]}, {"data": [V2 | {"id": "a2"}]}]), ["a1", "a2"]),
        (json.dumps(V2) + "\n\n" + json.dumps(V2 | {"id": "a2"}) + "\n", ["a1", "a2"]),
        (json.dumps({"data": [V2]}) + "\r\n" + json.dumps({"data": [V2]}), ["a1", "a1"]),
        ("\ufeff" + json.dumps([V2]), ["a1"]),
        (json.dumps(TRACE | {"observations": [V1]}), ["t-t1", "a1"]),
        (json.dumps({"data": [TRACE | {"observations": ["a1"]}]}), ["t-t1"]),
    ],
    ids=range(10),
)
def test_forms(text: str, found: list[str]) -> None:
    """What somebody has at hand could not be tried."""
    assert ids(text) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("[]", "no observation"),
        ('{"data": []}', "no observation"),
        ("observations", "no JSON"),
        ('{"id": "a1"', "no JSON"),
        (json.dumps(V2) + "\n{]\n", "line 2"),
        ("3", "int where an observation"),
        ('["a1"]', "str where an observation"),
        ('{"error": "Unauthorized"}', "no id"),
        ('[{"id": "a1", "traceId": "t1"}]', "no start time"),
        ("[" * 1_000_000, "no JSON"),
        ("[" * 50_000 + "]" * 50_000, "list where an observation"),
        ('{"data":[' * 20 + json.dumps(V2) + "]}" * 20, "list where an observation"),
        ('{"data":' * 50_000 + "[]" + "}" * 50_000, "no id"),
    ],
    ids=lambda text: str(text)[:20],
)  # fmt: skip
def test_what_is_none(text: str, why: str) -> None:
    """Whoever gives another file would see a traceback, or spans of nothing."""
    with pytest.raises(RecordRejected, match=why) as raised:
        read_saved(text.encode())
    assert "\n" not in str(raised.value)


def test_bytes_that_are_no_text() -> None:
    """A gzipped file is no text at all."""
    with pytest.raises(RecordRejected, match="no JSON"):
        read_saved(b"\x1f\x8b\x08\x00\xff")


def test_the_api_is_known_by_the_fields() -> None:
    """The older API's metadata is in another order, and tells roots in another way: spans would come out wrong."""
    pair = load("litellm")
    assert {row.api for row in read_saved(json.dumps(pair.v2).encode())} == {"v2"}
    assert {row.api for row in read_saved(json.dumps(pair.v1["observations"]).encode())} == {"v1"}
    assert {row.api for row in read_saved(json.dumps(pair.v1["traces"]).encode())} == {"v1"}
    bare = {key: V2[key] for key in ("id", "traceId", "startTime")}
    nested = bare | {"metadata": {"scope": {"name": "x"}}}
    assert [row.api for row in read_saved(json.dumps([bare, nested]).encode())] == ["v2", "v1"]
    assert [row.api for row in read_saved(json.dumps([bare]).encode(), "v1")] == ["v1"]
    assert [row.api for row in read_saved(json.dumps([V1]).encode(), "v2")] == ["v2"]
