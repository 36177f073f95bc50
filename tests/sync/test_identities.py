"""A source is its Langfuse project, wherever it is reached and by whatever keys: it is never sent under two names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Reply, json_reply
from sync_worker.errors import ExitCode
from sync_worker.ledger import same_address
from tests.support import faults
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}
KEYS = ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")


def _sources(made: World, *sources: tuple[str, str, str, str]) -> None:
    """Write sources (name, address, public key, secret key) into sync.toml."""
    for name in KEYS:
        made.environ.pop(name, None)
    tables = "".join(
        f'[[sources]]\nname = "{name}"\nlangfuse_base_url = "{url}"\nlangfuse_public_key = "{public}"\n'
        f'langfuse_secret_key = "{secret}"\nkelet_project = "{name}_project"\n'
        for name, url, public, secret in sources
    )
    (made.folder / "sync.toml").write_text(tables)


def _other_name(server: RecordedLangfuse) -> str:
    """Return another name of the same server."""
    return server.url.replace("127.0.0.1", "localhost")


def _keys(server: RecordedLangfuse) -> tuple[str, str]:
    return server.public_key, server.secret_key


@pytest.fixture
def moved(make_world: MakeWorld) -> Iterator[tuple[World, RecordedLangfuse]]:
    """Return a world that was synced, whose Langfuse is gone, and a second server of the same project id and rows."""
    rows = [*trace(3), *trace(2)]
    made = make_world(rows, **LONG_AGO)
    assert made.once()[0].spans_sent == 7
    made.clock.advance(300)
    with RecordedLangfuse([*rows, *trace(1, start=3700)]) as there:
        there.now = made.langfuse.now
        yield made, there


def _at(made: World, server: RecordedLangfuse) -> None:
    made.environ["LANGFUSE_BASE_URL"] = server.url


def _gone(made: World) -> None:
    made.langfuse.script = faults.always(Reply(404, {"Content-Type": "text/html"}, b"<html>gone</html>"))


@pytest.mark.parametrize("command", ["once", "run"])
def test_one_project_by_two_key_pairs(make_world: MakeWorld, command: str) -> None:
    """Everything goes out twice, with exit code 0."""
    made = make_world(trace(3), **LONG_AGO)
    pair = ("pk-lf-another", made.langfuse.secret_key)  # the server looks at the secret key alone
    _sources(made, ("one", made.langfuse.url, *_keys(made.langfuse)), ("two", made.langfuse.url, *pair))
    code, _, err = made.program(command)
    assert code == ExitCode.USAGE
    assert "'one'" in err
    assert "'two'" in err
    assert "Try:" in err
    assert made.kelet.spans == []


def _found_of(made: World, name: str) -> tuple[int, bool, str]:
    """Return the exit code of `check`, and what it found of a source's project."""
    code, printed = made.program_json("check")
    (line,) = [line for line in printed["checks"] if line["check"] == f"{name}: Langfuse project"]
    return code, line["ok"], line["found"]


def test_check_reports_one_project_under_two_names(make_world: MakeWorld) -> None:
    """`check` finds all well, and the run after it ends with 2."""
    made = make_world(trace(3), **LONG_AGO)
    here, keys = made.langfuse.url, _keys(made.langfuse)
    _sources(made, ("one", here, *keys), ("two", here, "pk-lf-another", made.langfuse.secret_key))
    code, is_well, found = _found_of(made, "two")
    assert (code, is_well) == (ExitCode.USAGE, False)
    assert "are one Langfuse project" in found
    _sources(made, ("one", here, *keys), ("two", _other_name(made.langfuse), *keys))
    code, is_well, found = _found_of(made, "two")
    assert (code, is_well) == (ExitCode.USAGE, False)
    assert "state adopt" in found


def test_check_reports_what_a_move_will_be(moved: tuple[World, RecordedLangfuse]) -> None:
    """`check` finds all well where the next run refuses, or decides in the place of a run."""
    made, there = moved
    assert _found_of(made, "default") == (0, True, f"known as what is read at {made.langfuse.url}")
    _at(made, there)
    code, is_well, found = _found_of(made, "default")
    assert (code, is_well) == (ExitCode.USAGE, False)
    assert "state adopt" in found
    _gone(made)
    for _ in range(2):  # it changes nothing
        code, is_well, found = _found_of(made, "default")
        assert (code, is_well) == (0, True)
        assert "no longer answers for it" in found
    assert made.once()[0].spans_sent == 2
    assert _found_of(made, "default")[2] == f"known as what is read at {there.url}"


def test_check_of_two_projects_of_one_id(make_world: MakeWorld) -> None:
    """Two servers with projects of one chosen id cannot pass `check`."""
    made = make_world(trace(3), **LONG_AGO)
    with RecordedLangfuse(trace(2)) as other:
        other.now = made.langfuse.now
        _sources(made, ("one", made.langfuse.url, *_keys(made.langfuse)), ("two", other.url, *_keys(other)))
        assert _found_of(made, "two") == (0, True, "new here")
        assert made.once()[0].spans_sent == 4
        assert _found_of(made, "two")[1]


@pytest.mark.parametrize("command", ["once", "run"])
def test_one_server_under_two_names(make_world: MakeWorld, command: str) -> None:
    """The same server by another host name counts as another project: everything goes out twice."""
    made = make_world(trace(3), **LONG_AGO)
    server = made.langfuse
    _sources(made, ("one", server.url, *_keys(server)), ("two", _other_name(server), *_keys(server)))
    code, _, err = made.program(command)
    assert code == ExitCode.USAGE
    assert "one project under two names" in err
    assert server.url in err
    assert _other_name(server) in err
    assert made.kelet.spans == []


def test_empty_project_under_two_names_is_reported_later(make_world: MakeWorld) -> None:
    """Names that could not be told apart at the start, since nothing was there, are never compared again."""
    made = make_world([], **LONG_AGO)
    server = made.langfuse
    _sources(made, ("one", server.url, *_keys(server)), ("two", _other_name(server), *_keys(server)))
    assert made.program_json("once")[0] == 0
    server.rows.extend(trace(3))
    code, _, err = made.program("once")
    assert code == ExitCode.USAGE
    assert "one project under two names" in err
    assert max(made.arrived().values(), default=1) == 1


def test_two_servers_with_one_chosen_id(make_world: MakeWorld) -> None:
    """Ids can be chosen: two servers of the same id and other rows keep each other from being synced."""
    made = make_world(trace(3), **LONG_AGO)
    with RecordedLangfuse(trace(2)) as other:
        _sources(made, ("one", made.langfuse.url, *_keys(made.langfuse)), ("two", other.url, *_keys(other)))
        code, result = made.program_json("once")
        assert (code, [source["spans_sent"] for source in result["sources"]]) == (0, [4, 3])
        asked = len(other.requests)
        assert made.program_json("once")[0] == 0
        projects = [request for request in other.requests[asked:] if request.path == "/api/public/projects"]
        assert projects == []  # told apart once and for all


def test_renamed_source_and_rotated_keys(make_world: MakeWorld) -> None:
    """A source under a new name, or with new keys, restarts: what was sent goes out again."""
    made = make_world(trace(3), **LONG_AGO)
    pair = ("pk-lf-rotated", made.langfuse.secret_key)
    for name, keys in (("before", _keys(made.langfuse)), ("after", _keys(made.langfuse)), ("after", pair)):
        _sources(made, (name, made.langfuse.url, *keys))
        assert made.once()[1] == 0
    assert len(made.kelet.spans) == 4


def test_spellings_of_one_address(make_world: MakeWorld) -> None:
    """A final dot or slash makes another project of it."""
    assert same_address("https://lf.example.com", "https://LF.example.com.:443/")
    assert same_address("http://[::1]:80", "http://[::1]/")
    assert not same_address("http://lf.example.com", "https://lf.example.com")
    assert not same_address("https://lf.example.com/a", "https://lf.example.com/b")
    made = make_world(trace(3), **LONG_AGO)
    made.environ["LANGFUSE_BASE_URL"] = _other_name(made.langfuse)
    assert made.once()[0].spans_sent == 4
    made.environ["LANGFUSE_BASE_URL"] = _other_name(made.langfuse).replace("localhost", "localhost.")
    assert made.once()[0].spans_sent == 0


GONE = {
    "404": Reply(404, {"Content-Type": "text/html"}, b"<html>gone</html>"),
    "redirect": faults.redirect("https://elsewhere.example"),
    "pending domain": Reply(200, {"Content-Type": "text/html"}, b"<html>for sale</html>"),
    "another project": json_reply(
        200, {"data": [{"id": "another", "name": "x", "organization": {"id": "o", "name": "o"}, "metadata": {}}]}
    ),
}


@pytest.mark.parametrize("reply", GONE.values(), ids=GONE.keys())
def test_project_that_moved(moved: tuple[World, RecordedLangfuse], reply: Reply) -> None:
    """A server under a new address is a new project: the history goes out again; or the worker stops for ever."""
    made, there = moved
    made.langfuse.script = faults.always(reply)
    _at(made, there)
    report, code = made.once()
    assert (report.error, code, report.spans_sent) == (None, 0, 2)
    asked = len(there.requests)
    made.clock.advance(60)
    assert made.once()[0].spans_sent == 0
    projects = [request for request in there.requests[asked:] if request.path == "/api/public/projects"]
    assert projects == []  # known at the new address from now on


def test_project_that_moved_from_a_port_that_is_closed(make_world: MakeWorld) -> None:
    """A refused connection counts as an outage, and is waited for."""
    rows = trace(3)
    made = make_world(rows, **LONG_AGO)
    with RecordedLangfuse(rows) as old:
        old.now = made.langfuse.now
        _at(made, old)
        assert made.once()[0].spans_sent == 4
    _at(made, made.langfuse)
    report, code = made.once()
    assert (report.error, code, report.spans_sent) == (None, 0, 0)


def test_copy_while_the_old_address_answers(moved: tuple[World, RecordedLangfuse]) -> None:
    """A staging server that is a copy of production passes for it: its rows arrive as production's."""
    made, there = moved
    _at(made, there)
    before = len(made.kelet.spans)
    code, _, err = made.program("once")
    assert code == ExitCode.USAGE
    assert "state adopt --source default" in err
    assert "state separate --source default" in err
    assert len(made.kelet.spans) == before


@pytest.mark.parametrize("change", ["others", "same ids, other content"])
def test_equal_ids_alone_prove_nothing(make_world: MakeWorld, change: str) -> None:
    """Another server whose ids were chosen alike takes over the state: what it holds counts as sent."""
    rows = trace(3)
    made = make_world(rows, **LONG_AGO)
    made.once()
    _gone(made)
    others = trace(3) if change == "others" else [{**one, "output": "another"} for one in rows]
    with RecordedLangfuse(others) as there:
        _at(made, there)
        code, _, err = made.program("once")
        assert code == ExitCode.USAGE
        assert "not listed there as it was sent" in err
        assert len(made.kelet.spans) == 4


def test_old_address_in_an_outage_decides_nothing(moved: tuple[World, RecordedLangfuse]) -> None:
    """While production is down for a minute, its copy takes its place."""
    made, there = moved
    made.langfuse.script = faults.always(faults.status(503))
    _at(made, there)
    report, code = made.once()
    assert code == ExitCode.TRANSIENT
    assert report.error is not None
    assert "state adopt" in report.error
    assert "default: default" not in made.program("once")[2]
    assert len(made.kelet.spans) == 7


def test_new_keys_are_not_shown_to_the_old_address(moved: tuple[World, RecordedLangfuse]) -> None:
    """Whoever has the old name now gets keys that it never had."""
    made, there = moved
    _at(made, there)
    made.environ["LANGFUSE_PUBLIC_KEY"] = "pk-lf-rotated"
    asked = len(made.langfuse.requests)
    assert made.program("once")[0] == ExitCode.USAGE
    later = made.langfuse.requests[asked:]
    assert later
    assert all("authorization" not in {name.lower() for name in one.headers} for one in later)


def test_nothing_to_compare(make_world: MakeWorld) -> None:
    """An empty project that moved stops the worker, or what was written meanwhile counts as read."""
    made = make_world([], **LONG_AGO)
    made.once()
    _gone(made)
    with RecordedLangfuse(trace(3)) as there:
        there.now = made.langfuse.now
        _at(made, there)
        report, code = made.once()
    assert (report.error, code, report.spans_sent) == (None, 0, 4)


def test_operator_says_that_it_is_the_same(moved: tuple[World, RecordedLangfuse]) -> None:
    """The command in the message does not help."""
    made, there = moved
    _at(made, there)
    code, printed = made.program_json("state", "adopt", "--source", "default")
    assert (code, printed["from_url"], printed["langfuse_url"]) == (0, made.langfuse.url, there.url)
    assert made.once()[0].spans_sent == 2
    made.environ["LANGFUSE_BASE_URL"] = made.langfuse.url
    assert made.program("once")[0] == ExitCode.USAGE  # and back is a move again


def test_operator_says_that_it_is_another_one(moved: tuple[World, RecordedLangfuse]) -> None:
    """The command in the message does not help, or mixes what was sent of both."""
    made, there = moved
    _at(made, there)
    assert made.program_json("state", "separate", "--source", "default")[0] == 0
    assert made.once()[0].spans_sent == 9
    made.environ["LANGFUSE_BASE_URL"] = made.langfuse.url
    assert made.once()[0].spans_sent == 0


def test_adopt_without_a_project_to_adopt(make_world: MakeWorld) -> None:
    """A typing error moves a project, or ends with a traceback."""
    made = make_world(trace(1), **LONG_AGO)
    made.once()
    code, _, err = made.program("state", "adopt")
    assert code == ExitCode.USAGE
    assert "cannot be taken for another one" in err


def test_move_shows_no_more_requests_in_the_idle_cycle(make_world: MakeWorld) -> None:
    """Telling projects apart costs requests in each cycle."""
    made = make_world(trace(3), **LONG_AGO)
    made.once()
    made.clock.advance(60)
    asked = made.langfuse_requests()
    made.once()
    paths = [request.path for request in made.langfuse.requests[asked:]]
    assert "/api/public/projects" not in paths
    assert "/api/public/health" not in paths
