"""Several sources in one run, projects by rule, and state that stays bounded."""

from __future__ import annotations

import json
from pathlib import Path

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.errors import ExitCode
from sync_worker.ledger import open_ledger
from tests.support import faults
from tests.support.rows import row, trace
from tests.support.state import put
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}


def _two_sources(made: World, other: RecordedLangfuse, folder: Path) -> None:
    for name in ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        del made.environ[name]
    tables = "".join(
        f"""
[[sources]]
name = "{name}"
langfuse_base_url = "{server.url}"
langfuse_public_key = "{server.public_key}"
langfuse_secret_key = "{server.secret_key}"
kelet_project = "{name}_project"
"""
        for name, server in (("first", made.langfuse), ("second", other))
    )
    (folder / "sync.toml").write_text(tables)


def test_failing_source_stops_no_other(make_world: MakeWorld, tmp_path: Path) -> None:
    """One source whose keys are refused keeps the others from being synced, or its failure goes untold."""
    rows = trace(2)
    made = make_world(trace(3), **LONG_AGO)
    with RecordedLangfuse(rows, project_id="h1-proj-b") as other:
        _two_sources(made, other, tmp_path)
        made.langfuse.script = faults.always(faults.status(401))
        code, result = made.program_json("once")
    assert code == ExitCode.CREDENTIALS
    first, second = result["sources"]
    assert "LANGFUSE_SECRET_KEY" in first["error"]
    assert (second["error"], second["spans_sent"]) == (None, 3)
    assert {span.project for span in made.kelet.spans} == {"second_project"}


def test_source_of_which_the_program_makes_no_sense_hides_no_other(make_world: MakeWorld, tmp_path: Path) -> None:
    """What nobody foresaw in one source costs the report of all others, or shows a traceback."""
    made = make_world(trace(3), **LONG_AGO)
    with RecordedLangfuse(trace(2), project_id="h1-proj-b") as other:
        _two_sources(made, other, tmp_path)
        made.program("once")
        ledger = open_ledger(made.state, made.clock)
        (first_id,) = (source.id for source in ledger.sources() if source.project_id == made.langfuse.project_id)
        put(ledger, f"source {first_id}", "page limits", "not JSON")
        ledger.close()
        other.rows.extend(trace(1, start=3700.0))
        code, out, err = made.program("once", "--json")
    assert code == ExitCode.TRANSIENT
    assert "Traceback" not in out + err
    first, second = json.loads(out)["sources"]
    assert "unexpected" in first["error"]
    assert second["error"] is None


def test_sources_do_not_share_what_was_sent(make_world: MakeWorld, tmp_path: Path) -> None:
    """Rows of one Langfuse project count as sent because another project has rows of the same ids."""
    rows = trace(2)
    made = make_world(rows, **LONG_AGO)
    with RecordedLangfuse(rows, project_id="h1-proj-b") as other:
        _two_sources(made, other, tmp_path)
        code, result = made.program_json("once")
    assert code == 0
    assert [source["spans_sent"] for source in result["sources"]] == [3, 3]


def test_one_source_of_several(make_world: MakeWorld, tmp_path: Path) -> None:
    """`--source` is not heeded, or a name that is not there is taken for all."""
    made = make_world(trace(2), **LONG_AGO)
    with RecordedLangfuse(trace(1), project_id="h1-proj-b") as other:
        _two_sources(made, other, tmp_path)
        code, result = made.program_json("once", "--source", "first")
        assert (code, [source["source"] for source in result["sources"]]) == (0, ["first"])
        assert made.program("once", "--source", "third")[0] == ExitCode.USAGE


def test_routes_decide_once_for_a_trace(make_world: MakeWorld, tmp_path: Path) -> None:
    """Traces go to the wrong project, or a trace is torn apart when a later row would match another rule."""
    staging = trace(2, environment="staging")
    tagged = trace(2, tags=["vip", "eu"])
    plain = trace(2)
    made = make_world([*staging, *tagged, *plain], **LONG_AGO)
    server = made.langfuse
    for name in ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
        del made.environ[name]
    (tmp_path / "sync.toml").write_text(
        f"""
[[sources]]
name = "one"
langfuse_base_url = "{server.url}"
langfuse_public_key = "{server.public_key}"
langfuse_secret_key = "{server.secret_key}"
[[sources.routes]]
project = "support_staging"
environment = "stag*"
[[sources.routes]]
project = "support_vip"
tags = ["vip"]
"""
    )
    made.once()
    by_trace = {span.trace_id: span.project for span in made.kelet.spans}
    assert by_trace == {
        staging[0]["traceId"]: "support_staging",
        tagged[0]["traceId"]: "support_vip",
        plain[0]["traceId"]: "support_test",
    }
    late = row(trace=plain[0]["traceId"], parent=plain[0]["id"], start=3580.0, seconds=1.0, environment="staging")
    made.langfuse.rows.add(late)
    made.clock.advance(120)
    report, _ = made.once()
    assert report.spans_sent == 1
    assert made.kelet.spans[-1].project == "support_test"


def test_batches_hold_one_project(make_world: MakeWorld) -> None:
    """A request names one project in its header and holds spans of another."""
    made = make_world([*trace(2), *trace(2)], **LONG_AGO)
    made.once()
    for request in made.kelet.trace_requests:
        assert {span.attributes["kelet.project"] for span in request.spans} == {request.headers["x-kelet-project"]}


def test_state_stays_level(make_world: MakeWorld) -> None:
    """Under a steady load the state file grows without end, or forgets what is still looked at."""
    made = make_world([], after_noon=0.0, SYNC_LATE_HORIZONS="2m,10m", SYNC_MAX_OPEN="5m")
    made.once()
    sizes, kept, sent = [], [], []
    for cycle in range(1, 61):
        for number in range(10):
            made.langfuse.rows.extend(trace(3, start=cycle * 60.0 + number - 60, seconds=2.0))
        made.clock.advance(60)
        report, code = made.once()
        assert code == 0
        sent.append(report.spans_sent)
        ledger = open_ledger(made.state, made.clock)
        kept.append(ledger.query("SELECT count(*) FROM sent")[0][0])
        ledger.close()
        sizes.append(made.state.stat().st_size)
    assert sum(sent) == len(made.kelet.spans)
    assert len(made.arrived()) >= 59 * 40
    assert max(made.arrived().values()) == 1
    assert max(kept[30:]) <= 14 * 40
    assert max(sizes[40:]) <= max(sizes[20:40]) * 1.1


def test_source_sends_by_its_own_settings(make_world: MakeWorld, tmp_path: Path) -> None:
    """What a source of sync.toml sets for itself has no effect on how it sends, or has it on all sources."""
    made = make_world(trace(5), **LONG_AGO)
    with RecordedLangfuse(trace(5), project_id="h1-proj-b") as other:
        _two_sources(made, other, tmp_path)
        with (tmp_path / "sync.toml").open("a") as stream:
            stream.write("sync_max_batch_spans = 2\n")  # of the last table, the second source
        _, result = made.program_json("once")
    first, second = result["sources"]
    assert (first["spans_sent"], first["kelet_requests"]) == (6, 1)
    assert (second["spans_sent"], second["kelet_requests"]) == (6, 3)
