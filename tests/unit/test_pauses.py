"""What an operator's pauses mean for one source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_worker.errors import PausedByOperator
from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.pauses import Pause, store_pauses
from sync_worker.pipeline.pause_check import Pauses, describe
from tests.support.clock import VirtualClock

SINCE = 1_700_000_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return a state file without pauses."""
    made = open_ledger(tmp_path / "state.db", VirtualClock(SINCE))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("paused", "stops"),
    [
        ([(None, None)], True), ([("one", None)], True), ([("other", None)], False),
        ([("one", "shop")], False), ([(None, "shop"), ("one", "main")], True),
        ([("one", "shop"), ("other", "main")], False), ([("one", "elsewhere")], False), ([], False),
    ],
)  # fmt: skip
def test_a_source_stops_where_nothing_of_it_may_be_sent(
    ledger: Ledger, paused: list[tuple[str | None, str | None]], *, stops: bool
) -> None:
    """What is paused is read or sent all the same, or the pause of one project stops the others."""
    store_pauses(ledger, [Pause(source, project, SINCE) for source, project in paused])
    pauses = Pauses(ledger, "one", ["main", "shop"])
    if stops:
        with pytest.raises(PausedByOperator):
            pauses.check()
    else:
        pauses.check()
    held = {project for source, project in paused if source != "other" and project is not None}
    assert pauses.by_project().keys() == held


@pytest.mark.parametrize(
    ("pause", "what", "resume"),
    [
        (Pause(None, None, SINCE), "my source is", "resume"),
        (Pause("my source", None, SINCE), "my source is", "resume 'my source'"),
        (Pause(None, "shop", SINCE), "my source: the Kelet project 'shop' is", "resume --project shop"),
        (
            Pause("my source", "s 1", SINCE),
            "my source: the Kelet project 's 1' is",
            "resume 'my source' --project 's 1'",
        ),
    ],
)
def test_how_a_pause_ends_is_reported(pause: Pause, what: str, resume: str) -> None:
    """The command that is named resumes something else, or is none."""
    text = describe(pause, "my source")
    assert text.startswith(f"{what} paused since 2023-11-14T22:13:20")
    assert text.endswith(f"Try: `sync-worker {resume}`")
