"""Observations after public reports (`tests/data/reported`), and what has to become of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from sync_worker.json_text import parse
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.pipeline.assemble import Assembly
from sync_worker.spans.context import gather
from sync_worker.spans.conversion import convert
from sync_worker.spans.span_model import Conversion, Span

DATA = Path(__file__).resolve().parent.parent / "data" / "reported"
NAMES = sorted(path.name for path in DATA.iterdir() if path.is_dir())


def spans_of(name: str, profile: Literal["both", "genai"]) -> dict[str, Span]:
    """Return the spans of a folder's observations by Langfuse's ids."""
    lines = (DATA / name / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assembly = Assembly()
    assembly.add([parse_v2_observation(json.loads(line)) for line in lines], 0)
    made: dict[str, Span] = {}
    for trace_id, members in assembly.take().items():
        result = convert(members, gather(trace_id, members), "shop", Conversion(attributes=profile))
        assert not result.failed
        made |= {observation.id: span for observation, span in result.spans}
    return made


def plain(value: object) -> object:
    """Return text that is a JSON object or list as its value; a tuple as a list."""
    if isinstance(value, str) and value[:1] in {"{", "["}:
        is_json, parsed = parse(value)
        return parsed if is_json else value
    return list(value) if isinstance(value, tuple) else value


def messages(span: Span, key: str) -> list[dict[str, Any]]:
    """Return the messages that an attribute holds."""
    text = span.attributes.get(key, "[]")
    assert isinstance(text, str)
    found: list[dict[str, Any]] = json.loads(text)
    return found


def holds(span: Span, key: str, role: str, part: dict[str, Any]) -> bool:
    """Whether a message of a role has a part with these fields."""
    return any(
        message["role"] == role and all(name in found and found[name] == value for name, value in part.items())
        for message in messages(span, key)
        for found in message["parts"]
    )


@pytest.mark.parametrize("profile", ["both", "genai"])
@pytest.mark.parametrize("name", NAMES)
def test_reported(name: str, profile: Literal["both", "genai"]) -> None:
    """Somebody has already met each of these inputs, and lost by it what `why.md` says."""
    made = spans_of(name, profile)
    for expected in json.loads((DATA / name / "expected.json").read_text(encoding="utf-8")):
        if expected.get("absent"):
            assert expected["span_id"] not in made
            continue
        span = made[expected["span_id"]]
        wanted = expected.get("attributes", {})
        assert {key: plain(span.attributes.get(key)) for key in wanted} == {k: plain(v) for k, v in wanted.items()}
        for item in expected.get("has", []):
            assert holds(span, item["key"], item["role"], item["part"]), item
        for key, roles in expected.get("roles", {}).items():
            assert [message["role"] for message in messages(span, key)] == roles
        assert not set(expected.get("without", [])) & span.attributes.keys()
        for key, value in expected.get("span", {}).items():
            assert getattr(span, key) == value
