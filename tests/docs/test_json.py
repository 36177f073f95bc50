"""docs/json.md, held to what the program prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_worker.cli.arguments import Parser
from sync_worker.cli.parser import build_parser
from sync_worker.clock import SystemClock
from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.ledger import open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE, release, take
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.estimate import Estimate
from tests.docs.tables import ROOT
from tests.support import faults
from tests.support.rows import Row, row, score, trace
from tests.sync.world import World, world

PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")

#: Objects whose keys are no names: kinds of oddities, shares, horizons, sources.
OPEN = {
    "left_out", "notes", "filtered", "within_seconds", "last_scans", "errors", "waiting_for", "signal", "replaced",
    "dead_letters", "signals",
}  # fmt: skip


def documented(section: str) -> set[str]:
    """Return the fields in a section's table."""
    (found,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^\| `([^`]+)` \|", found, re.MULTILINE))


def fields(value: Any, name: str = "") -> Iterator[str]:
    """Yield the fields of an object as the page names them: every object within another has a name of its own."""
    if isinstance(value, dict):
        for key, inner in value.items():
            here = f"{name}.{key}" if name else key
            if isinstance(inner, dict) and key in OPEN:
                yield from {f"{here}.*" for _ in inner}
            else:
                if not isinstance(inner, list | dict) or _is_optional(here):
                    yield here
                yield from fields(inner, here)
    elif isinstance(value, list):
        if not value or not isinstance(value[0], dict):
            yield name
        for inner in value:
            yield from fields(inner, name + "[]")


def _is_optional(name: str) -> bool:
    return re.search(rf"^\| `{re.escape(name)}` \| object\? \|", PAGE, re.MULTILINE) is not None


def _without_empty_lists(found: set[str], section: str) -> set[str]:
    """Leave out names of lists that happened to be empty, of which the page names what is in them."""
    known = documented(section)
    return {name for name in found if name in known or not any(other.startswith(name + "[]") for other in known)}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Run every command between the demo servers, so that each part of each object has something in it."""
    now = datetime.now(UTC)
    noon = (now - timedelta(hours=20)).replace(minute=10)
    rows = trace(3, start=noon, seconds=5.0, session="s") + trace(1, start=noon, seconds=5.0, name="poison")
    before = trace(1, start=now - timedelta(days=3), seconds=5.0)
    waits = [row(start=now - timedelta(minutes=2), seconds=None, name="waits")]
    odd = [row(start=noon, seconds=-5.0, name="odd")]
    judged = trace(1, start=noon, seconds=5.0, environment="langfuse-judge")
    folder = tmp_path_factory.mktemp("json")
    with world(folder, [*rows, *before, *waits, *odd, *judged], 0, SYNC_SETTLE="0s", SYNC_SCORES="true") as made:
        about = enumerate((rows[0], waits[0]))
        made.langfuse.scores.put(*(score(number, one["traceId"], now) for number, one in about))
        made.kelet.script = faults.refuse_span("poison")
        yield dict(_say_all(made, rows))


def _say_all(made: World, rows: list[Row]) -> Iterator[tuple[str, set[str]]]:
    def say(section: str, *words: str, **environ: str) -> tuple[str, set[str]]:
        out = made.program(*words, "--json", environ=environ)[1]
        return section, _without_empty_lists(set(fields(json.loads(out))), section)

    yield say("error", "status")  # there is no state file yet
    yield _dry_run(made)
    refused = {"LANGFUSE_SECRET_KEY": "sk-lf-revoked"}
    plan = ("plan", "--from", "4d", "--to", "2d")
    yield "plan", say("plan", *plan)[1] | say("plan", *plan, **refused)[1]
    once = say("once, backfill", "once")
    yield once[0], once[1] | say("once, backfill", "backfill", "--from", "4d", "--to", "2d")[1]
    made.langfuse.rows.extend([row(start=datetime.now(UTC), seconds=0.0)])
    made.program("once")  # an interval that did not wait long shows how late rows are
    yield say("check", "check")
    listed = say("dead-letters list, show", "dead-letters", "list")
    yield listed[0], listed[1] | say(listed[0], "dead-letters", "show", "1")[1]
    privacy = {"SYNC_REDACT": "all", "SYNC_LEAVE_OUT": "output"}
    saved = [dict(rows[0], input="alice@example.com", output="x"), dict(rows[0], input='["\\ud83d"]')]
    (made.folder / "saved.json").write_text(json.dumps(saved), encoding="utf-8")
    found = say("privacy test", "privacy", "test", "--samples", "saved.json", **privacy)
    yield found[0], found[1] | say("privacy test", "privacy", "test", **privacy, **refused)[1]
    made.langfuse.rows.extend([dict(rows[0], id=f"{0xFACF:016x}", name="missing")])
    resend = say("verify", "verify", "--repair", "--resend")
    made.langfuse.rows.extend([dict(rows[0], id=f"{0xFACE:016x}", name="missing too")])
    repair = say("verify", "verify", "--repair")
    yield repair[0], resend[1] | repair[1] | say("verify", "verify")[1] | say("verify", "verify", **refused)[1]
    made.langfuse.scores.put(score(2, rows[0]["traceId"], datetime.now(UTC)))
    test = ("scores", "test")
    yield "scores test", say("scores test", *test)[1] | say("scores test", *test, **refused)[1]
    explain = ("explain", rows[0]["traceId"])
    yield "explain", say("explain", *explain)[1] | say("explain", *explain, **refused)[1]
    send = ("send", rows[0]["traceId"], "f" * 32)
    yield "send", say("send", *send)[1] | say("send", *send, **refused)[1]
    routes = ("routes", "test", "--from", "1d", "--to", "now")
    yield "routes test", say("routes test", *routes)[1] | say("routes test", *routes, **refused)[1]
    pause = ("pause", "default", "--project", "support_test", "--for", "1h", "--reason", "why")
    paused = say("pause, resume", *pause)
    yield "status", _status(made)
    yield paused[0], paused[1] | say(paused[0], "resume", *pause[1:4])[1]
    yield say("dead-letters retry", "dead-letters", "retry", "--all")
    yield say("dead-letters drop", "dead-letters", "drop", "--all", "--yes")
    yield say("config show", "config", "show")
    made.program("backfill", "--from", "4d", "--to", "3d", "--state", "shard.db")
    yield say("state backup", "state", "backup", "backup.db")
    yield say("state merge", "state", "merge", "shard.db")
    yield say("state confirm", "state", "confirm")
    with RecordedLangfuse() as moved:
        elsewhere = {"LANGFUSE_BASE_URL": moved.url}
        adopted = say("state adopt, state separate", "state", "adopt", **elsewhere)
        yield adopted[0], adopted[1] | say(adopted[0], "state", "separate", **elsewhere)[1]


def _dry_run(made: World) -> tuple[str, set[str]]:
    """Return the fields of a dry run that would replace, leave out, dead-letter and send a signal."""
    text = "write to alice@example.com"
    odd = trace(1, start=datetime.now(UTC) - timedelta(hours=1), seconds=5.0, input=text)
    odd[1]["input"] = '["\\ud83d"]'
    made.langfuse.rows.extend(odd)
    out = made.program("once", "--dry-run", "--json", environ={"SYNC_REDACT": "all"})[1]
    made.langfuse.rows.remove(lambda one: one["traceId"] == odd[0]["traceId"])
    section = "once --dry-run"
    return section, _without_empty_lists(set(fields(json.loads(out))), section)


def _status(made: World) -> set[str]:
    """Return the fields of `status` while both leases are held, and after both were given back."""
    found: set[str] = set()
    for roles in ((LIVE, BACKFILL), ()):
        ledger = open_ledger(made.state, SystemClock())
        held = [take(ledger, role) for role in roles]
        found |= set(fields(json.loads(made.program("status", "--json")[1])))
        for lease in held:
            release(ledger, lease)
        ledger.close()
    return _without_empty_lists(found, "status")


SECTIONS = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("section", SECTIONS)
def test_page_says_what_is_printed(printed: dict[str, set[str]], section: str) -> None:
    """Somebody who reads the result by the page would look for a field that is not there, or miss one that is."""
    page, found = documented(section), printed[section]
    missing, unseen = found - page, page - found
    assert not missing, f'these fields are printed: add them to the table of "## {section}" in docs/json.md'
    assert not unseen, f'no command of `_say_all` prints these fields of "## {section}" in docs/json.md'


def test_every_object_is_on_the_page(printed: dict[str, set[str]]) -> None:
    """A command would print an object that no section describes."""
    unprinted, undocumented = set(SECTIONS) - set(printed), set(printed) - set(SECTIONS)
    assert not unprinted, "run each of these commands in `_say_all` of this file"
    assert not undocumented, "docs/json.md needs a section for each of these"
    with_json = set(_with_json(build_parser()))
    assert with_json <= set(_commands_on_the_page()), "docs/json.md needs a section for each command with --json"


def _with_json(parser: Parser, *words: str) -> Iterator[str]:
    """Yield the commands that have `--json`."""
    for name, (_, command) in parser.verbs().items():
        if command.verbs():
            yield from _with_json(command, *words, name)
        elif "--json" in command.options():
            yield " ".join([*words, name])


def _commands_on_the_page() -> Iterator[str]:
    """Yield the commands of the headings and of `Also printed by`: `dead-letters list, show` are two."""
    for section in SECTIONS:
        first, *others = section.split(", ")
        yield first
        for other in others:
            yield other
            yield f"{first.rpartition(' ')[0]} {other}".strip()
    yield from re.findall(r"^(?:Also printed by )?`(\S+?)(?: --json`|` prints OTLP/JSON)", PAGE, re.MULTILINE)


def test_dataclasses_that_are_printed_are_whole() -> None:
    """A count would be added to a report and to no page, because no run of this test makes it."""
    report = SourceReport("x").as_json()
    assert {f"sources[].{name}" for name in report} - {"sources[].notes", "sources[].filtered"} <= documented(
        "once, backfill"
    )
    assert {f"sources[].{name}" for name in Estimate.__dataclass_fields__} <= documented("plan")
