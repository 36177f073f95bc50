"""`convert`, as a process of its own: files, stdin and traces become spans; bad input ends with one line and 2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sync_worker.errors import ExitCode
from sync_worker.langfuse.saved import read_saved
from sync_worker.runs.preview import preview
from sync_worker.spans.span_model import Conversion
from tests.fidelity.pairs import load, spans_of
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.sync.test_streams import shell
from tests.sync.world import World


@pytest.fixture
def bare(make_world: MakeWorld) -> World:
    """Return a world in which nothing is set."""
    made = make_world([])
    made.environ.clear()
    return made


def spans(text: str) -> list[dict[str, Any]]:
    """Return the spans of what was printed."""
    return [
        span for group in json.loads(text)["resourceSpans"] for scope in group["scopeSpans"] for span in scope["spans"]
    ]


def convert(made: World, words: str, stdin: str = os.devnull) -> tuple[int, str, str]:
    """Run the command; returns exit code, stdout and stderr."""
    return made.program("convert", *words.split(), stdin=stdin)


def write(made: World, text: str) -> Path:
    path = made.folder / "observations.json"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("generation", ["v2", "v1"])
def test_a_file_needs_no_settings(bare: World, generation: str) -> None:
    """A user could not try a case without an account, or would see other spans than a run sends."""
    pair = load("langfuse-js")
    rows = pair.v2 if generation == "v2" else [*pair.v1["traces"], *pair.v1["observations"]]
    write(bare, json.dumps({"data": rows}))
    code, out, err = convert(bare, "observations.json")
    assert (code, err) == (0, "")
    assert {(span["traceId"], span["spanId"]) for span in spans(out)} == {span.key for span in pair.direct}
    assert list(bare.folder.glob("*.db")) == []
    assert convert(bare, "observations.json --json") == (0, out, "")


def test_stdin(bare: World) -> None:
    """A line of a log could not be piped in."""
    write(bare, "\n".join(json.dumps(row) for row in trace(2, start=0.0, seconds=1.0)))
    code, out, err = convert(bare, "-", stdin="observations.json")
    assert (code, len(spans(out)), err) == (0, 3, "")


def test_attributes(bare: World) -> None:
    """What another profile sends could not be seen."""
    write(bare, json.dumps(load("langfuse-js").v2))
    code, out, _ = convert(bare, "observations.json --attributes genai")
    assert code == 0
    assert '"langfuse.observation.level"' not in out


def test_a_broken_pipe_is_no_error(bare: World) -> None:
    """`| head` would print a traceback."""
    write(bare, json.dumps(load("litellm").v2))
    code, out, err = shell(bare, "{ sync convert observations.json; echo $? >&2; } | head -1")
    assert (code, out.strip(), err.strip()) == (0, "{", "0")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "no JSON", '{"id": "a"', "3", '[{"id": "a"}]', "[" * 1_000_000, "[" * 20_000 + "]" * 20_000],
    ids=["empty", "nothing", "words", "cut", "number", "no start", "open", "deep"],
)
def test_bad_input(bare: World, text: str) -> None:
    """A script would take half a result for one, a person would read a traceback."""
    write(bare, text)
    for words, stdin in (("observations.json", os.devnull), ("-", "observations.json")):
        code, out, err = convert(bare, words, stdin=stdin)
        assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
        assert err.startswith(f"sync-worker: {'stdin' if words == '-' else words}: ")
        assert "Try: " in err


@pytest.mark.parametrize(
    "words",
    ["", "a.json --trace t", "nowhere.json", ".", "- <&-", "a.json --api v3"],
    ids=lambda words: words or "none",
)
def test_wrong_words(bare: World, words: str) -> None:
    """What is missing would be guessed, or told by a traceback."""
    code, out, err = shell(bare, f"sync convert {words}") if "<" in words else convert(bare, words)
    assert (code, out, "Traceback" in err) == (ExitCode.USAGE, "", False)


def test_an_observation_that_breaks_nothing_else(bare: World) -> None:
    """Deep values in one observation would cost the file."""
    rows = trace(1, start=0.0, seconds=1.0)
    rows[0]["metadata"] = {"deep": "here"}
    write(bare, json.dumps(rows).replace('"here"', "[" * 5_000 + "]" * 5_000))
    code, out, err = convert(bare, "observations.json")
    assert (code, len(spans(out)), err) == (0, 2, "")


def test_a_trace_with_the_worker_s_keys(make_world: MakeWorld) -> None:
    """What a run would send of one trace could not be looked at without sending it."""
    rows = trace(2, start=0.0, seconds=5.0)
    made = make_world(rows)
    code, out, _ = convert(made, f"--trace {rows[0]['traceId']}")
    found = spans(out)
    assert (code, len(found), made.kelet.spans) == (0, 3, [])
    assert {"key": "kelet.project", "value": {"stringValue": made.environ["KELET_PROJECT"]}} in found[0]["attributes"]


def test_a_trace_that_is_not_there(make_world: MakeWorld) -> None:
    """An empty result would look like a trace without spans."""
    code, out, err = convert(make_world([]), "--trace 0af7651916cd43dd8448eb211c80319c")
    assert (code, out) == (ExitCode.USAGE, "")
    assert "no observations of the trace" in err


def test_a_trace_with_rejected_keys(make_world: MakeWorld) -> None:
    """Refused keys would look like a trace that is not there."""
    made = make_world([])
    made.environ["LANGFUSE_SECRET_KEY"] = "sk-lf-wrong"
    code, out, err = convert(made, "--trace 0af7651916cd43dd8448eb211c80319c")
    assert (code, out) == (ExitCode.CREDENTIALS, "")
    assert "LANGFUSE_SECRET_KEY" in err


def test_the_pairs_come_out_alike() -> None:
    """The command would make other spans than those that are measured."""
    pair = load("crewai")
    rows = read_saved(json.dumps(pair.v2).encode())
    there = spans_of(rows)
    found = preview(rows, "shop", Conversion())
    assert found.failed == []
    assert {(span.trace_id, span.span_id): span for span in found.spans} == there


def test_a_file_as_a_source_would_be_sent(make_world: MakeWorld) -> None:
    """`--source` had no effect on a file: a security review would read what the rules do not let out."""
    rows = trace(1, start=0.0, user="alice@example.com")
    for one in rows:
        one["metadata"] = {"chat": "chat of bob@example.com"}
    made = make_world(rows, SYNC_REDACT="email", SYNC_EXCLUDE_METADATA="chat", SYNC_SESSION_FROM="metadata.chat")
    write(made, json.dumps({"data": rows}))
    code, out, err = convert(made, "observations.json --source default")
    assert (code, err) == (0, "")
    assert "@example.com" not in out
    sessions = {_value(one, "session.id") for one in spans(out)}
    assert len(sessions) == 1
    assert str(sessions.pop()).startswith("chat of [redacted:email:")
    assert {_value(one, "kelet.project") for one in spans(out)} == {"support_test"}


def _value(span: dict[str, Any], name: str) -> Any:
    return next((one["value"]["stringValue"] for one in span["attributes"] if one["key"] == name), None)
