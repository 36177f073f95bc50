"""Routes and overrides, from the settings to what Kelet receives."""

from __future__ import annotations

from typing import Any

import pytest

from sync_worker.errors import ConfigError
from tests.support import faults
from tests.support.rows import Row, row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities


def _configure(made: World, routes: str = "", *, source: str = "") -> None:
    """Write settings of one source, with lines of its table, and its routes."""
    for name in ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        made.environ.pop(name, None)
    server = made.langfuse
    (made.folder / "sync.toml").write_text(
        f'[[sources]]\nname = "one"\nlangfuse_base_url = "{server.url}"\nkelet_project = "main"\n'
        f'langfuse_public_key = "{server.public_key}"\nlangfuse_secret_key = "{server.secret_key}"\n{source}\n{routes}'
    )


def _route(project: str | None, **conditions: str) -> str:
    what = "drop = true" if project is None else f'project = "{project}"'
    return f"[[sources.routes]]\n{what}\n" + "".join(f'{key} = "{value}"\n' for key, value in conditions.items())


def _late(of: Row, start: float, **changes: Any) -> Row:
    return row(trace=of["traceId"], parent=of["id"], start=start, **changes)


def _projects(made: World) -> dict[str, set[str]]:
    """Return the projects of the spans of each trace, at all three places of Kelet's precedence."""
    found: dict[str, set[str]] = {}
    for span in made.kelet.spans:
        found.setdefault(span.trace_id, set()).update(
            {str(span.project), str(span.attributes["kelet.project"]), str(span.resource["kelet.project"])}
        )
    return found


def test_templates_expressions_and_drop(make_world: MakeWorld) -> None:
    """A template is sent as it is written, or a span of a trace says another project than its request."""
    environments = ("dev", "prod-eu1", "probe", "prod-é")
    dev, eu, probe, odd = (
        trace(1, start=float(number), environment=values) for number, values in enumerate(environments)
    )
    made = make_world([*dev, *eu, *probe, *odd])
    _configure(
        made,
        _route(None, environment="probe")
        + _route("shop {environment}", environment="re:^prod-.+$")
        + _route("shop-dev", environment="de?"),
    )
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    assert made.arrived() == identities([*dev, *eu, *odd])
    assert _projects(made) == {
        dev[0]["traceId"]: {"shop-dev"},
        eu[0]["traceId"]: {"shop prod-eu1"},
        odd[0]["traceId"]: {"main"},  # no header can carry it
    }
    assert dict(report.filtered) == {"route that drops environment=probe": 1}
    late = [_late(one[0], 3590.0, environment="other") for one in (dev, eu, probe)]
    made.langfuse.rows.extend(late)
    made.cycles(600)
    assert made.arrived() == identities([*dev, *eu, *odd, *late[:2]])
    assert all(len(projects) == 1 for projects in _projects(made).values())


def test_project_of_a_template_that_kelet_does_not_know(make_world: MakeWorld) -> None:
    """A lane that only a template names counts as one of a route that is gone, and its traces go elsewhere."""
    out = trace(1, start=0.0, environment="new")
    made = make_world([*out, *trace(1, start=60.0)])
    _configure(made, _route("shop-{environment}", environment="new"))
    made.kelet.script = lambda request: faults.no_such_project(request.project) if request.project != "main" else None
    made.once()
    assert {span.project for span in made.kelet.spans} == {"main"}
    made.kelet.script = None
    made.cycles(120)
    assert _projects(made)[out[0]["traceId"]] == {"shop-new"}


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ('project = "a-{team}"\nenvironment = "x"', "{team} is no field"),
        ('project = "a-{environment"\nenvironment = "x"', "brace"),
        ('project = "a"\nenvironment = "re:("', "not a regular expression"),
        ('project = "a"\ndrop = true\nenvironment = "x"', "drop"),
        ('drop = false\nenvironment = "x"', "drop = true"),
        ("drop = true", "no condition"),
    ],
)
def test_routes_that_cannot_be(make_world: MakeWorld, line: str, printed: str) -> None:
    """A route that cannot work is found out when traces are in the wrong project."""
    made = make_world([])
    _configure(made, f"[[sources.routes]]\n{line}\n")
    with pytest.raises(ConfigError, match=printed.replace("{", r"\{")):
        made.settings()


def test_expressions_without_google_re2(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package has no wheel, the worker starts, and traces go past the route."""
    made = make_world([])
    _configure(made, _route("a", environment="re:^never-compiled$"))
    monkeypatch.setitem(__import__("sys").modules, "re2", None)
    with pytest.raises(ConfigError, match="google-re2"):
        made.settings()


def test_routes_test_shows_what_would_be(make_world: MakeWorld) -> None:
    """A route is found to be wrong when its traces have gone."""
    rows = [one for number in range(3) for one in trace(1, start=float(number), environment="dev")]
    made = make_world([*rows, *trace(1, start=9.0, environment="probe"), *trace(1, start=10.0)])
    _configure(
        made,
        _route(None, environment="probe") + _route("shop-{environment}", environment="dev") + _route("x", user="y"),
    )
    when = ("--from", "2026-11-20T12:00:00Z", "--to", "2026-11-20T12:10:00Z")
    code, found = made.program_json("routes", "test", *when)
    assert code == 0
    (source,) = found["sources"]
    assert source["traces"] == 5
    assert [(one["rule"], one["project"], one["traces"], one["is_new_project"]) for one in source["rules"]] == [
        ("route environment=dev", "shop-dev", 3, True),
        ("default", "main", 1, True),
        ("route that drops environment=probe", None, 1, False),
        ("route user=y", "x", 0, True),
    ]
    assert not made.kelet.spans


def test_check_asks_for_the_projects_that_there_are(make_world: MakeWorld) -> None:
    """A route that drops, or whose project is a template, names none: Kelet does not know it, and `check` fails."""
    made = make_world([])
    _configure(
        made,
        _route(None, environment="probe")
        + _route("shop {environment}", environment="prod")
        + _route("lab", environment="dev"),
    )
    made.kelet.script = faults.when(lambda request: request.project not in {"main", "lab"}, faults.status(404))
    code, found = made.program_json("check")
    asked = [one["check"] for one in found["checks"] if "Kelet key" in one["check"]]
    assert (code, asked) == (0, ["one: Kelet key, project main", "one: Kelet key, project lab"])


def test_session_and_user_from_metadata(make_world: MakeWorld) -> None:
    """A team whose session id stands in metadata sees no session in Kelet, or one on some spans only."""
    first, second = trace(2, start=0.0, seconds=10.0), trace(2, start=60.0, seconds=10.0, session="own", user="u")
    first[0]["metadata"] = {"chat": {"id": "s-1"}, "who": 7}
    first[1]["metadata"] = {"chat": {"id": "s-2"}}
    first[2]["metadata"] = {"attributes.session.id": "s-3"}
    second[2]["metadata"] = {"chat": {"id": "s-4"}}
    made = make_world([*first, *second])
    _configure(made, source='sync_session_from = ["metadata.chat.id", "session"]\nsync_user_from = ["metadata.who"]')
    assert made.once()[1] == 0
    made.langfuse.rows.add(_late(first[0], 3580.0, metadata={"chat": {"id": "s-5"}}, sessionId="s-6"))
    made.cycles(600)
    printed = {
        (span.trace_id, str(span.attributes.get("session.id")), str(span.attributes["gen_ai.conversation.id"]),
         str(span.attributes.get("user.id")))
        for span in made.kelet.spans
    }  # fmt: skip
    assert printed == {(first[0]["traceId"], "s-1", "s-1", "7"), (second[0]["traceId"], "own", "own", "None")}
    assert len(made.kelet.spans) == 7


def test_earliest_observation_decides_where_the_root_does_not(make_world: MakeWorld) -> None:
    """The session of a trace is that of whichever observation was read first."""
    rows = trace(3, start=0.0, seconds=10.0)
    for number, one in enumerate(rows[1:]):
        one["metadata"] = {"sid": f"s-{number}"}
    made = make_world(rows)
    _configure(made, source='sync_session_from = ["metadata.sid"]')
    made.once()
    assert {span.attributes["session.id"] for span in made.kelet.spans} == {"s-0"}


def test_root_that_comes_last_decides_before_anything_is_sent(make_world: MakeWorld) -> None:
    """While a trace is pending a child's value is remembered, and stands where the root's should."""
    rows = trace(1, start=3560.0, seconds=5.0)
    rows[0]["metadata"], rows[1]["metadata"] = {"sid": "root"}, {"sid": "child"}
    made = make_world(rows[1:])
    _configure(made, source='sync_session_from = ["metadata.sid"]')
    made.once()
    made.langfuse.rows.add(rows[0])
    made.cycles(300)
    assert {span.attributes["session.id"] for span in made.kelet.spans} == {"root"}
    assert len(made.kelet.spans) == 2


def test_agent_and_project_from_fields(make_world: MakeWorld) -> None:
    """An agent that only metadata names is one by the name of the span; a project in metadata is ignored."""
    named, plain = trace(1, start=0.0), trace(1, start=60.0)
    named[0]["metadata"] = {"bot": "Travel", "team": "search"}
    plain[0]["metadata"] = {"team": "é"}
    stepping = trace(0, start=90.0)
    stepping[0]["metadata"] = {"team": ".."}
    made = make_world([*named, *plain, *stepping])
    _configure(
        made, _route("routed", environment="*"),
        source='sync_agent_from = ["metadata.bot", "agent"]\nsync_project_from = ["metadata.team"]',
    )  # fmt: skip
    assert made.once()[1] == 0
    assert _projects(made) == {
        named[0]["traceId"]: {"search"}, plain[0]["traceId"]: {"routed"}, stepping[0]["traceId"]: {"routed"},
    }  # fmt: skip
    agents = {(span.trace_id, str(span.attributes["gen_ai.agent.name"])) for span in made.kelet.spans}
    assert agents == {
        (named[0]["traceId"], "Travel"), (plain[0]["traceId"], "agent"), (stepping[0]["traceId"], "agent"),
    }  # fmt: skip


def test_no_personal_data_becomes_the_name_of_a_project(make_world: MakeWorld) -> None:
    """Conditions see the trace as it is, and so did templates: an address would be a project of Kelet, in clear."""
    mail = "alice@example.com"
    rows = trace(0, start=0.0, user=mail) + trace(0, start=10.0, user="bob-7") + trace(0, start=20.0, session="s")
    rows[2]["metadata"] = {"team": f"team {mail}"}
    made = make_world(rows, SYNC_REDACT="email", SYNC_LOG_LEVEL="debug")
    _configure(made, _route("of {user}", user="*"), source='sync_project_from = ["metadata.team"]')
    assert made.once()[1] == 0
    code, out, err = made.program("routes", "test", "--from", "2026-11-20T00:00:00Z", "--to", "2026-11-26T00:00:00Z")
    assert [span.project for span in sorted(made.kelet.spans, key=lambda one: one.start_ns)] == [
        "main",
        "of bob-7",
        "main",
    ]
    stored = b"".join(file.read_bytes() for file in made.folder.iterdir() if file.name.startswith("state.db"))
    assert mail not in str(made.kelet.spans) + stored.decode("latin-1") + out + err
    assert mail not in str([dict(request.headers) for request in made.kelet.requests])
    assert code == 0


@pytest.mark.parametrize("ids", ["pseudonym", "drop"])
def test_a_user_that_may_not_leave_is_no_name_of_a_project(make_world: MakeWorld, ids: str) -> None:
    """A user id that is left out everywhere would be the name of a project, by a template or by the override."""
    rows = trace(0, start=0.0, user="bob-7")
    made = make_world(rows, SYNC_USER_IDS=ids)
    _configure(made, _route("of {user}", user="bob-*"), source='sync_project_from = ["user"]')
    assert made.once()[1] == 0
    assert [span.project for span in made.kelet.spans] == ["main"]
    assert "bob-7" not in str(made.kelet.spans)


def test_a_project_from_before_redaction_is_left(make_world: MakeWorld) -> None:
    """Late spans of a trace would name a project by an address for ever, also after redaction was switched on."""
    mail = "alice@example.com"
    rows = trace(1, start=0.0, user=mail)
    made = make_world(rows)
    _configure(made, _route("of {user}", user="*"))
    made.once()
    made.langfuse.rows.extend([_late(rows[0], 3590.0, name="late")])
    made.environ["SYNC_REDACT"] = "email"
    made.cycles(600)
    assert made.span("late").project == "main"
