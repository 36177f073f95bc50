"""What remains of a user whose traces were deleted in Langfuse, and what `explain` says of them."""

from __future__ import annotations

from sync_worker.demo.rowstore import RowStore
from sync_worker.errors import ExitCode
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

LONG_AGO = {"SYNC_START": "2026-11-20T00:00:00Z"}
DAY = 86_400.0
USER, SESSION = "user-4711@example.com", "session-of-4711"


def _delete(made: World, *ids: str) -> None:
    rows: RowStore = made.langfuse.rows
    rows.remove(lambda row: ids[0] in {row["traceId"], row["id"]})


def _why(made: World, trace_id: str) -> tuple[str, bool]:
    code, out = made.program_json("explain", trace_id)
    (one,) = out["sources"]
    assert not one["in_langfuse"]
    assert code == (ExitCode.GAPS if "does not know it" in one["why"] else ExitCode.OK)
    return one["why"], one["deleted_in_langfuse"]


def test_explain_names_what_was_deleted(make_world: MakeWorld) -> None:
    """Nobody can tell from `explain` whether a trace that was deleted in Langfuse is in Kelet."""
    sent, part, judged = trace(2), trace(2, start=60.0), trace(1, start=120.0, environment="langfuse-judge")
    waits = trace(1, start=3540.0)
    waits[0]["endTime"] = None
    made = make_world([*sent, *part, *judged, *waits], **LONG_AGO)
    assert made.once()[1] == 0
    for rows in (sent, judged, waits):
        _delete(made, rows[0]["traceId"])
    _delete(made, part[1]["id"])
    assert _why(made, sent[0]["traceId"]) == (
        "it was sent, and Langfuse has deleted it since: Kelet still has it, in its project support_test", True,
    )  # fmt: skip
    rule = "SYNC_EXCLUDE_ENVIRONMENTS=langfuse-*"
    left_out = f"Langfuse has deleted it; nothing of it was sent, since it was left out by {rule}"
    assert _why(made, judged[0]["traceId"]) == (left_out, False)
    assert _why(made, waits[0]["traceId"]) == (
        "Langfuse has deleted it while it was pending; nothing of it was sent", False,
    )  # fmt: skip
    why, deleted = _why(made, "f" * 32)
    assert "the worker does not know it" in why
    assert not deleted
    out = made.program("explain", part[0]["traceId"])[1]
    assert f"observation {part[1]['id']} was sent and is no longer in Langfuse" in out


def test_the_state_file_forgets_a_user(make_world: MakeWorld) -> None:
    """Ids of a user stay in the state file, or in its log, after all of the user was forgotten."""
    made = make_world(trace(3, sessionId=SESSION, userId=USER), **LONG_AGO)
    assert made.once()[1] == 0
    held = b"".join(file.read_bytes() for file in made.folder.glob("state.db*"))
    assert USER.encode() in held
    assert SESSION.encode() in held
    made.cycles(3 * DAY, every=DAY / 4)
    held = b"".join(file.read_bytes() for file in made.folder.glob("state.db*"))
    assert USER.encode() not in held
    assert SESSION.encode() not in held
