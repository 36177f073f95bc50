"""The worker, as a process of its own, and receivers that others made."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sync_worker.demo.receiver import ReceivedSpan
from sync_worker.errors import ExitCode
from tests.support.receivers import AnyReceiver
from tests.support.rows import recorded_rows
from tests.sync.conftest import MakeWorld, make_world  # noqa: F401 - a fixture
from tests.sync.world import World, identities
from tests.targets.conftest import Phoenix, rotel, wait_until

#: All recorded observations: of many instrumentations, with every kind of value.
ALL = {"SYNC_START": "2024-01-01T00:00:00Z", "SYNC_PATIENCE": "1s"}
LATER = 4.2 * 86_400


def _to(made: World, *targets: str) -> None:
    tables = "".join(f"\n[[sources.targets]]\n{target}\n" for target in targets)
    (made.folder / "sync.toml").write_text(f'[[sources]]\nname = "prod"\n{tables}')


def _of_phoenix(phoenix: Phoenix, key: str | None = None, encoding: str = "protobuf") -> str:
    return (
        f'sync_target = "phoenix"\nsync_target_url = "{phoenix.url}"\nsync_target_key = "{key or phoenix.key}"\n'
        f'sync_target_project = "lab"\nsync_target_encoding = "{encoding}"'
    )


def _once(made: World) -> tuple[int, dict[str, int], dict[str, str]]:
    """Do a cycle; return the exit code, and by source how many spans it sent and what failed."""
    code, result = made.program_json("once")
    sources = {one["source"]: one for one in result["sources"]}
    return (
        code,
        {name: one["spans_sent"] for name, one in sources.items()},
        {name: one["error"] for name, one in sources.items() if one["error"]},
    )


def test_phoenix(make_world: MakeWorld, phoenix: Phoenix) -> None:  # noqa: F811
    """Phoenix gets other spans than Kelet, into another project, or none that came while it was down."""
    made = make_world(recorded_rows(), LATER, **ALL)
    expected = identities(recorded_rows())
    _to(made, 'sync_target = "kelet"', _of_phoenix(phoenix))
    code, sent, errors = _once(made)
    assert (code, sent) == (ExitCode.TRANSIENT, {"prod": len(expected), "prod/phoenix": 0})
    assert "target phoenix cannot be reached" in errors["prod/phoenix"]
    assert made.arrived() == expected

    phoenix.start()
    code, sent, errors = _once(made)
    assert (code, errors, sent["prod"]) == (0, {}, 0)
    assert sent["prod/phoenix"] == len(expected)
    wait_until(lambda: len(phoenix.spans("lab")) >= len(expected), every=5.0)
    arrived = phoenix.spans("lab")
    assert Counter((one["context"]["trace_id"], one["context"]["span_id"]) for one in arrived) == expected
    assert phoenix.projects() == {"default", "lab"}
    assert phoenix.spans("default") == []
    by_id = {(one.trace_id, one.span_id): one for one in made.kelet.spans}
    for one in arrived:
        ours = by_id[one["context"]["trace_id"], one["context"]["span_id"]]
        assert (one["name"], one["parent_id"] or "") == (ours.name, ours.parent_id)
        assert not [key for key in one["attributes"] if key.startswith("kelet.")]
        assert {2: "ERROR"}.get(ours.status_code, one["status_code"]) == one["status_code"]
    assert _once(made)[1] == {"prod": 0, "prod/phoenix": 0}


def test_check_of_phoenix(make_world: MakeWorld, phoenix: Phoenix) -> None:  # noqa: F811
    """`check` passes a key that Phoenix refuses or an encoding that it does not take."""
    made = make_world([], LATER, **ALL)
    phoenix.start()

    for target, expected, words in (
        (_of_phoenix(phoenix), ExitCode.OK, "accepted an empty request for project 'lab'"),
        (_of_phoenix(phoenix, key="another-key"), ExitCode.CREDENTIALS, "Try: SYNC_TARGET_KEY"),
        (_of_phoenix(phoenix, encoding="json"), ExitCode.PAUSED, "Try: SYNC_TARGET_ENCODING=protobuf"),
    ):
        (made.folder / "sync.toml").write_text(f'[[sources]]\nname = "phoenix"\n{target}\n')
        code, found = _target_line(made)
        assert code == expected, found
        assert words in found


def _target_line(made: World) -> tuple[int, str]:
    code, out, _ = made.program("check", "--json")
    return code, next(one["found"] for one in json.loads(out)["checks"] if "Target phoenix" in one["check"])


def test_rotel_gets_the_same_by_json_and_protobuf(make_world: MakeWorld, tmp_path: Path) -> None:  # noqa: F811
    """A receiver that others made reads another span from JSON than from protobuf, or than was sent."""
    made = make_world(recorded_rows(), LATER, **ALL)
    expected = identities(recorded_rows())
    with (
        AnyReceiver() as of_json,
        AnyReceiver() as of_protobuf,
        rotel(of_json, tmp_path) as by_json,
        rotel(of_protobuf, tmp_path) as by_protobuf,
    ):
        _to(
            made,
            'sync_target = "kelet"',
            f'name = "json"\nsync_target = "otlp"\nsync_target_url = "{by_json}"\nsync_target_encoding = "json"',
            f'name = "protobuf"\nsync_target = "otlp"\nsync_target_url = "{by_protobuf}"',
        )
        code, out, _ = made.program("check")
        assert code == 0, out
        assert _once(made) == (
            0,
            {"prod": len(expected), "prod/json": len(expected), "prod/protobuf": len(expected)},
            {},
        )
        for receiver in (of_json, of_protobuf):
            wait_until(lambda found=receiver: len(found.spans) >= len(expected))  # type: ignore[misc]
    ours, json_spans, protobuf_spans = (_by_id(one.spans) for one in (made.kelet, of_json, of_protobuf))
    assert json_spans.keys() == protobuf_spans.keys() == ours.keys() == expected.keys()
    assert len(of_json.spans) == len(of_protobuf.spans) == len(expected)
    for identity, span in protobuf_spans.items():
        assert json_spans[identity] == span
        theirs = ours[identity]
        assert (span.name, span.kind, span.start_ns, span.end_ns) == (
            theirs.name, theirs.kind, theirs.start_ns, theirs.end_ns
        )  # fmt: skip
        assert (span.status_code, span.status_message, span.events) == (
            theirs.status_code, theirs.status_message, theirs.events
        )  # fmt: skip
        assert span.attributes == {key: at for key, at in theirs.attributes.items() if not key.startswith("kelet.")}


def _by_id(spans: list[ReceivedSpan]) -> dict[tuple[str, str], ReceivedSpan]:
    return {(span.trace_id, span.span_id): span for span in spans}


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_gzip(encoding: str, make_world: MakeWorld, tmp_path: Path) -> None:  # noqa: F811
    """Compressed requests of either encoding cannot be read."""
    made = make_world(recorded_rows(), LATER, **ALL, SYNC_COMPRESSION="gzip")
    with AnyReceiver() as onward, rotel(onward, tmp_path) as url:
        _to(made, f'sync_target = "otlp"\nsync_target_url = "{url}"\nsync_target_encoding = "{encoding}"')
        code, sent, errors = _once(made)
        assert (code, errors) == (0, {})
        wait_until(lambda: len(onward.spans) >= sent["prod"])
    assert len(onward.spans) == len(identities(recorded_rows()))
