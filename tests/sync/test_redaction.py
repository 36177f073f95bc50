"""What arrives, what is stored and what is printed, from outside of the process: no planted value is in any of it."""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_worker.demo.serving import Reply, Request, json_reply
from sync_worker.errors import ExitCode
from sync_worker.redaction.redactor import MAX_TEXT
from tests.redaction.corpus import look_alikes, planted
from tests.redaction.made import in_context
from tests.support import faults
from tests.support.rows import NOON, Row, iso, new_trace_id, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}
ALL = {"SYNC_REDACT": "all", **LONG_AGO}
MAIL = "alice.jones@example.com"


def _planted_rows() -> list[Row]:
    """Return traces that hold every planted value, and every look-alike, in some field at some depth."""
    rows: list[Row] = []
    alikes = look_alikes()
    for number, (name, value) in enumerate(planted()):
        text, alike = in_context(name, value), alikes[number]
        fields: list[dict[str, Any]] = [
            {"input": json.dumps([{"role": "user", "content": f"I am {text}.\n{alike}"}])},
            {"output": json.dumps({"role": "assistant", "content": json.dumps({"a": [text], "b": alike})})},
            {"metadata": {"a": {"b": [{"c": text, "d": alike}]}, "attributes.custom.value": text}},
            {"metadata": {"attributes.session.id": f"s {text}", "attributes.note": [text, alike], f"k {text}": alike}},
            {"input": json.dumps({"x": text})[:-3], "name": f"step {text}", "tags": [text, alike]},
            {"level": "ERROR", "statusMessage": f"cannot reach {text}", "output": alike},
            {"sessionId": f"session {text}", "userId": text, "input": alike},
            {"traceName": f"for {text}", "release": alike, "modelParameters": {"stop": [text]}, "model": f"m {alike}"},
            {"traceId": f"trace {text}", "metadata": {"alike": alike}},
        ]
        rows.append(row(start=float(number), **fields[number % len(fields)]))
    return rows


def _everything(made: World, printed: str) -> str:
    """Return all that left or stayed: requests unpacked, the state file with its log, and what was printed."""
    parts = [printed]
    for request in made.kelet.requests:
        body = gzip.decompress(request.body) if request.body.startswith(b"\x1f\x8b") else request.body
        parts.append(body.decode("utf-8", "replace") + json.dumps(dict(request.headers)) + request.path)
    parts += [file.read_bytes().decode("utf-8", "replace") for file in made.folder.iterdir() if file.is_file()]
    return "\n".join(parts)


def _found(text: str, *, but: tuple[str, ...] = ()) -> list[str]:
    """Return the planted values that are in a text, or in the JSON that it holds."""
    plain = text.replace("\\\\", "\\").replace("\\n", "\n")
    return [value for _, value in planted() if value not in but and (value in text or value in plain)]


def test_no_planted_value_leaves_and_every_look_alike_does(make_world: MakeWorld) -> None:
    """Personal data would leave, or be in the state file, the log or the messages; or other texts arrive changed."""
    rows = _planted_rows()
    made = make_world(rows, **ALL, SYNC_LOG_LEVEL="debug")
    printed = "".join(
        "".join(map(str, made.program(*words)))
        for words in (["once"], ["status", "--json"], ["dead-letters", "list"], ["config", "show"])
    )
    assert identities(rows) == made.arrived()
    in_ids = tuple(value for number, (_, value) in enumerate(planted()) if number % 9 == 8)
    assert _found(_everything(made, printed), but=in_ids) == []
    arrived = "\n".join(str(span) for span in made.kelet.spans)
    for value in in_ids:  # Langfuse is asked by them: they stay in the state file, and nowhere else
        assert value not in arrived.replace("\\n", "\n")
    texts = "\n".join(text for span in made.kelet.spans for text in [*_texts(span.attributes), span.name])
    plain = texts.replace("\\\\", "\\").replace("\\\\", "\\").replace('\\"', '"')
    assert [alike for alike in look_alikes() if alike not in texts and alike not in plain] == []


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else [str(value)]


def test_without_rules_everything_arrives_as_it_is(make_world: MakeWorld) -> None:
    """The test above would prove nothing."""
    made = make_world(_planted_rows(), **LONG_AGO)
    code, out, err = made.program("once")
    assert code == 0, err
    found = _found(_everything(made, out + err))
    assert len(found) > 290


@pytest.mark.parametrize("chat", ["chat 7", MAIL])
def test_a_session_may_come_from_what_is_left_out(make_world: MakeWorld, chat: str) -> None:
    """Metadata that only names the session must leave for it, or the session is lost, or leaves as it is."""
    rows = trace(1, start=0.0, metadata={"chat": chat})
    made = make_world(
        rows, **ALL, SYNC_SESSION_FROM="metadata.chat", SYNC_EXCLUDE_METADATA="chat", SYNC_PSEUDONYM_KEY="0" * 64
    )
    assert made.once()[1] == 0
    (session,) = {span.attributes["session.id"] for span in made.kelet.spans}
    assert (session == chat) == (chat != MAIL)
    assert MAIL not in str(made.kelet.spans)
    assert not any("metadata.chat" in span.attributes for span in made.kelet.spans)


def test_sessions_stay_apart_and_users_can_be_followed(make_world: MakeWorld) -> None:
    """Two sessions would become one in Kelet, or a trace's spans be in two."""
    rows = trace(2, start=0.0, session=f"a {MAIL}", user=MAIL) + trace(2, start=20.0, session=f"b {MAIL}", user=MAIL)
    rows += trace(1, start=40.0, session="a bob@example.com", user="bob@example.com")
    made = make_world(rows, **ALL)
    assert made.once()[1] == 0
    sessions = {span.trace_id: span.attributes["session.id"] for span in made.kelet.spans}
    users = {span.attributes["user.id"] for span in made.kelet.spans}
    assert len(set(sessions.values())) == 3
    assert len(users) == 2
    assert {span.attributes["session.id"] for span in made.kelet.spans} == set(sessions.values())
    assert all(re.fullmatch(r"[ab] \[redacted:email:[a-z]{24}\]", one) for one in sessions.values())
    assert MAIL not in str(made.kelet.spans)


def test_a_key_is_made_once_and_kept(make_world: MakeWorld) -> None:
    """The same user would be another one after a restart; or with the setting, in another state file."""
    made = make_world(trace(0, start=0.0, user=MAIL), **ALL)
    made.once()
    made.langfuse.rows.extend(trace(0, start=3590.0, user=MAIL))
    made.clock.advance(120)
    made.once()
    first, second = (span.attributes["user.id"] for span in made.kelet.spans)
    assert first == second
    made.environ |= {"SYNC_STATE_PATH": str(made.folder / "other.db"), "SYNC_PSEUDONYM_KEY": "a secret of ours, long"}
    made.once()
    made.environ |= {"SYNC_STATE_PATH": str(made.folder / "third.db")}
    made.once()
    users = [span.attributes["user.id"] for span in made.kelet.spans]
    assert users[2] not in users[:2]
    assert len(set(users[2:])) == 1
    assert b"a secret of ours, long" not in b"".join(file.read_bytes() for file in made.folder.iterdir())


def test_what_cannot_be_checked_becomes_a_dead_letter(make_world: MakeWorld) -> None:
    """It would be sent unchecked, stop its source, or be kept in the state file."""
    half = f'{{"a": "{MAIL} \\ud83d"}}'
    broken = row(start=5.0, name="broken", input=half), row(start=6.0, name="large", output="x" * (MAX_TEXT + 1))
    rows = [*trace(1, start=0.0), *broken]
    made = make_world(rows, **ALL)
    code, result = made.program_json("once")
    assert (code, result["sources"][0]["dead_letters"]) == (ExitCode.DEAD_LETTERS, 2)
    assert {span.name for span in made.kelet.spans} == {"agent", "llm-1"}
    letters = made.program_json("dead-letters", "list")[1]["dead_letters"]
    assert {letter["kind"] for letter in letters} == {"redaction"}
    assert {letter["next_try"] for letter in letters} == {None}
    with closing(sqlite3.connect(made.state)) as file, file:
        assert file.execute("SELECT count(*) FROM dead_letters WHERE raw IS NOT NULL").fetchone() == (0,)
    assert MAIL not in _everything(made, "")
    assert made.program_json("once")[1]["sources"][0]["dead_letters"] == 0
    made.environ["SYNC_REDACT"] = "none"
    code, result = made.program_json("dead-letters", "retry", "--all")
    assert (code, result["sent"]) == (0, 2)


def test_an_error_of_redaction_sends_nothing(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the redaction would let an observation pass; or its message, which may quote it, be kept."""
    made = make_world([*trace(1, start=0.0), row(start=5.0, input=f"see {MAIL}")], **ALL)

    def fail(*_: Any) -> Any:
        raise ValueError(f"cannot read {MAIL}")

    monkeypatch.setattr("sync_worker.redaction.redactor.Redactor.text", fail)
    report, _ = made.once()
    assert report.dead_letters == 1
    assert len(made.kelet.spans) == 2
    assert MAIL not in _everything(made, "")


def test_what_kelet_says_is_redacted(make_world: MakeWorld) -> None:
    """Kelet's message would repeat a value into dead letters, report or log; or half of one that is cut in two."""
    rows = [*trace(1, start=0.0), row(start=5.0, name="poison")]
    made = make_world(rows, **ALL, SYNC_LOG_LEVEL="debug")
    message = f"{'x' * 195} {MAIL} is not a valid name"
    made.kelet.script = faults.when(faults.has_span("poison"), faults.status(400, message=message))
    printed = "".join(map(str, made.program("once"))) + "".join(map(str, made.program("dead-letters", "list")))
    assert "rejected" in printed
    everything = _everything(made, printed)
    assert "alice.jones" not in everything


def test_unreadable_observations_are_kept_redacted(make_world: MakeWorld) -> None:
    """The raw text of an observation that cannot be read would hold a value."""
    rows = [row(start=1.0), row(start=2.0, input=f"{'y' * 19_990} {MAIL}") | {"id": None}]
    made = make_world(rows, **ALL)
    made.program("once")
    with closing(sqlite3.connect(made.state)) as file, file:
        ((raw,),) = file.execute("SELECT raw FROM dead_letters").fetchall()
    assert "yyyy" in raw
    assert "alice" not in _everything(made, "")


def test_a_change_of_rules_sends_nothing_again(make_world: MakeWorld) -> None:
    """What was sent would be sent again, since its fingerprint was one of the redacted observation."""
    rows = trace(2, start=0.0, user=MAIL, input=f"mail {MAIL}")
    made = make_world(rows, **LONG_AGO)
    made.once()
    for rules in ("all", "email", "none"):
        made.environ["SYNC_REDACT"] = rules
        made.clock.advance(5 * 3600)
        report, code = made.once()
        assert (report.spans_sent, report.dead_letters, code) == (0, 0, 0)


def test_context_stored_under_other_rules_is_read_again(make_world: MakeWorld) -> None:
    """A late observation would carry what was stored before redaction was switched on; or no session at all."""
    trace_id = new_trace_id()
    rows = trace(1, trace=trace_id, start=0.0, session=f"s {MAIL}", user=MAIL)
    made = make_world(rows, **LONG_AGO)
    made.once()
    assert MAIL in _everything(made, "")
    made.kelet.requests.clear()
    made.environ["SYNC_REDACT"] = "all"
    late = row(trace=trace_id, start=2.0, parent=rows[0]["id"], name="late")
    late["updatedAt"] = iso(NOON + timedelta(seconds=3700))
    made.langfuse.rows.extend([late])
    made.clock.advance(3600)
    assert made.once()[1] == 0
    span = made.span("late")
    assert re.fullmatch(r"s \[redacted:email:[a-z]{24}\]", span.attributes["session.id"])
    assert MAIL not in _everything(made, "")


def test_media_that_is_resolved_is_redacted(make_world: MakeWorld) -> None:
    """The text of a truncated field would arrive as it is."""
    rows = [row(start=0.0, input="@@@langfuseMedia:type=text/plain|id=long|source=field_size_limit@@@")]
    made = make_world(rows, **ALL)

    def script(request: Request) -> Reply | None:
        if request.path == "/store/long":
            return Reply(200, {"Content-Type": "text/plain"}, f"{'long ' * 300}{MAIL}".encode())
        if request.path != "/api/public/media/long":
            return None
        there = {"mediaId": "long", "contentType": "text/plain", "contentLength": 1_522}
        times = {"uploadedAt": "2026-11-20T12:00:00.000Z", "urlExpiry": "2026-11-20T13:00:00.000Z"}
        return json_reply(200, {**there, **times, "url": f"{made.langfuse.url}/store/long?signed=yes"})

    made.langfuse.script = script
    assert made.once()[1] == 0
    (span,) = made.kelet.spans
    assert "long long" in str(span.attributes)
    assert "[redacted:email]" in str(span.attributes)
    assert MAIL not in _everything(made, "")


@pytest.mark.parametrize(
    ("environ", "there", "gone"),
    [
        ({"SYNC_LEAVE_OUT": "input"}, ["answer-text"], ["question-text"]),
        ({"SYNC_LEAVE_OUT": "input,output"}, ["team-text"], ["question-text", "answer-text"]),
        ({"SYNC_INCLUDE_METADATA": "team"}, ["team-text", "question-text"], ["plan-text", "attribute-text"]),
        ({"SYNC_EXCLUDE_METADATA": "p*,attributes.*"}, ["team-text", "deep-text"], ["plan-text", "attribute-text"]),
        ({"SYNC_EXCLUDE_METADATA": "deep.inner"}, ["plan-text", "outer-text"], ["deep-text"]),
        ({"SYNC_USER_IDS": "drop"}, ["session-text"], ["user-text"]),
        ({"SYNC_USER_IDS": "pseudonym"}, ["session-text", "[redacted:user:"], ["user-text"]),
    ],
    ids=str,
)
def test_leaving_out(make_world: MakeWorld, environ: dict[str, str], there: list[str], gone: list[str]) -> None:
    """What an operator leaves out would leave, by its field or by an attribute that repeats it."""
    metadata = {
        "team": "team-text", "plan": "plan-text", "deep": {"inner": "deep-text", "outer": "outer-text"},
        "attributes.custom": "attribute-text", "attributes.user.id": "user-text", "langfuse_user_id": "user-text",
        "attributes.gen_ai.prompt.0.content": "question-text", "attributes.gen_ai.completion.0.content": "answer-text",
        "scope.name": "some-scope",
    }  # fmt: skip
    rows = [
        row(start=0.0, input="question-text", output="answer-text", metadata=metadata, userId="user-text",
            sessionId="session-text")
    ]  # fmt: skip
    made = make_world(rows, **LONG_AGO, **environ)
    assert made.once()[1] == 0
    arrived = str(made.kelet.spans)
    assert [text for text in there if text not in arrived] == []
    assert [text for text in gone if text in arrived] == []
    assert [text for text in gone if text in _everything(made, "")] == []


@pytest.mark.parametrize("words", [["check"], ["config", "show"], ["once"]], ids=str)
def test_a_wrong_pattern_is_one_line(make_world: MakeWorld, words: list[str]) -> None:
    """A pattern would be ignored, and what it was meant for be sent; or nobody would know which one is wrong."""
    made = make_world([], **LONG_AGO)
    (made.folder / "sync.toml").write_text(
        "[redact.patterns]\nstaff = 'EMP-(?=1)'\nfine = 'X[0-9]+'\n", encoding="utf-8"
    )
    code, out, err = made.program(*words)
    assert (code, out) == (ExitCode.USAGE, "")
    (line,) = [line for line in err.splitlines() if "staff" in line]
    assert "[redact].patterns staff: " in line
    assert "invalid perl operator" in line
    assert "fine" not in err


def test_without_re2_rules_end_with_2_and_all_else_runs(make_world: MakeWorld) -> None:
    """The worker would not start where google-re2 has no build; or send unredacted what should be redacted."""
    made = make_world(trace(1, start=0.0), **LONG_AGO)
    (made.folder / "re2.py").write_text("raise ImportError('no re2 here')\n", encoding="utf-8")
    (made.folder / "re2").mkdir()
    (made.folder / "re2" / "__init__.py").write_text("raise ImportError('no re2 here')\n", encoding="utf-8")
    path = f"{made.folder}:{Path(__file__).parents[2]}"
    assert made.program("once", environ={"PYTHONPATH": path})[0] == 0
    code, out, err = made.program("once", environ={"PYTHONPATH": path, "SYNC_REDACT": "email"})
    assert (code, out) == (ExitCode.USAGE, "")
    assert "google-re2" in err
    assert "Traceback" not in err


def test_shards_need_the_key(make_world: MakeWorld) -> None:
    """Each shard would give the same user another pseudonym."""
    made = make_world(trace(1, start=0.0, user=MAIL), **ALL)
    backfill = ["backfill", "--from", "2026-11-20T00:00:00Z", "--to", "2026-11-21T00:00:00Z", "--shard", "1/2"]
    code, _, err = made.program(*backfill)
    assert (code, "SYNC_PSEUDONYM_KEY" in err) == (ExitCode.USAGE, True)
    assert made.program(*backfill, environ={"SYNC_PSEUDONYM_KEY": "a secret of ours, long"})[0] == 0
    assert made.program(*backfill, environ={"SYNC_REDACT": "none"})[0] == 0


def test_privacy_test_sends_nothing_and_shows_counts(make_world: MakeWorld) -> None:
    """Somebody who tries the rules would send with them; or a pipe or a log would get the values."""
    rows = trace(1, start=0.0, user=MAIL, input=f"mail {MAIL}", metadata={"owner": {"mail": MAIL}})
    made = make_world(rows, **ALL)
    code, result = made.program_json("privacy", "test", "--trace", rows[0]["traceId"])
    (source,) = result["sources"]
    assert (code, source["observations"], source["redacted"], made.kelet.requests) == (0, 2, 2, [])
    found = {(one["field"], one["detector"]): one["count"] for one in source["found"]}
    assert found == {("input", "email"): 2, ("metadata.owner", "email"): 2, ("user_id", "email"): 1}
    saved = made.folder / "saved.json"
    saved.write_text(json.dumps(rows), encoding="utf-8")
    code, out, err = made.program("privacy", "test", "saved.json")
    assert (code, MAIL in out + err, "metadata.owner" in out) == (0, False, True)
    assert MAIL in made.program("privacy", "test", "saved.json", "--samples")[1]
    assert made.kelet.requests == []


def test_rules_differ_by_source(make_world: MakeWorld) -> None:
    """The rules of one source would hold for another."""
    made = make_world(trace(0, start=0.0, input=f"mail {MAIL}, EMP-123456"), **LONG_AGO)
    (made.folder / "sync.toml").write_text(
        "sync_redact = 'email'\n[redact.patterns]\nstaff = 'EMP-[0-9]{6}'\n"
        "[[sources]]\nname = 'one'\nsync_redact = ['phone']\n"
        "[sources.redact.patterns]\nstaff = 'NONE'\nmail = 'alice'\n",
        encoding="utf-8",
    )
    settings = made.settings()
    assert settings.rules.patterns == (("staff", "EMP-[0-9]{6}"),)
    own = settings.of(settings.sources[0]).rules
    assert (own.detectors, own.patterns) == (("phone",), (("staff", "NONE"), ("mail", "alice")))
    made.once()
    assert "mail [redacted:mail].jones@example.com, EMP-123456" in str(made.kelet.spans[0].attributes)


def test_a_trace_that_is_not_there_is_not_called_clean(make_world: MakeWorld) -> None:
    """A trace id with a typing error would read like a trace in which nothing is found."""
    made = make_world(trace(0, start=0.0), **ALL)
    code, out, err = made.program("privacy", "test", "--trace", "f" * 32)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "no observations of these traces" in err
