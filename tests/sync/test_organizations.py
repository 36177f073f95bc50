"""Two organisations, four Langfuse projects, five Kelet projects: each source as if it were alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Request
from sync_worker.errors import ExitCode
from tests.support import faults
from tests.support.programs import Program
from tests.support.rows import Row, trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

START = {"SYNC_START": "2026-11-20T00:00:00Z", "SYNC_PATIENCE": "2s"}
#: By source: what its traces are like.
PROJECTS = {"red-web": "prod", "red-api": "staging", "blue-web": "prod", "blue-api": "prod"}


@dataclass
class Company:
    """A server for each of the four projects, since what one of them does must not be that of another."""

    made: World
    servers: dict[str, RecordedLangfuse]

    def write(self, *names: str, aliases: dict[str, str] | None = None, also: str = "") -> None:
        """Write the sources of these names; under `aliases` they have another."""
        tables = [self._table(name, (aliases or {}).get(name, name)) for name in names or self.servers]
        (self.made.folder / "sync.toml").write_text("\n".join([also, *tables]))

    def _table(self, name: str, shown: str) -> str:
        server = self.servers[name]
        return f"""
[[sources]]
name = "{shown}"
langfuse_base_url = "{server.url}"
langfuse_public_key = "{server.public_key}"
langfuse_secret_key = "{server.secret_key}"
kelet_project = "{name.partition("-")[0]}"
sync_interval = "{"1s" if name.startswith("red") else "2s"}"
[[sources.routes]]
project = "staging"
environment = "stag*"
[[sources.routes]]
project = "vip-{name.partition("-")[0]}"
tags = ["vip"]
"""

    def once(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Do a cycle of all sources."""
        code, result = self.made.program_json("once")
        return code, {one["source"]: one for one in result["sources"]}

    def rows(self, *names: str) -> list[Row]:
        """Return the rows of these projects."""
        return [row for name in names for row in self.servers[name].rows]

    def arrived_by_project(self) -> dict[str, int]:
        """Return how many spans each Kelet project got."""
        spans = self.made.kelet.spans
        return {project: sum(span.project == project for span in spans) for project in {s.project for s in spans}}


@pytest.fixture
def company(make_world: MakeWorld) -> Iterator[Company]:
    """Each project has a trace of its environment, and one of a VIP."""
    made = make_world([], **START)
    for name in ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "KELET_PROJECT"):
        del made.environ[name]
    with ExitStack() as stack:
        servers = {}
        for name, environment in PROJECTS.items():
            rows = [*trace(3, environment=environment), *trace(1, environment=environment, tags=["vip"])]
            for row in rows:
                row["projectId"] = name
            servers[name] = stack.enter_context(
                RecordedLangfuse(rows, project_id=name, organization_id=name.partition("-")[0])
            )
        yield Company(made, servers)


def _answers_after(is_time: Callable[[], bool]) -> Callable[[Request], None]:
    """Return a script of a slow server: it lists observations only once others are done, or after half a minute."""

    def script(request: Request) -> None:
        ends = time.monotonic() + 30.0
        while "observations" in request.path and not is_time() and time.monotonic() < ends:
            time.sleep(0.05)

    return script


def test_one_key_revoked_and_one_server_slow(company: Company) -> None:
    """A source that fails or hangs keeps others from being synced, or its traces end in another Kelet project."""
    company.write()
    company.servers["red-api"].script = faults.always(faults.status(401))
    company.servers["blue-api"].script = _answers_after(lambda: len(company.made.kelet.spans) >= 12)
    code, reports = company.once()
    assert code == ExitCode.CREDENTIALS
    assert {name: one["spans_sent"] for name, one in reports.items()} == {
        "red-web": 6, "red-api": 0, "blue-web": 6, "blue-api": 6
    }  # fmt: skip
    assert [name for name, one in reports.items() if one["error"]] == ["red-api"]
    first = [(span.trace_id, span.span_id) for span in company.made.kelet.spans[:12]]
    assert Counter(first) == identities(company.rows("red-web", "blue-web"))
    company.servers["red-api"].script = None
    code, reports = company.once()
    assert (code, {name: one["spans_sent"] for name, one in reports.items()}) == (
        0, {"red-web": 0, "red-api": 6, "blue-web": 0, "blue-api": 0}
    )  # fmt: skip
    assert company.made.arrived() == identities(company.rows(*PROJECTS))
    # Of each source four spans of its usual trace and two of its VIP's; all of red-api is staging.
    assert company.arrived_by_project() == {"red": 4, "vip-red": 2, "staging": 6, "blue": 8, "vip-blue": 4}
    for span in company.made.kelet.spans:
        assert span.project == span.attributes["kelet.project"] == span.resource["kelet.project"]


def test_sources_are_processed_side_by_side_however_many_hang(company: Company) -> None:
    """Four sources whose servers hang use all places, and the fifth waits for them."""
    company.made.environ["SYNC_PATIENCE"] = "10m"
    with ExitStack() as stack:
        for number in range(6):
            server = stack.enter_context(RecordedLangfuse([], project_id=f"slow-{number}"))
            server.script = faults.always(faults.slow(600.0))
            company.servers = {f"slow-{number}": server, **company.servers}
        company.write()
        with company.made.start("once") as process:
            try:
                _wait(lambda: company.made.arrived() == identities(company.rows(*PROJECTS)), process)
            finally:
                process.kill()


def _wait(until: Any, process: Program) -> None:
    ends = time.monotonic() + 60.0
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_each_source_has_its_own_schedule(company: Company) -> None:
    """All sources have the interval of one, or a source that hangs stops the cycles of the others."""
    company.write()
    company.servers["blue-api"].script = faults.always(faults.slow(600.0))
    red, blue = company.servers["red-web"], company.servers["blue-web"]
    with company.made.start("run") as process:
        try:
            _wait(lambda: len(company.made.kelet.spans) == 18, process)
            ahead, before = len(red.requests) - len(blue.requests), len(blue.requests)
            # Once a second, and once in two: with one schedule they would stay within a cycle of each other.
            _wait(lambda: len(red.requests) - len(blue.requests) >= ahead + 6 and len(blue.requests) > before, process)
        finally:
            process.kill()


def test_source_that_is_added_starts_for_itself(company: Company) -> None:
    """A new source begins where others are, or what those have is sent again."""
    company.write("red-web")
    assert company.once()[0] == 0
    company.write("red-web", "blue-web")
    code, reports = company.once()
    assert (code, {name: one["spans_sent"] for name, one in reports.items()}) == (0, {"red-web": 0, "blue-web": 6})


def test_source_that_is_removed_and_comes_back_under_another_name(company: Company) -> None:
    """What was sent is forgotten with the name, or another source is taken for it."""
    company.write()
    assert company.once()[0] == 0
    sent = company.made.arrived()
    company.write("blue-web", "blue-api")
    assert {name: one["spans_sent"] for name, one in company.once()[1].items()} == {"blue-web": 0, "blue-api": 0}
    # Two sources exchange their names, and one is back under the name of a third.
    swapped = {"blue-web": "blue-api", "blue-api": "blue-web", "red-web": "red-api"}
    company.write("blue-web", "blue-api", "red-web", aliases=swapped)
    code, reports = company.once()
    assert (code, {one["spans_sent"] for one in reports.values()}) == (0, {0})
    assert company.made.arrived() == sent


def test_new_keys_of_one_source(company: Company) -> None:
    """Keys that were replaced at the server make the project a new one, and all of it is sent again."""
    company.write()
    assert company.once()[0] == 0
    sent = company.made.arrived()
    server = company.servers["red-web"]
    server.public_key, server.secret_key = "pk-lf-replaced-red", "sk-lf-replaced-red"
    code, reports = company.once()
    assert (code, reports["red-web"]["spans_sent"]) == (ExitCode.CREDENTIALS, 0)
    company.write()
    assert company.once()[0] == 0
    assert company.made.arrived() == sent
    _, state = company.made.program_json("status")
    assert sorted(one["project_id"] for one in state["sources"]) == sorted(PROJECTS)


def test_each_source_has_its_own_start_and_quiet_period(company: Company) -> None:
    """A source is read from another one's start."""
    company.write("red-web", "blue-web")
    file: Path = company.made.folder / "sync.toml"
    text = file.read_text().replace('name = "blue-web"', 'name = "blue-web"\nsync_start = "2026-11-20T13:00:00Z"')
    file.write_text(text)
    reports = company.once()[1]
    assert {name: one["spans_sent"] for name, one in reports.items()} == {"red-web": 6, "blue-web": 0}
