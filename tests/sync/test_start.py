"""`SYNC_START` after the first run: what is said of it, by which command, and what is not."""

from __future__ import annotations

from sync_worker.errors import ExitCode
from tests.sync.conftest import MakeWorld

FIRST = "2026-11-20T00:00:00Z"


def test_a_changed_start_is_reported_to_have_no_effect(make_world: MakeWorld) -> None:
    """Somebody sets SYNC_START back, waits for history, and is told by nobody that none will come."""
    made = make_world([], SYNC_START=FIRST)
    assert "has no effect" not in made.program("once")[2]
    for same in (FIRST, "2026-11-20T01:00:00+01:00", ""):
        made.environ["SYNC_START"] = same
        for words in (["once"], ["check"], ["config", "show"]):
            code, out, err = made.program(*words)
            assert (code, "has no effect" in out + err) == (0, False)
    made.environ["SYNC_START"] = "60d"
    for words in (["once"], ["check"], ["config", "show"]):
        code, out, err = made.program(*words)
        (line,) = [line for line in (out + err).splitlines() if "has no effect" in line]
        assert code == ExitCode.OK
        assert "SYNC_START=60d has no effect: the first run, with SYNC_START=2026-11-20T00:00:00.000Z" in line
        assert line.endswith("Try: `backfill --from 60d --to 2026-11-20T00:00:00.000Z` for older traces")


def test_run_says_it_once(make_world: MakeWorld) -> None:
    """Each cycle of the worker that stays would say it again."""
    made = make_world([], SYNC_START="2h", SYNC_INTERVAL="100ms", SYNC_SETTLE="0s")
    assert made.program("once")[0] == 0
    made.environ["SYNC_START"] = "3h"
    with made.start("run") as process:
        seen = len(made.langfuse.requests)
        while len(made.langfuse.requests) < seen + 5 and process.poll() is None:
            pass
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.count("has no effect") == 1


def test_config_show_makes_no_state_file(make_world: MakeWorld) -> None:
    """Looking at the settings would make a state file, or fail where there is none that can be read."""
    made = make_world([])
    assert made.program("config", "show")[0] == 0
    assert not made.state.exists()
    made.state.write_text("no database at all, but long enough to be looked at\n" * 30)
    assert made.program("config", "show")[0] == 0
