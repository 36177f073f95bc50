"""Ids, names and words of servers that would steer a terminal: every command, as a process of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from tests.support import faults
from tests.support.rows import row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

#: A title, a cleared screen, a forged line, text turned round, an unseen character and a separator of lines.
EVIL = "e\x1b]0;owned\x07\x1b[2J\n2026-01-01T00:00:00Z error: forged\r\u202egpj\u2066\u200b\u2028\x9b31m\U000e0041"
PRINTABLE = "é日本語👍"


def harmless(text: str) -> str:
    """Return a text, after a look that only its own line breaks, and tabs between cells, are not meant to be seen."""
    found = [char for line in text.split("\n") for char in line.replace("\t", "") if not char.isprintable()]
    assert found == [], text
    assert not any(line.startswith("2026-01-01T00:00:00Z") for line in text.split("\n")), text
    return text


@pytest.fixture
def hostile(make_world: MakeWorld) -> World:
    """Make a world in which everything that anybody may choose is hostile."""
    noon = datetime.now(UTC) - timedelta(hours=5)
    name = EVIL + PRINTABLE
    rows = [
        *trace(3, start=noon, seconds=5.0, name=name, session=EVIL, user=EVIL),
        row(trace=f"trace {EVIL}", id=f"row {EVIL}", start=noon, name=name, level="ERROR", statusMessage=EVIL),
        *trace(1, start=noon, seconds=5.0, name=f"poison {EVIL}"),
        row(start=datetime.now(UTC) - timedelta(minutes=2), seconds=None, name=name),
    ]
    server = RecordedLangfuse(rows)
    server.project_name = name
    made = make_world(server, SYNC_SETTLE="0s", SYNC_LOG_LEVEL="debug")
    made.kelet.script = faults.when(
        faults.has_span(lambda span: "poison" in span.name), faults.status(400, message=f"no {EVIL}")
    )
    return made


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_command_lets_it_through(hostile: World, form: str) -> None:
    """Whoever can name a span could forge lines of the log, or own the terminal of an operator."""
    hostile.environ["SYNC_LOG_FORMAT"] = form
    seen = ""
    for words in (
        ["once"], ["check"], ["status"], ["explain", f"trace {EVIL}"], ["dead-letters", "list"], ["verify"],
        ["plan", "--from", "1d", "--to", "now"], ["backfill", "--from", "1d", "--to", "1h"], ["config", "show"],
        ["dead-letters", "retry", "--all"], ["once", "--source", EVIL], ["once", EVIL],
        [EVIL], ["status", "--state", EVIL],
        ["state", "merge", EVIL], ["dead-letters", "drop", EVIL], ["backfill", "--from", EVIL, "--to", "now"],
        ["backfill", "--from", "1d", "--to", "now", "--shard", EVIL],
    ):  # fmt: skip
        _, out, err = hostile.program(*words)
        seen += harmless(out) + harmless(err)
        assert "Traceback" not in out + err
        if form == "json" and words == ["once"]:
            assert all(json.loads(line)["time"] for line in err.splitlines() if line.startswith("{"))
            assert any(line.startswith("{") for line in err.splitlines())
        if form == "text" and EVIL not in words:
            _, out, err = hostile.program(*words, "--json")
            harmless(err)
            json.loads(harmless(out))
    assert "\\x1b]0;owned" in seen
    assert PRINTABLE in seen


def test_refusals_of_servers(hostile: World) -> None:
    """An error line would repeat what a server, or who stands in front of it, put into its answer."""
    hostile.langfuse.script = faults.always(faults.status(418, message=f"no {EVIL}"))
    for form in ("text", "json"):
        for command in ("once", "check"):
            code, out, err = hostile.program(command, environ={"SYNC_LOG_FORMAT": form})
            assert code != 0
            harmless(out)
            harmless(err)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KELET_PROJECT", EVIL), ("SYNC_STATE_PATH", EVIL), ("SYNC_START", EVIL), ("LANGFUSE_BASE_URL", EVIL),
        ("KELET_API_KEY_FILE", f"./{EVIL}"), ("SYNC_SECRETS_DIR", EVIL), ("SYNC_CONFIG", EVIL), (f"SYNC_{EVIL}", "x"),
        ("HTTP_PROXY", f"http://{EVIL}"), ("KELET_API_KEY", EVIL),
    ],
)  # fmt: skip
def test_settings(make_world: MakeWorld, name: str, value: str) -> None:
    """A message about a setting would repeat it as it is."""
    made = make_world([])
    if name == "KELET_API_KEY_FILE":
        del made.environ["KELET_API_KEY"]
    for command in (["once"], ["config", "show"]):
        _, out, err = made.program(*command, environ={name: value})
        harmless(out)
        harmless(err)
        assert "Traceback" not in err


def test_files(make_world: MakeWorld) -> None:
    """A message would repeat what stands in a file, or the name of a folder."""
    made = make_world([])
    (made.folder / "sync.toml").write_text(f'"{EVIL.encode("unicode_escape").decode()}" = 1\n'.replace("\\x", "\\u00"))
    _, _, err = made.program("once")
    harmless(err)
    (made.folder / "sync.toml").unlink()
    (made.folder / ".env").write_bytes(b"SYNC_\x1b[2J=1\n\x9b=2\n")
    _, _, err = made.program("once")
    harmless(err)
    (made.folder / ".env").unlink()
    made.folder = made.folder / "folder \x1b[2J\u202e"
    made.folder.mkdir()
    _, out, err = made.program("status", "--state", "x.db")
    assert "\\x1b[2J\\u202e" in harmless(err) + harmless(out)
